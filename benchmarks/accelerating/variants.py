"""The package's step in ways that may be faster on an accelerator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from stepping.package_step import PackageStep
from stepping.subject import Subject
from torch import Tensor

from verify_pipeline.errors import ConfigError
from verify_pipeline.training.settings import LossName

WARM_UPS = 3
"""Steps before a CUDA graph is captured, as torch asks for."""

Make = Callable[[Subject, LossName, str], Callable[[], object]]
"""From network and batch, a loss, and a backend of ``torch.compile`` to a step."""


def usual(subject: Subject, loss: LossName, backend: str) -> Callable[[], object]:
    """The step as it is."""
    return PackageStep(subject, loss)


def attack_in_bfloat16(subject: Subject, loss: LossName, backend: str) -> Callable[[], object]:
    """The attack's passes under autocast. Other passes go through auto_LiRPA, not the module."""
    step = PackageStep(subject, loss)
    forward, kind = subject.module.forward, subject.images.device.type

    def narrow(x: Tensor) -> Tensor:
        with torch.autocast(kind, torch.bfloat16):
            out: Tensor = forward(x)
        return out.float()

    subject.module.forward = narrow
    return step


def compiled_attack(subject: Subject, loss: LossName, backend: str) -> Callable[[], object]:
    """The attack's network through ``torch.compile``."""
    step = PackageStep(subject, loss)
    forward = subject.module.forward
    subject.module.forward = torch.compile(forward, backend=backend)
    return step


def graphed(subject: Subject, loss: LossName, backend: str) -> Callable[[], object]:
    """The whole step as one CUDA graph."""
    return _captured(subject, PackageStep(subject, loss))


def graphed_in_bfloat16(subject: Subject, loss: LossName, backend: str) -> Callable[[], object]:
    """The same with the attack in bfloat16."""
    step = attack_in_bfloat16(subject, loss, backend)
    assert isinstance(step, PackageStep)
    return _captured(subject, step)


def _captured(subject: Subject, step: PackageStep) -> Callable[[], object]:
    device = subject.images.device
    if device.type != "cuda":
        raise ConfigError("CUDA graph", expected="a CUDA device", got=str(device))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(step.generator)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


VARIANTS: dict[str, Make] = {
    "as it is": usual,
    "attack in bfloat16": attack_in_bfloat16,
    "CUDA graph": graphed,
    "CUDA graph, attack in bfloat16": graphed_in_bfloat16,
    "attack compiled": compiled_attack,
}

"""Decides some instances of a set that have the same network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.certify.settings import Plan
from verify_pipeline.errors import NetworkError, VerifyPipelineError
from verify_pipeline.interop.answers import Decided
from verify_pipeline.interop.decide import decide
from verify_pipeline.interop.instance_list import Answer, SetInstance
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.vnnlib import read_vnnlib

Keep = Callable[[SetInstance, Decided], None]
"""Keeps an answer, and its counterexample if it has one."""


def decide_instances(
    instances: Sequence[SetInstance],
    plan: Plan,
    device: torch.device | str,
    read: Callable[[Path], Certifiable],
    keep: Keep,
) -> None:
    """Decide instances of one network, together; each answer is kept as it falls.

    A network or a property that cannot be used makes its instances unknown, with the reason.

    Args:
        instances: of one network, at least one.
        plan: stages, and the seconds of each.
        device: where bounds and attacks are computed.
        read: reads the network.
        keep: is told each answer; what it raises is raised.
    """
    try:
        network = read(instances[0].onnx)
    except VerifyPipelineError as error:
        for instance in instances:
            keep(instance, unknown(str(error)))
        return
    usable: list[tuple[SetInstance, VnnlibProperty]] = []
    for instance in instances:
        try:
            prop = read_vnnlib(instance.vnnlib)
            prop.check_fits(network.graph)
        except VerifyPipelineError as error:
            keep(instance, unknown(str(error)))
        else:
            usable.append((instance, prop))

    open_ = dict(enumerate(instance for instance, _ in usable))

    def answered(place: int, one: Decided) -> None:
        keep(open_.pop(place), one)

    properties = [prop for _, prop in usable]
    try:
        decide(network, properties, plan, device=device, answered=answered)
    except NetworkError as error:  # an error of writing a file, in contrast, ends the run
        for instance in open_.values():
            keep(instance, unknown(str(error)))


def unknown(why: str) -> Decided:
    """The answer to what was not decided."""
    return Decided(Answer.UNKNOWN, 0.0, detail=why)

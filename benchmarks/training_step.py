"""What an MTL-IBP step costs, as a multiple of the plain convolution work in it.

    python benchmarks/training_step.py [--repeats 9] [--cnn7-batch 128] [--out results]

The plain work is the convolutions and linear layers alone, run through torch on tensors of the
right shapes, without activations, normalisation, losses or an optimiser:

    clean forward · attack (forward, backward to the input) · adversarial forward ·
    centre forward · radius forward (|W|) · backward of the last three to weights and inputs

Each network is measured with images and weights in both orders in memory; a training takes the
first. Step and plain work alternate, in one process with one thread; the figure is the ratio of the
medians of processor time, which another process on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline import losses
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.network import zoo
from verify_pipeline.training.initialise import ibp_init, weight_layers
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.step import LossStep, StepPlan

ORDERS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


@dataclass(frozen=True)
class Case:
    """A network and a batch of images that it is trained with, and their order in memory."""

    network: str
    shape: tuple[int, int, int]
    batch: int
    order: str = "channels last"


class PlainWork:
    """The convolutions and linear layers of a network, each on the shape it meets there."""

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        self._layers: list[tuple[nn.Conv2d | nn.Linear, Tensor]] = []
        hooks = [layer.register_forward_hook(self._note) for layer in weight_layers(module)]
        with torch.no_grad():
            module.eval()(images)
        for hook in hooks:
            hook.remove()

    def _note(self, layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
        self._layers.append((layer, inputs[0].detach().clone()))

    @staticmethod
    def _apply(
        layer: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(x, weight, bias, layer.stride, layer.padding)
        return F.linear(x, weight, bias)

    def __call__(self) -> None:
        for place, (layer, x) in enumerate(self._layers):
            weight, bias = layer.weight, layer.bias
            with torch.no_grad():
                self._apply(layer, x, weight, bias)
            point = x.clone().requires_grad_()
            out = self._apply(layer, point, weight, bias)
            torch.autograd.grad(out, point, torch.ones_like(out))
            # the first layer's input asks for no gradient in the backward pass
            inputs = [x.clone().requires_grad_(place > 0) for _ in range(3)]
            outs = [
                self._apply(layer, inputs[0], weight, bias),
                self._apply(layer, inputs[1], weight, bias),
                self._apply(layer, inputs[2], weight.abs(), None),
            ]
            torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
            layer.zero_grad(set_to_none=True)


def full_step(module: nn.Module, case: Case, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """A whole training step after the ramp: loss, L1, backward, clipping, Adam."""
    settings = TrainSettings(
        data={"name": "mnist"},
        network={"name": case.network},
        loss={"name": "mtl-ibp", "alpha": 0.01},
        epsilon={"target": 0.1, "length": 0},
        optimiser={"l1": 1e-5},
    )
    generator = torch.Generator().manual_seed(0)
    bounder = AutoLirpaBounder(module, case.shape)
    step = LossStep(module, bounder, losses.get("mtl-ibp"), settings, generator)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-6, fused=True)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        step(images, labels, StepPlan(0.1, 0.01, 0.0)).loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 10.0)
        optimiser.step()

    return run


def measure(case: Case, repeats: int) -> tuple[float, float]:
    """Median seconds of processor time of (step, plain work)."""
    torch.manual_seed(0)
    channels = case.shape[0]
    module = zoo.build(case.network, case.shape, 10, (0.4,) * channels, (0.3,) * channels)
    ibp_init(module)
    module = module.to(memory_format=ORDERS[case.order])
    images = torch.rand(case.batch, *case.shape).contiguous(memory_format=ORDERS[case.order])
    labels = torch.randint(0, 10, (case.batch,))
    step = full_step(module, case, images, labels)
    plain = PlainWork(module, images)
    times: dict[str, list[float]] = {"step": [], "plain": []}
    for repeat in range(repeats + 2):
        for name, run in (("step", step), ("plain", plain)):
            started = time.process_time()
            run()
            if repeat >= 2:
                times[name].append(time.process_time() - started)
    return statistics.median(times["step"]), statistics.median(times["plain"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cnn7-batch", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = [
        ("conv-small", (1, 28, 28), 256),
        ("conv-medium", (3, 32, 32), 128),
        ("cnn7", (3, 32, 32), options.cnn7_batch),
    ]
    cases = [Case(*network, order) for network in networks for order in ORDERS]
    lines = [
        "# Cost of an MTL-IBP training step",
        "",
        f"Made by `python benchmarks/training_step.py --repeats {options.repeats} "
        f"--cnn7-batch {options.cnn7_batch}` (torch {torch.__version__}, one thread).",
        "",
        "| network | batch | memory | step (ms) | plain convolution work (ms) | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for case in cases:
        step, plain = measure(case, options.repeats)
        lines.append(
            f"| {case.network} | {case.batch} | {case.order} "
            f"| {step * 1e3:.1f} | {plain * 1e3:.1f} "
            f"| {step / plain:.2f} |"
        )
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "training-step.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

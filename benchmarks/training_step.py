"""What a training step costs, as a multiple of the plain convolution work in it.

    python benchmarks/training_step.py [--losses mtl-ibp,crown-ibp] [--repeats 9]
        [--cnn7-batch 128] [--out results]

The plain work is the convolutions and linear layers alone, run through torch on tensors of the
right shapes, without activations, normalisation, losses or an optimiser:

    clean forward · attack (forward, backward to the input) · adversarial forward ·
    centre forward · radius forward (|W|) · backward of the last three to weights and inputs

This is MTL-IBP; other losses have other passes, and CROWN-IBP the transposed layers for each row.

Each network is measured with images and weights in both orders in memory; a training takes the
first. Step and plain work alternate, in one process with one thread; the figure is the ratio of the
medians of processor time, which another process on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from stepping.package_step import PackageStep
from stepping.plain_work import PlainWork, Work
from stepping.subject import StepSize, Subject

from verify_pipeline import losses
from verify_pipeline.training.freed_memory import keep_freed_memory
from verify_pipeline.training.settings import AttackSettings

ORDERS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


@dataclass(frozen=True)
class Case:
    """A network and a batch of images that it is trained with, and their order in memory."""

    network: str
    shape: tuple[int, int, int]
    batch: int
    order: str = "channels last"
    loss: str = "mtl-ibp"


def measure(case: Case, repeats: int) -> tuple[float, float]:
    """Median seconds of processor time of (step, plain work)."""
    size = StepSize(
        network=case.network,
        shape=case.shape,
        batch=case.batch,
        epsilon=0.1,
        attack_factor=1.0,
        attack=AttackSettings(),
        l1=1e-5,
        alpha=0.01,
    )
    subject = Subject.made(size, torch.device("cpu"), ORDERS[case.order])
    step = PackageStep(subject, case.loss)
    plain = PlainWork(
        subject.module, subject.images, Work.of(losses.get(case.loss), 1, size.classes)
    )
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
    parser.add_argument("--losses", default="mtl-ibp", help="comma-separated")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cnn7-batch", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as a training does
    networks = [
        ("conv-small", (1, 28, 28), 256),
        ("conv-medium", (3, 32, 32), 128),
        ("cnn7", (3, 32, 32), options.cnn7_batch),
    ]
    cases = [
        Case(*network, order, loss)
        for loss in options.losses.split(",")
        for network in networks
        for order in ORDERS
    ]
    lines = [
        "# Cost of a training step",
        "",
        f"Made by `python benchmarks/training_step.py --losses {options.losses} "
        f"--repeats {options.repeats} --cnn7-batch {options.cnn7_batch}` "
        f"(torch {torch.__version__}, one thread).",
        "",
        "| loss | network | batch | memory | step (ms) | plain convolution work (ms) | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        step, plain = measure(case, options.repeats)
        lines.append(
            f"| {case.loss} | {case.network} | {case.batch} | {case.order} "
            f"| {step * 1e3:.1f} | {plain * 1e3:.1f} "
            f"| {step / plain:.2f} |"
        )
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "training-step.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""What a training step of each method costs, beside the plain convolution work that it needs.

    python benchmarks/method_steps.py [--losses ibp,taps] [--repeats 7] [--batch 64] [--out results]

A step is one after the ramp, with the methods' default settings and one step of the attack at the
inputs: loss, L1, backward, clipping, Adam. Its plain work is the convolutions and linear layers
alone, on tensors of the right shapes (`stepping/plain_work.py`): passes of the network and their
backward passes; for TAPS and STAPS the latent attack through the classifier part, on each wrong
class; for CROWN-IBP the transposed layers, for each wrong class or, with loss fusion, for one row.

Step and plain work alternate, in one process with one thread; the figures are medians of processor
time, which another process on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from stepping.package_step import PackageStep
from stepping.plain_work import PlainWork, Work, latent_work
from stepping.subject import StepSize, Subject

from verify_pipeline import losses
from verify_pipeline.training.settings import AttackSettings, TapsSettings

NETWORKS = (("conv-small", (1, 28, 28), 1.0), ("cnn7", (3, 32, 32), 0.25))
WARM_UPS = 2


@dataclass(frozen=True)
class Cost:
    """Median seconds of processor time."""

    step: float
    plain: float


def measure(subject: Subject, name: str, repeats: int) -> Cost:
    """What a step with this loss costs."""
    loss, size = losses.get(name), subject.size
    step = PackageStep(subject, name)
    module, images = subject.module, subject.images
    works = [PlainWork(module, images, Work.of(loss, size.attack.steps, size.classes))]
    if loss.needs_latent:
        works.append(latent_work(module, images, TapsSettings(), size.classes))

    def plain() -> None:
        for work in works:
            work()

    times: dict[Callable[[], object], list[float]] = {step: [], plain: []}
    for repeat in range(repeats + WARM_UPS):
        for run, seconds in times.items():
            started = time.process_time()
            run()
            if repeat >= WARM_UPS:
                seconds.append(time.process_time() - started)
    return Cost(statistics.median(times[step]), statistics.median(times[plain]))


def main() -> None:
    """Measure, print, and write method-steps.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--losses", default=",".join(losses.LOSSES), help="comma-separated")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("results"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Cost of a training step of each method",
        "",
        f"Made by `python benchmarks/method_steps.py --repeats {asked.repeats} "
        f"--batch {asked.batch}` (torch {torch.__version__}, one thread, {asked.batch} images, "
        "10 classes). *Plain work*: the step's convolutions and linear layers alone.",
        "",
        "| network | method | step (ms) | plain work (ms) | step ÷ plain work | IBP's step = 1 |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for network, shape, width in NETWORKS:
        size = StepSize(
            network=network,
            width=width,
            shape=shape,
            batch=asked.batch,
            epsilon=0.1,
            attack_factor=1.0,
            attack=AttackSettings(),
            alpha=0.2,
        )
        of_ibp = measure(_subject(size), "ibp", asked.repeats).step
        for name in asked.losses.split(","):
            cost = measure(_subject(size), name, asked.repeats)
            label = network if width == 1 else f"{network} × {width:g}"
            lines.append(
                f"| {label} | {name} | {cost.step * 1e3:.1f} | {cost.plain * 1e3:.1f} "
                f"| {cost.step / cost.plain:.2f} | {cost.step / of_ibp:.2f} |"
            )
            print(lines[-1], flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "method-steps.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _subject(size: StepSize) -> Subject:
    return Subject.made(size, torch.device("cpu"), torch.channels_last)


if __name__ == "__main__":
    main()

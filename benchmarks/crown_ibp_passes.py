"""CROWN-IBP's backward pass in a training step: this package's, auto_LiRPA's, and one fused row.

    python benchmarks/crown_ibp_passes.py [--repeats 8] [--batch 16]

Milliseconds of processor time, the least of the repeats, of one thread: forward pass, bounds, and
gradients of their sum. Ten classes, so CROWN-IBP has nine rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import chord_slopes
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box, margin_matrix

NETWORKS = (
    ("conv-small", (1, 28, 28), 1.0),
    ("cnn5", (1, 28, 28), 0.25),
    ("cnn7", (3, 32, 32), 0.125),
)


def least(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of so many runs, after one more."""
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times[1:]) * 1e3


def cases(name: str, shape: tuple[int, ...], width: float, batch: int) -> dict[str, Callable]:
    """What is measured of one network, by name."""
    torch.manual_seed(0)
    mean = (0.3,) * shape[0]
    module = zoo.build(name, shape, 10, mean, mean, width=width).to(
        memory_format=torch.channels_last  # type: ignore[call-overload]
    )
    images = torch.rand(batch, *shape).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 10
    rows, box = margin_matrix(labels, 10), Box.around(images, 0.05)
    made, lirpa = AutoLirpaBounder(module, shape), AutoLirpaBounder(module, shape)
    lirpa._backward = None

    def plain() -> None:
        F.cross_entropy(module(images), labels).backward()

    def ibp() -> None:
        made.forward(images)
        made.ibp(box, rows).sum().backward()

    def crown() -> None:
        made.forward(images)
        (made.ibp(box, rows) + made.crown_of_last_ibp(rows)).sum().backward()

    def by_lirpa() -> None:
        lirpa.forward(images)
        (lirpa.crown_ibp(box, rows) + lirpa.ibp(box, rows)).sum().backward()

    def fused() -> None:
        made.forward(images)
        lower, upper = made.ibp_interval(box, rows)
        made.crown_of_last_ibp(chord_slopes(lower, upper).unsqueeze(1) @ rows).sum().backward()

    return {
        "cross-entropy": plain,
        "IBP": ibp,
        "CROWN-IBP, auto_LiRPA's pass": by_lirpa,
        "CROWN-IBP": crown,
        "CROWN-IBP, fused": fused,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, shape, width in NETWORKS:
        print(f"{name} x {width:g}")
        for what, run in cases(name, shape, width, options.batch).items():
            print(f"    {what:30} {least(run, options.repeats):7.1f} ms", flush=True)


if __name__ == "__main__":
    main()

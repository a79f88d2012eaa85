"""What an MTL-IBP step costs with its attack in float32 and in bfloat16.

    python benchmarks/attack_precision.py [--repeats 5] [--steps 8] [--networks conv-medium]

Networks and batches of 128 images of 3 x 32 x 32 are those of ``training_step.py``, in one thread.
Steps of both kinds alternate; times are medians of processor time, which other processes on the
machine disturb least. CPUs without bfloat16 units convert, and may be slower.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch
from stepping.package_step import PackageStep
from stepping.subject import RECIPE_ATTACK, StepSize, Subject

PRECISIONS = ("float32", "bfloat16")


def measure(network: str, steps: int, repeats: int) -> dict[str, float]:
    """Median seconds of processor time of a step, by the attack's precision."""
    made = {}
    for precision in PRECISIONS:
        attack = replace(RECIPE_ATTACK, steps=steps, precision=precision)
        size = StepSize(network=network, attack=attack)
        subject = Subject.made(size, torch.device("cpu"), torch.channels_last)
        made[precision] = PackageStep(subject, "mtl-ibp")
    times: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for repeat in range(repeats + 1):
        for precision, step in made.items():
            started = time.process_time()
            step()
            if repeat:
                times[precision].append(time.process_time() - started)
    return {precision: statistics.median(each) for precision, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=RECIPE_ATTACK.steps)
    parser.add_argument("--networks", nargs="+", default=["conv-medium"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | steps of the attack | float32 (ms) | bfloat16 (ms) | ratio |")
    print("|---|---|---|---|---|")
    for network in options.networks:
        found = measure(network, options.steps, options.repeats)
        wide, narrow = (found[precision] for precision in PRECISIONS)
        print(
            f"| {network} | {options.steps} | {wide * 1e3:.0f} | {narrow * 1e3:.0f} "
            f"| {wide / narrow:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Processor seconds of a certification with some stages, in this version of the code and another.

    python benchmarks/stage_cost.py models/NAME.onnx --data cifar10 --epsilon 2/255 \
        --indices :40 --stages clean,ibp,crown --rounds 10 --against ANOTHER_CHECKOUT

Two processes certify the images in turns, so that other work disturbs both alike: the median of the
rounds' ratios is what to compare. Processor time is disturbed less by other work than wall time.
The other checkout needs no copy of this file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from verify_pipeline import api

HERE = Path(__file__).resolve()


def one_round(asked: argparse.Namespace, images: api.ImageSet) -> float:
    """Processor seconds of one certification, reading the file included."""
    settings: dict[str, Any] = {
        "epsilon": float(Fraction(asked.epsilon)),
        "stages": tuple(asked.stages.split(",")),
        "timeout": asked.timeout,
        "indices": asked.indices,
    }
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        ledger = Path(folder) / "ledger.sqlite"
        api.certify(asked.model, images, api.CertifySettings(**settings), ledger=ledger)
        return time.process_time() - began


def answer_rounds(asked: argparse.Namespace) -> None:
    """Certify once for each line of the standard input, on one thread, and print the seconds."""
    torch.set_num_threads(1)
    images = api.load_images(asked.data, "test")
    for _ in sys.stdin:
        print(f"seconds {one_round(asked, images)}", flush=True)


class Version:
    """A checkout whose process certifies when it is asked."""

    def __init__(self, checkout: Path, arguments: list[str]) -> None:
        self.checkout = checkout
        self.seconds: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, str(HERE), *arguments, "--answer"],
            env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self) -> float:
        """Let it certify once, and wait."""
        asking, answers = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answers is not None
        asking.write("\n")
        asking.flush()
        for line in answers:
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise SystemExit(f"{self.checkout}: its process ended without an answer")

    def close(self) -> None:
        """End its process."""
        self._process.communicate()


def compare(versions: list[Version], rounds: int) -> None:
    """Run rounds in turns, after one that is not counted."""
    for number in range(rounds + 1):
        for version in versions if number % 2 else reversed(versions):
            seconds = version.run()
            if number:
                version.seconds.append(seconds)
    for version in versions:
        version.close()


def main() -> None:
    """Print each version's seconds, and the ratio to the other one's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("model", type=Path)
    add("--data", required=True)
    add("--epsilon", required=True)
    add("--indices", default=":40")
    add("--stages", default="clean,ibp,crown")
    add("--timeout", type=float, default=60)
    add("--rounds", type=int, default=10)
    add("--against", type=Path, help="root of another checkout; default: only this one is measured")
    add("--answer", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.answer:
        answer_rounds(asked)
        return
    checkouts = [HERE.parents[1]] + ([asked.against.resolve()] if asked.against else [])
    versions = [Version(checkout, sys.argv[1:]) for checkout in checkouts]
    compare(versions, asked.rounds)
    for name, version in zip(("this version", "the other"), versions, strict=False):
        all_ = ", ".join(f"{each:.2f}" for each in version.seconds)
        print(f"{name}: median {statistics.median(version.seconds):.2f} s of a processor ({all_})")
    if asked.against:
        pairs = zip(versions[0].seconds, versions[1].seconds, strict=True)
        ratio = statistics.median(new / old for new, old in pairs)
        print(
            f"this version takes {ratio:.2f} of the other's time (median of {asked.rounds} pairs)"
        )


if __name__ == "__main__":
    main()

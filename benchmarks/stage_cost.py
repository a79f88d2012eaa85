"""Processor seconds of a certification with some stages: to compare two versions of the code.

    python benchmarks/stage_cost.py models/NAME.onnx --data cifar10 --epsilon 2/255 \
        --indices :40 --stages clean,ibp,crown --rounds 3

Run it with the old and the new code in turns and compare the least numbers: processor time is
disturbed less by other work than wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from verify_pipeline import api


def main() -> None:
    """Certify the images several times, on one thread, and print the seconds of each round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("model", type=Path)
    add("--data", required=True)
    add("--epsilon", required=True)
    add("--indices", default=":40")
    add("--stages", default="clean,ibp,crown")
    add("--timeout", type=float, default=60)
    add("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images = api.load_images(asked.data, "test")
    settings: dict[str, Any] = {
        "epsilon": float(Fraction(asked.epsilon)),
        "stages": tuple(asked.stages.split(",")),
        "timeout": asked.timeout,
        "indices": asked.indices,
    }
    seconds = []
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            ledger = Path(folder) / "ledger.sqlite"
            found = api.certify(asked.model, images, api.CertifySettings(**settings), ledger=ledger)
            seconds.append(time.process_time() - began)
    rounds = ", ".join(f"{each:.2f}" for each in seconds)
    print(f"{min(seconds):.2f} s of a processor at least ({rounds}): {found}")


if __name__ == "__main__":
    main()

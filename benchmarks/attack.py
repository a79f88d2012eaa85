"""How many images the attack of certification falsifies, and at what cost, by its settings.

    python benchmarks/attack.py models/NAME.onnx --data cifar10 --epsilon 2/255 --indices :400
        [--patience 40 5] [--restarts 1 2 4] [--steps 40]

Images that are classified wrongly, or that interval bounds verify, are not attacked. Seconds are
processor time of the whole certification by these three stages, in one thread.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from fractions import Fraction
from pathlib import Path

import torch

from verify_pipeline import api
from verify_pipeline.attacks.falsify import FalsifySettings
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.problem import Status

STAGES = ("clean", "ibp", "attack")
COLUMNS = ("network", "patience", "restarts", "attacked", "falsified", "seconds")


def row(asked: argparse.Namespace, path: Path, patience: int, restarts: int) -> tuple[object, ...]:
    """A row of the table: one network, one choice of settings."""
    attack = FalsifySettings(steps=asked.steps, patience=patience, restarts=restarts)
    settings = api.CertifySettings(
        epsilon=float(Fraction(asked.epsilon)), stages=STAGES, indices=asked.indices, attack=attack
    )
    images, network = api.load_images(asked.data, "test"), api.load_network(path)
    began = time.process_time()
    records = api.certify(network, images, settings).records
    seconds = time.process_time() - began
    attacked = [record for record in records if record.stage == "attack"]
    falsified = sum(record.status is Status.FALSIFIED for record in attacked)
    return path.stem, patience, restarts, len(attacked), falsified, f"{seconds:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("networks", nargs="+", type=Path)
    add("--data", required=True)
    add("--epsilon", required=True)
    add("--indices", default=":")
    add("--steps", type=int, default=40)
    add("--patience", nargs="+", type=int, default=[40, 5])
    add("--restarts", nargs="+", type=int, default=[1, 2, 4])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" + "|---:" * (len(COLUMNS) - 1) + "|")
    choices = itertools.product(asked.networks, asked.patience, asked.restarts)
    try:
        for path, patience, restarts in choices:
            cells = row(asked, path, patience, restarts)
            print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
    except VerifyPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

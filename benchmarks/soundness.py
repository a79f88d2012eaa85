"""Looks for false verdicts: every family of the battery, from one seed, into one table.

    python benchmarks/soundness.py [--seed N] [--minutes 30] [--only NAME …]
    python benchmarks/soundness.py --again FOLDER

The families are in tests/soundness/. Each takes its share of the minutes, on one core. The table
goes to soundness.md and soundness.csv in --out, false cases to folders in --false, where --again
asks them again. The exit code is 1 if any verdict was false, or if anything failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.soundness.again import ask_again  # noqa: E402
from tests.soundness.battery import Tally, least_of, run_family  # noqa: E402
from tests.soundness.contract import Answer, Family  # noqa: E402
from tests.soundness.families import FAMILIES  # noqa: E402
from tests.soundness.table import csv_text, markdown  # noqa: E402
from verify_pipeline import __version__  # noqa: E402

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "highspy")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--minutes", type=float, default=30.0, help="of one core, for all families")
    names = [family.name for family in FAMILIES]
    found.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    found.add_argument("--out", type=Path, default=ROOT / "results")
    found.add_argument("--false", type=Path, help="default: runs/soundness/seed-N")
    found.add_argument("--again", type=Path, metavar="FOLDER", help="ask a saved case again")
    return found


def run(families: Sequence[Family], seed: int, minutes: float, false_folder: Path) -> list[Tally]:
    """All families, each with its share of the time; prints how it goes."""
    whole = sum(family.share for family in families) or 1.0
    tallies = []
    for family in families:
        seconds = 60 * minutes * family.share / whole
        least = least_of(family, minutes)
        tally = run_family(family, seed, seconds, least, false_folder, told=_say)
        tallies.append(tally)
        counts = ", ".join(f"{answer.value} {n}" for answer, n in tally.answers.items())
        _say(f"{family.name}: {tally.trials} networks; {counts}; false {tally.false}")
    return tallies


def _say(line: str) -> None:
    print(line, flush=True)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def main() -> int:
    """Run, print, and write the table."""
    asked = parser().parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # numbers that overflow are part of the battery
    if asked.again is not None:
        for line in ask_again(asked.again):
            _say(line)
        return 0
    began, commit = time.perf_counter(), _commit()
    chosen = [family for family in FAMILIES if family.name in asked.only]
    folder = asked.false or ROOT / "runs" / "soundness" / f"seed-{asked.seed}"
    tallies = run(chosen, asked.seed, asked.minutes, folder)
    command = f"python benchmarks/soundness.py --seed {asked.seed} --minutes {asked.minutes:g}"
    if len(chosen) < len(FAMILIES):
        command += f" --only {' '.join(family.name for family in chosen)}"
    facts = {
        "Seed": str(asked.seed),
        "commit": commit,
        "verify_pipeline": __version__,
        **{name: version(name) for name in PACKAGES},
        "seconds": f"{time.perf_counter() - began:.0f}",
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    page = markdown(tallies, command, facts)
    (asked.out / "soundness.md").write_text(page, encoding="utf-8")
    (asked.out / "soundness.csv").write_text(csv_text(tallies), encoding="utf-8")
    bad = sum(tally.false + tally.answers[Answer.FAILED] for tally in tallies)
    _say(f"{bad} false or failed cases" + (f", in {folder}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

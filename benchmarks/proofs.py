"""Proofs of verdicts: how many, how large, and what making and checking them costs.

``python benchmarks/proofs.py --images 200 --cifar10 50 --properties 10 --sets DATA/vnncomp``

Certifies the models of this repository and instances of VNN-COMP sets, records proofs, checks them
with ``verify_checker``, and writes a table. Verdicts and proofs are kept in ``--work``; the same
command continues. One thread each.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from property_sets import SETS, unsat_instances

from verify_checker.folder import (
    CHECKED,
    REFUSED,
    REJECTED,
    Instances,
    Result,
    check_folder,
    write_results,
)
from verify_checker.instances import read_instances
from verify_pipeline import api, pipeline
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.interop.decide import property_plan
from verify_pipeline.interop.sets import SetJob
from verify_pipeline.problem import Status
from verify_pipeline.proving import Recording
from verify_pipeline.proving.properties import record_properties

MODELS = Path(__file__).resolve().parents[1] / "models"
HEAD = (
    "Verdicts of",
    "images",
    "verified",
    "proofs",
    "checked",
    "refused",
    "rejected",
    "bytes each",
    "seconds to decide",
    "to record",
    "to check",
    "check / decide",
    "10,000 images: record",
    "check",
)


@dataclass(frozen=True)
class Measured:
    """One row of the table."""

    name: str
    images: int
    verified: int
    decide: float
    recording: Recording
    results: tuple[Result, ...]
    stages: str
    of_images: bool = True

    def cells(self) -> list[str]:
        """The row, as text."""
        made = [one for one in self.recording.images if one.bytes]
        count = Counter(result.outcome for result in self.results)
        record = sum(one.seconds for one in self.recording.images)
        check = sum(result.seconds for result in self.results)
        size = sum(one.bytes for one in made) / max(len(made), 1)
        each = [seconds / max(self.images, 1) * 10_000 / 60 for seconds in (record, check)]
        return [
            f"{self.name} ({self.stages})",
            str(self.images),
            str(self.verified),
            str(len(made)),
            *(str(count[outcome]) for outcome in (CHECKED, REFUSED, REJECTED)),
            f"{size:,.0f}",
            f"{self.decide:.1f}",
            f"{record:.1f}",
            f"{check:.1f}",
            f"{check / max(self.decide, 1e-9):.2f}",
            *(f"{minutes:,.1f} min" if self.of_images else "" for minutes in each),
        ]


def measure_images(
    path: Path, data: str, epsilon: float, count: int, timeout: float, work: Path
) -> Measured:
    """Certify the first images of a test set, record and check."""
    network, images = api.load_network(path), api.load_images(data, "test")
    settings = api.CertifySettings(epsilon=epsilon, indices=f":{count}", timeout=timeout)
    place = work / path.stem
    place.mkdir(parents=True, exist_ok=True)
    summary = api.certify(network, images, settings, ledger=place / "ledger.sqlite")
    recording = pipeline.record_proofs(network, images, settings, summary, place / "proofs")
    verified = [r for r in summary.records if r.status is Status.VERIFIED]
    stages = Counter(record.stage for record in verified)
    return Measured(
        f"{path.stem}, ε = {epsilon:.4g}",
        len(summary.records),
        len(verified),
        sum(record.seconds for record in verified),
        recording,
        checked(place / "proofs"),
        ", ".join(f"{number} {stage}" for stage, number in stages.items()),
    )


def measure_set(name: str, listed: Path, count: int, timeout: float, work: Path) -> Measured:
    """Decide instances of a set until so many are unsat, record and check."""
    place = work / name
    place.mkdir(parents=True, exist_ok=True)
    job = SetJob(place / "results.csv", None, property_plan, timeout)
    chosen, unsat, results = unsat_instances(listed, count, job)
    recording = record_properties(
        unsat, results, lambda one: property_plan(timeout), place / "proofs"
    )
    decide = sum(results[one.key].seconds for one in unsat)
    found = checked(place / "proofs", read_instances(listed))
    known = len(chosen), len(unsat), decide, recording, found
    return Measured(name, *known, "properties", of_images=False)


def checked(folder: Path, instances: Instances | None = None) -> tuple[Result, ...]:
    """The checker's results on a folder, compared with a list's properties, kept beside it."""
    results = tuple(check_folder(folder, instances=instances))
    write_results(folder, results)
    return results


def page(rows: Sequence[Measured], command: str) -> str:
    """The table as Markdown, and why proofs are missing."""
    text = ["# Proofs of verdicts", ""]
    text.append(
        "Each VERIFIED image or unsat property, its proof, and what `verify_checker` says of it. "
        "One thread each. Seconds to decide are what all stages charge to the verified ones. "
        "Images are decided in batches; proofs are recorded and checked one by one. The last two "
        "columns are what 10,000 images of the same mix would take."
    )
    text += ["", f"| {' | '.join(HEAD)} |", f"|---|{'---:|' * (len(HEAD) - 1)}"]
    text += [f"| {' | '.join(row.cells())} |" for row in rows]
    reasons = [
        f"* {row.name}: {number} without a proof: {reason}"
        for row in rows
        for reason, number in Counter(o.reason for o in row.recording.images if o.reason).items()
    ]
    text += ["", *(reasons or ["No proof is missing."])]
    text += ["", f"Generated by `{command}`.", ""]
    return "\n".join(text)


def main() -> None:
    """Measure, and write the page after each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200, help="of MNIST; 0: none")
    parser.add_argument("--cifar10", type=int, default=50, help="images of CIFAR-10; 0: none")
    parser.add_argument("--properties", type=int, default=10)
    parser.add_argument("--sets", type=Path, help="folder of VNN-COMP's sets; default: none")
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--work", type=Path, default=Path("runs/proofs"))
    parser.add_argument("--out", type=Path, default=Path("results/proofs.md"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    command = " ".join(["python", "benchmarks/proofs.py", *map(_shown, sys.argv[1:])])
    rows: list[Measured] = []

    def add(row: Measured) -> None:
        rows.append(row)
        sys.stdout.write(" | ".join(row.cells()) + "\n")
        sys.stdout.flush()
        write_whole(given.out, page(rows, command))

    for path in sorted(MODELS.glob("mnist-*.onnx")) if given.images else ():
        add(measure_images(path, "mnist", 0.1, given.images, given.timeout, given.work))
    for path in sorted(MODELS.glob("cifar10-*.onnx")) if given.cifar10 else ():
        add(measure_images(path, "cifar10", 2 / 255, given.cifar10, given.timeout, given.work))
    for name, listed in SETS.items() if given.sets is not None else ():
        place = given.sets / listed
        add(measure_set(name, place, given.properties, given.timeout, given.work))


def _shown(word: str) -> str:
    """An argument as the page shows it: without the places of this machine."""
    return f"…/{Path(word).name}" if word.startswith("/") else word


if __name__ == "__main__":
    main()

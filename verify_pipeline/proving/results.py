"""What the checker said of proofs, beside the verdicts that they are of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verify_checker import Rejected, read_proof
from verify_checker.folder import CHECKED, REJECTED, RESULTS, Result, check_folder
from verify_pipeline.certify.questions import AskedQuestion
from verify_pipeline.certify.records import RunInfo
from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import DataError
from verify_pipeline.problem import Status


@dataclass(frozen=True)
class CheckedVerdicts:
    """How many VERIFIED images of a run the checker has checked."""

    info: RunInfo
    verified: int
    checked: int


def read_results(folder: Path) -> list[Result]:
    """The results that ``check-proofs`` has left in a folder.

    Raises:
        DataError: there are none, or the file is damaged.
    """
    path = folder / RESULTS
    try:
        return [Result(**each) for each in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"results of the checker in {folder}",
            expected=f"the file {RESULTS}",
            got=f"{type(error).__name__}",
            remedy=f"Check the proofs first: verify-pipeline check-proofs {folder}",
        ) from None


def checked_verdicts(summary: Summary, results: list[Result]) -> CheckedVerdicts:
    """How many of a run's VERIFIED images have a proof that was checked."""
    run = summary.info.run
    passed = {
        (about.get("index"), about.get("instance"))
        for about in (result.about for result in results if result.outcome == CHECKED)
        if (about.get("network"), about.get("perturbation"), about.get("specification"))
        == (run.network, run.perturbation, run.specification)
    }
    verified = [r for r in summary.records if r.status is Status.VERIFIED]
    checked = sum((r.index, r.instance) in passed for r in verified)
    return CheckedVerdicts(summary.info, len(verified), checked)


def check_against(
    folder: Path, network: Path, questions: list[tuple[RunInfo, AskedQuestion]], jobs: int
) -> Iterator[Result]:
    """Check the proofs of a folder, and that each is of an image's own box and rows.

    Args:
        folder: with the proofs.
        network: the file that they are about.
        questions: the runs of a ledger, asked anew of the data set's images.
        jobs: processes.
    """
    runs = {(i.run.network, i.run.perturbation, i.run.specification): a for i, a in questions}
    for result in check_folder(folder, [network], jobs):
        about = result.about
        key = about.get("network"), about.get("perturbation"), about.get("specification")
        asked = runs.get(key)  # type: ignore[arg-type]
        problem = "it is of no run of this ledger" if asked is None else ""
        if asked is not None:
            problem = _of_other_image(folder / result.file, about.get("index"), asked)
        if problem and result.outcome == CHECKED:
            yield Result(**{**vars(result), "outcome": REJECTED, "reason": problem})
        else:
            yield result


def _of_other_image(path: Path, index: object, asked: AskedQuestion) -> str:
    """Why a proof is not about the box and rows of the image that it names; empty if it is."""
    if not isinstance(index, int) or index not in asked.instances.indices:
        return "the data set holds no such image"
    try:
        proof = read_proof(path.read_bytes())
    except (Rejected, OSError) as error:
        return str(error)
    batch = asked.instances.batch([index])
    expected = (
        (proof.lower, batch.box.lower[0].flatten()),
        (proof.upper, batch.box.upper[0].flatten()),
        (proof.rows, batch.spec.rows[0]),
        (proof.offsets, batch.spec.offsets[0]),
    )
    if not proof.claims_every_row:
        return f"it claims only one of several rows of image {index}"
    if all(np.array_equal(mine, theirs.double().numpy()) for mine, theirs in expected):
        return ""
    return f"its box or its rows are not those of image {index}"

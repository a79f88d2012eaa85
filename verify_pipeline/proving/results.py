"""What the checker said of proofs, beside the verdicts that they are of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verify_checker import Proof, Rejected, read_proof
from verify_checker.folder import CHECKED, REJECTED, RESULTS, Result, check_folder
from verify_pipeline.certify.questions import AskedQuestion
from verify_pipeline.certify.records import RunInfo
from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import DataError
from verify_pipeline.problem import Status

REAL_ONLY = "for real numbers: errors of the file's evaluation are no part of a proof"
"""What proofs of verdicts as deployed say."""


@dataclass(frozen=True)
class CheckedVerdicts:
    """How many VERIFIED images of a run the checker has checked."""

    info: RunInfo
    verified: int
    checked: int

    def __str__(self) -> str:
        """One line."""
        name, run = self.info.network_name, self.info.run
        words = (
            f"{name}, {run.perturbation}: {self.checked} of {self.verified} verified images have a "
            "proof that the checker has checked"
        )
        return f"{words}, {REAL_ONLY}" if self.info.arithmetic else words


def read_results(folder: Path) -> list[Result]:
    """The results that ``check-proofs`` has left in a folder, of proofs that are still the same.

    Raises:
        DataError: there are none, or the file is damaged.
    """
    path = folder / RESULTS
    try:
        found = [Result(**each) for each in json.loads(path.read_text())]
        return [result for result in found if _sha256(folder / result.file) == result.sha256]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"results of the checker in {folder}",
            expected=f"the file {RESULTS}",
            got=f"{type(error).__name__}",
            remedy=f"Check the proofs first: verify-pipeline check-proofs {folder}",
        ) from None


def _sha256(path: Path) -> str:
    """Of a file's bytes; empty where there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


QUESTION = ("network", "data_set", "split", "perturbation", "specification")
"""What a proof says of its run, and a ledger's run of itself."""


def checked_verdicts(summary: Summary, results: list[Result]) -> CheckedVerdicts:
    """How many of a run's VERIFIED images have a proof that was checked.

    A proof counts for the image that it names. Whether its box is that image's is what
    :func:`check_against` finds with the data set at hand.
    """
    passed = {
        (about.get("index"), about.get("instance"), about.get("label"))
        for about in (result.about for result in results if result.outcome == CHECKED)
        if all(about.get(key) == getattr(summary.info.run, key) for key in QUESTION)
    }
    verified = [r for r in summary.records if r.status is Status.VERIFIED]
    checked = sum((r.index, r.instance, r.label) in passed for r in verified)
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
    runs = {tuple(getattr(info.run, key) for key in QUESTION): asked for info, asked in questions}
    for result in check_folder(folder, [network], jobs):
        try:
            proof = read_proof((folder / result.file).read_bytes())
            asked = runs.get(tuple(str(proof.about.get(key)) for key in QUESTION))
            problem = _of_other_image(proof, asked)
        except (Rejected, OSError) as error:
            problem = str(error)
        if problem and result.outcome == CHECKED:
            yield Result(**{**vars(result), "outcome": REJECTED, "reason": problem})
        else:
            yield result


def _of_other_image(proof: Proof, asked: AskedQuestion | None) -> str:
    """Why a proof is not about the box and rows of the image that it names; empty if it is."""
    if asked is None:
        return "it is of no run of this ledger"
    index = proof.about.get("index")
    if not isinstance(index, int) or index not in asked.instances.indices:
        return "the data set holds no such image"
    batch = asked.instances.batch([index])
    expected = (
        (proof.lower, batch.box.lower[0].flatten()),
        (proof.upper, batch.box.upper[0].flatten()),
        (proof.rows, batch.spec.rows[0]),
        (proof.offsets, batch.spec.offsets[0]),
    )
    if not proof.claims_every_row:
        return f"it claims only one of several rows of image {index}"
    if not all(np.array_equal(mine, theirs.double().numpy()) for mine, theirs in expected):
        return f"its box or its rows are not those of image {index}"
    names = asked.instances.digest(index), asked.instances.label(index)
    if (proof.about.get("instance"), proof.about.get("label")) != names:
        return f"its name for the instance or its label is not that of image {index}"
    return ""

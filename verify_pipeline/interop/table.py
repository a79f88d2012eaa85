"""A table of VNN-COMP sets with results and reference verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from verify_pipeline.atomic_write import write_all
from verify_pipeline.errors import DataError
from verify_pipeline.interop.instance_list import Answer, Key, read_reference
from verify_pipeline.interop.sets import REAL, Comparison, Result, compare, read_results
from verify_pipeline.markdown import markdown_code, markdown_row, markdown_text

HEADINGS = {
    "set": "Set",
    "instances": "Instances",
    "done": "Done",
    "sat": "sat",
    "unsat": "unsat",
    "timeout": "timeout",
    "unknown": "unknown",
    "known": "Known",
    "decided_of_known": "Decided of known",
    "contradictions": "Contradictions",
    "seconds": "Seconds",
}

DEPLOYED_HEADINGS = {
    "arithmetic": "Arithmetic",
    "unsat_tried": "unsat tried",
    "as_deployed": "As deployed",
}
"""Columns that a table has if some set was also decided in an arithmetic."""


@dataclass(frozen=True)
class DeployedUnsat:
    """How many of a set's unsat instances are unsat for every evaluation of their files.

    Attributes:
        arithmetic: of the evaluations.
        tried: unsat instances that have a result in the arithmetic.
        unsat: of these, how many are unsat in it.
    """

    arithmetic: str
    tried: int
    unsat: int


@dataclass(frozen=True)
class SetRow:
    """One set.

    Attributes:
        name: of its files.
        instances: that the reference lists.
        known: of these, with a verdict.
        comparison: of the results with them.
        deployed: as deployed; None: the set was not decided in an arithmetic.
    """

    name: str
    instances: int
    known: int
    comparison: Comparison
    deployed: DeployedUnsat | None = None


def read_rows(
    results: Sequence[Path], references: Path, as_deployed: Path | None = None
) -> list[SetRow]:
    """One row for each results file, compared with the file of the same name in ``references``.

    Args:
        results: files about real numbers.
        references: folder of reference verdicts.
        as_deployed: folder of results about an arithmetic, for some of the sets.

    Raises:
        DataError: a file is missing or of another form, or about an arithmetic where it may not.
    """
    rows = []
    for path in results:
        reference = read_reference(references / path.name)
        known = sum(one.answer in (Answer.SAT, Answer.UNSAT) for one in reference.values())
        found = read_results(path)
        if any(one.arithmetic for one in found.values()):
            raise DataError(
                f"results file {path}",
                expected=f"results about {REAL}",
                got="results of `vnncomp --arithmetic`",
                remedy="Name their folder with --as-deployed.",
            )
        beside = None if as_deployed is None else as_deployed / path.name
        deployed = None if beside is None or not beside.exists() else _deployed(found, beside)
        rows.append(SetRow(path.stem, len(reference), known, compare(found, reference), deployed))
    if as_deployed is not None and not any(row.deployed for row in rows):
        raise DataError(
            f"--as-deployed {as_deployed}",
            expected=f"a folder with {' or '.join(path.name for path in results)}",
            got="none of them",
        )
    return rows


def _deployed(found: Mapping[Key, Result], path: Path) -> DeployedUnsat:
    """Of the unsat instances, those that are unsat in the results about an arithmetic."""
    others = read_results(path)
    names = {one.arithmetic for one in others.values()}
    if len(names) != 1 or "" in names:
        raise DataError(
            f"results file {path}",
            expected="results of `vnncomp --arithmetic`, of one arithmetic",
            got=" and ".join(sorted(name or REAL for name in names)) or "no result",
        )
    unsat = [key for key, one in found.items() if one.answer is Answer.UNSAT]
    tried = [others[key].answer for key in unsat if key in others]
    return DeployedUnsat(names.pop(), len(tried), tried.count(Answer.UNSAT))


def as_frame(rows: Sequence[SetRow]) -> pd.DataFrame:
    """The rows with the columns of :func:`_headings`."""
    return pd.DataFrame([_cells(row) for row in rows], columns=list(_headings(rows)))


def _headings(rows: Sequence[SetRow]) -> dict[str, str]:
    """The columns' names, and as they are written."""
    return {**HEADINGS, **(DEPLOYED_HEADINGS if any(row.deployed for row in rows) else {})}


def write_rows(rows: Sequence[SetRow], out: Path, command: str) -> tuple[Path, Path]:
    """Write ``<out>.csv`` and ``<out>.md``; both name the command.

    Raises:
        DataError: there are no rows, or the place cannot be written.
    """
    if not rows:
        raise DataError(f"table {out}", expected="results", got="none")
    frame = as_frame(rows)
    csv = frame.assign(generated_by=command).to_csv(index=False, lineterminator="\n")
    headings = list(_headings(rows).values())
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    lines += [[str(cell) for cell in record] for record in frame.astype(object).to_numpy()]
    page = [markdown_row(line) for line in lines]
    page += [
        "",
        "* **Known**: instances whose reference verdict is sat or unsat; **Contradictions**: "
        "those of them that were decided otherwise.",
        "* **Done** less than **Instances**: the set was not run to its end.",
        "* **Seconds** are charged to the instances, each its share of every batch it was in.",
        *_about_deployed(rows),
        *_contradictions(rows),
        "",
        f"Generated by {markdown_code(command)}.",
        "",
    ]
    table, text = out.with_name(f"{out.name}.csv"), out.with_name(f"{out.name}.md")
    write_all({table: csv, text: "\n".join(page)})
    return table, text


def _about_deployed(rows: Sequence[SetRow]) -> list[str]:
    if not any(row.deployed for row in rows):
        return []
    return [
        "* **As deployed**: unsat instances that are unsat for every evaluation of the file in the "
        "arithmetic, of **unsat tried**, the unsat instances that were decided in it."
    ]


def _contradictions(rows: Sequence[SetRow]) -> list[str]:
    """One line for each contradiction, with both verdicts."""
    return [
        f"* Contradiction in {markdown_text(row.name)}, {markdown_code(one.key.onnx)} "
        f"{markdown_code(one.key.vnnlib)}: known as "
        f"{one.known.value}, here {one.answer.value}"
        + (" by a counterexample that onnxruntime replayed." if one.answer is Answer.SAT else ".")
        for row in rows
        for one in row.comparison.contradictions
    ]


def _cells(row: SetRow) -> dict[str, object]:
    comparison, deployed = row.comparison, row.deployed
    return {
        "set": row.name,
        "instances": row.instances,
        "done": sum(comparison.answers.values()),
        **{answer.value: comparison.answers[answer] for answer in Answer},
        "known": row.known,
        "decided_of_known": comparison.decided,
        "contradictions": len(comparison.contradictions),
        "seconds": round(comparison.seconds, 1),
        "arithmetic": "" if deployed is None else deployed.arithmetic,
        "unsat_tried": "" if deployed is None else deployed.tried,
        "as_deployed": "" if deployed is None else deployed.unsat,
    }

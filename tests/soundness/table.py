"""The battery's table, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from tests.soundness.battery import Tally
from tests.soundness.contract import Answer

COLUMNS = (Answer.VERIFIED, Answer.FALSIFIED, Answer.UNKNOWN, Answer.REFUSED, Answer.FAILED)
EXAMPLES = 30
"""Kinds of false cases that are named."""


def rows_of(tallies: Sequence[Tally]) -> list[list[str]]:
    """The head, a row for each family, and their sums."""
    head = ["family", "networks", "cases", *(one.value for one in COLUMNS), "false"]
    rows = [_row(tally.family, [tally]) for tally in tallies if not tally.missing]
    rows.append(_row("all", tallies))
    return [head, *rows]


def _row(name: str, tallies: Sequence[Tally]) -> list[str]:
    counts = [sum(t.trials for t in tallies), sum(t.cases for t in tallies)]
    counts += [sum(t.answers[answer] for t in tallies) for answer in COLUMNS]
    counts.append(sum(t.false for t in tallies))
    return [name, *map(str, counts)]


def csv_text(tallies: Sequence[Tally]) -> str:
    """The table as comma-separated values."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows_of(tallies))
    return buffer.getvalue()


def markdown(tallies: Sequence[Tally], command: str, facts: Mapping[str, str]) -> str:
    """The page of a run.

    Args:
        tallies: of all families that were asked for.
        command: that made it.
        facts: seed, commit, versions.
    """
    head, *rows = rows_of(tallies)
    lines = [
        "# The soundness battery",
        "",
        f"Made by `{command}`. [What each family does](../docs/soundness-battery.md).",
        "",
        "; ".join(f"{name} {value}" for name, value in facts.items()) + ".",
        "",
        "| " + " | ".join([*head[:-1], f"**{head[-1]}**"]) + " |",
        "|---|" + "---:|" * (len(head) - 1),
        *("| " + " | ".join([*row[:-1], f"**{row[-1]}**"]) + " |" for row in rows),
        "",
    ]
    lines += _noted(tallies)
    for tally in tallies:
        if tally.missing:
            lines += [f"{tally.family}: not asked, for want of {tally.missing}.", ""]
    return "\n".join([*lines, *_false(tallies)])


def _noted(tallies: Sequence[Tally]) -> list[str]:
    """What was counted beside the answers."""
    found = [
        f"* {tally.family}: "
        + ", ".join(f"{word} {count}" for word, count in sorted(tally.tags.items()))
        for tally in tallies
        if tally.tags
    ]
    return ["Counted beside it:", "", *found, ""] if found else []


def _false(tallies: Sequence[Tally]) -> list[str]:
    """The kinds of false cases, each with an example."""
    kinds = [(tally.family, name, lies) for tally in tallies for name, lies in tally.lies.items()]
    if not kinds:
        return []
    kinds.sort(key=lambda kind: -len(kind[2]))
    lines = ["## False", "", "| family | kind | false | for example |", "|---|---|---:|---|"]
    for family, name, lies in kinds[:EXAMPLES]:
        lines.append(f"| {family} | {name} | {len(lies)} | {lies[0]} |")
    if len(kinds) > EXAMPLES:
        rest = sum(len(lies) for _, _, lies in kinds[EXAMPLES:])
        lines.append(f"| others | {len(kinds) - EXAMPLES} kinds | {rest} | |")
    return [*lines, ""]

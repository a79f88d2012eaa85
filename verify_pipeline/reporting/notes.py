"""Notes under a table: unfinished runs, and why images are undecided."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from verify_pipeline.certify.tally import Summary
from verify_pipeline.markdown import one_line
from verify_pipeline.problem import Reason
from verify_pipeline.reporting.facts import SHOWN_DIGITS, allowed, asked_text, epsilon_text, facts


def notes(summaries: Sequence[Summary]) -> list[str]:
    """Notes on unfinished runs; none if all are finished."""
    told = [_unfinished(summary) for summary in summaries if summary.missing]
    told += [_of_unknown_extent(summary) for summary in summaries if summary.requested is None]
    replaced = sum(summary.replaced for summary in summaries)
    if replaced:
        told.append(f"Not counted: verdicts of images that were replaced since ({replaced}).")
    return told


MOST_LINES = 3
"""Runs whose undecided images are told one by one; of more, the sum is told."""


def reasons(summaries: Sequence[Summary]) -> list[str]:
    """The reasons and counts of undecided images: a line for each run, or one for many runs.

    If there are several runs, the line names its run.
    """
    open_ = [summary for summary in summaries if summary.tally.undecided]
    if len(open_) > MOST_LINES:
        total = sum((Counter(summary.tally.unknown) for summary in open_), Counter[str]())
        return [f"in {len(open_)} of {len(summaries)} runs: {_counted(total)}"]
    several = len(summaries) > 1
    return [
        f"{f'{_name(summary)}: ' if several else ''}{_counted(summary.tally.unknown)}"
        for summary in open_
    ]


def differences(summaries: Sequence[Summary]) -> list[str]:
    """Notes on what runs were allowed and tried that others were not."""
    told = []
    seconds = {allowed(summary) for summary in summaries} - {None}
    if len(seconds) > 1:
        counts = ", ".join(f"{each:g}" for each in sorted(filter(None, seconds)))
        told.append(f"Runs were allowed different seconds for an image: {counts}.")
    settings = {summary.info.run.settings: facts(summary).certification for summary in summaries}
    if len(settings) > 1:
        told.append(f"Settings of the certification differ in {_differing(settings)}.")
    return told


def _differing(settings: Mapping[str, Mapping[str, object]]) -> str:
    """What differs, with the value of each settings' digest where that is short."""
    keys = dict.fromkeys(key for each in settings.values() for key in each)
    words = []
    for key in keys:
        texts = {digest: _value(each.get(key, "none")) for digest, each in settings.items()}
        if len(set(texts.values())) == 1:
            continue
        values = "; ".join(f"{digest[:SHOWN_DIGITS]}: {text}" for digest, text in texts.items())
        words.append(f"{key} ({values})" if len(values) <= MOST_OF_VALUES else key)
    more = [f"{len(words) - MOST_SETTINGS} more"] if len(words) > MOST_SETTINGS else []
    return ", ".join([*words[:MOST_SETTINGS], *more]) or "what older ledgers do not name"


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


MOST_SETTINGS = 6
"""Settings that are named."""

MOST_OF_VALUES = 120
"""Characters that the values of a setting may take."""


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[one.name]} ({one.value})" for one in Reason if counts.get(one.name))


def _unfinished(summary: Summary) -> str:
    """A run's progress, and bounds of its accuracies, since the remaining images are unknown."""
    tally, requested = summary.tally, summary.requested or 1
    decided = tally.images - tally.undecided
    least = math.floor(10000 * tally.proved / requested) / 100
    most = math.ceil(10000 * (tally.not_broken + summary.missing) / requested) / 100
    undecided = f"{tally.undecided} undecided, " if tally.undecided else ""
    return (
        f"{_name(summary)} is not finished: {decided} of {requested} images decided, {undecided}"
        f"{summary.missing} without a verdict yet. Of all {requested}, at least {least:.2f} % are "
        f"verified, and at most {most:.2f} % can be. `certify` with the same question decides the "
        "rest; so does the command that began it, unless it is `radius`."
    )


def _of_unknown_extent(summary: Summary) -> str:
    return (
        f"{_name(summary)}: the ledger is of an older version, which did not note how many images "
        "were asked for. Percentages are of those that have a verdict; if the run was stopped, "
        "they say nothing of the others. The command that certified them notes the number."
    )


def _name(summary: Summary) -> str:
    info = summary.info
    width = epsilon_text(info.epsilon)
    box = f"ε = {width}" if width else info.run.perturbation.split("; ")[0]
    asked = asked_text(info)
    question = f"{box}, {asked}" if asked else box
    return f"{one_line(info.network_name)} ({info.run.data_set} {info.run.split}, {question})"

"""Runs about real numbers beside runs about a file's arithmetic, as one row of a table."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from verify_pipeline.certify.tally import Summary


def paired(summaries: Sequence[Summary]) -> list[Summary]:
    """The runs, each with the run that asks the same of the same images as deployed.

    A run about an arithmetic is left out where it stands beside another run: there are no other
    images, settings or questions in it. Of several arithmetics, the first run counts, and the
    others stay rows of their own.
    """
    deployed: dict[Hashable, Summary] = {}
    for summary in summaries:
        if summary.info.arithmetic:
            deployed.setdefault(_question(summary), summary)
    found: list[Summary] = []
    beside: list[Summary] = []
    for summary in summaries:
        other = None if summary.info.arithmetic else deployed.get(_question(summary))
        if other is not None:
            beside.append(other)
            summary = replace(summary, deployed=other)
        found.append(summary)
    return [summary for summary in found if not any(summary is other for other in beside)]


def as_deployed(summary: Summary) -> Summary | None:
    """The run that says which images are verified as deployed; None: there is none."""
    return summary if summary.info.arithmetic else summary.deployed


def _question(summary: Summary) -> Hashable:
    """What was asked of which images and what was tried, apart from the arithmetic."""
    run = summary.info.run
    what = replace(run, settings=summary.info.settings_of_real_numbers)
    return what, summary.asked

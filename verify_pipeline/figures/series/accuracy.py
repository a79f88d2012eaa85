"""Standard against verified accuracy: points of runs, Pareto fronts, published results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from verify_pipeline.figures.series.labels import parameter_text
from verify_pipeline.reporting.facts import facts
from verify_pipeline.reporting.literature import Published, published_for
from verify_pipeline.reporting.results import ResultRow


@dataclass(frozen=True)
class AccuracyPoint:
    """One setting of a method, trained with one seed or several. Accuracies are in %.

    Attributes:
        label: what distinguishes it from the method's other points, such as ``α = 0.2``.
        method: of the training.
        standard: mean over the seeds.
        verified: mean over the seeds.
        at_most: mean of what no stage falsified: no method can verify more.
        runs: standard and verified accuracy with each seed.
        deviations: sample standard deviations of both over the seeds; None: there is one.
    """

    label: str
    method: str
    standard: float
    verified: float
    at_most: float
    runs: tuple[tuple[float, float], ...]
    deviations: tuple[float, float] | None = None


@dataclass(frozen=True)
class AccuracyPanel:
    """Points that compare: of the same images and boxes.

    Attributes:
        title: data set, split, boxes, and what else was asked.
        points: of the runs.
        published: results of papers for the same data set and ε.
    """

    title: str
    points: tuple[AccuracyPoint, ...]
    published: tuple[Published, ...] = ()


def accuracy_panels(
    rows: Sequence[ResultRow], literature: Iterable[Published] | None = None
) -> tuple[AccuracyPanel, ...]:
    """One panel for each question that runs were asked; unfinished runs are left out.

    Args:
        rows: of a table of results, which is one for each setting.
        literature: published results, of which those for a panel's data set and ε are shown; None:
            those of this package.
    """
    panels: defaultdict[tuple[object, ...], list[ResultRow]] = defaultdict(list)
    for row in rows:
        if "verified" in row.shares:
            panels[row.question].append(row)
    return tuple(_panel(of_question, literature) for of_question in panels.values())


def pareto_front(points: Iterable[AccuracyPoint]) -> tuple[AccuracyPoint, ...]:
    """The points that no other point beats, by ascending standard accuracy.

    A point beats another if neither accuracy is lower and one is higher. Of equal points all stay.
    """
    found = list(points)
    kept = [each for each in found if not any(_beats(other, each) for other in found)]
    return tuple(sorted(kept, key=lambda each: (each.standard, -each.verified)))


def _beats(first: AccuracyPoint, second: AccuracyPoint) -> bool:
    ours, theirs = (first.standard, first.verified), (second.standard, second.verified)
    return ours != theirs and ours[0] >= theirs[0] and ours[1] >= theirs[1]


def _panel(rows: Sequence[ResultRow], literature: Iterable[Published] | None) -> AccuracyPanel:
    known = facts(rows[0].group.summaries[0])
    box = f"ε = {known.box}" if known.epsilon is not None else known.box
    title = ", ".join(word for word in (f"{known.data} {known.split}", box, known.asked) if word)
    own = () if known.asked else published_for([(known.data, known.epsilon)])
    told = (
        own
        if literature is None
        else tuple(
            row for row in literature if (row.data, row.epsilon) == (known.data, known.epsilon)
        )
    )
    return AccuracyPanel(title, tuple(_point(row) for row in rows), told)


def _point(row: ResultRow) -> AccuracyPoint:
    known = facts(row.group.summaries[0])
    standard, verified = row.shares["standard"], row.shares["verified"]
    deviations = None
    if standard.deviation is not None and verified.deviation is not None:
        deviations = standard.deviation, verified.deviation
    tallies = [summary.tally for summary in row.group.summaries]
    return AccuracyPoint(
        parameter_text(known),
        known.method or known.file,
        standard.value,
        verified.value,
        row.shares["robust_at_most"].value,
        tuple((100 * t.right / t.images, 100 * t.proved / t.images) for t in tallies),
        deviations,
    )

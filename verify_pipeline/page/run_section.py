"""What a page says of one run."""

from __future__ import annotations

from dataclasses import dataclass

from verify_pipeline.certify.tally import Summary
from verify_pipeline.figures.series.flow import StageFlow, stage_flows
from verify_pipeline.page.confusion import Confusion, confusions
from verify_pipeline.page.evidence import RunEvidence
from verify_pipeline.page.gallery import Exhibit, Gallery, exhibits
from verify_pipeline.page.image_rows import KINDS, ImageTable, image_table, kind_of
from verify_pipeline.page.numbers import isolated, percent_text, seconds_text
from verify_pipeline.page.reproduction import Reproduction, reproduction
from verify_pipeline.reporting.certification_state import images_text
from verify_pipeline.reporting.facts import facts
from verify_pipeline.reporting.notes import notes
from verify_pipeline.reporting.statistics import wilson


@dataclass(frozen=True)
class Tile:
    """A number that is read first.

    Attributes:
        name: what it is.
        value: as text.
        note: a line below it.
    """

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class FunnelRow:
    """A stage: its images, and what it cost.

    Attributes:
        flow: the counts.
        width: of its bar, in % of the first stage's.
        seconds: in all, as text.
        each: seconds for an image that it got, as text.
        cost: share of the run's seconds in %, as text.
    """

    flow: StageFlow
    width: float
    seconds: str
    each: str
    cost: str


@dataclass(frozen=True)
class RunSection:
    """Everything that stands in a run's section.

    Attributes:
        name: begins the ids of its elements.
        title: what distinguishes the run from others on the page.
        lead: a sentence on what was asked.
        warnings: why its numbers are not final; empty: they are.
        tiles: the first numbers.
        kinds: images by kind of verdict: name of the kind, its words, count.
        finished: whether shares of these images are of all that were asked for.
        reasons: why images are open, and how many.
        funnel: the stages.
        confusions: which class threatens which.
        table: all images.
        counterexamples: the first gallery.
        hardest: the second.
        open: the third.
        more: how many images of each gallery's kind there are.
        missing: sentences on what is not shown.
        reproduction: how to make it again.
    """

    name: str
    title: str
    lead: str
    warnings: tuple[str, ...]
    tiles: tuple[Tile, ...]
    kinds: tuple[tuple[str, str, int], ...]
    finished: bool
    reasons: tuple[tuple[str, int], ...]
    funnel: tuple[FunnelRow, ...]
    confusions: tuple[Confusion, ...]
    table: ImageTable
    counterexamples: tuple[Exhibit, ...]
    hardest: tuple[Exhibit, ...]
    open: tuple[Exhibit, ...]
    more: tuple[int, int, int]
    missing: tuple[str, ...]
    reproduction: Reproduction


def run_section(evidence: RunEvidence, gallery: Gallery, name: str, title: str) -> RunSection:
    """The section of a run.

    Args:
        evidence: the run.
        gallery: the images that are shown.
        name: begins the ids of its elements; unique on the page.
        title: what distinguishes it.
    """
    summary, tally = evidence.summary, evidence.summary.tally
    return RunSection(
        name=name,
        title=title,
        lead=_lead(summary),
        warnings=tuple(notes([summary])) if not summary.complete or summary.replaced else (),
        tiles=_tiles(summary),
        kinds=_kinds(summary),
        finished=not summary.missing,
        reasons=_reasons(summary),
        funnel=_funnel(summary),
        confusions=confusions(evidence),
        table=image_table(evidence),
        counterexamples=exhibits(gallery.counterexamples, evidence),
        hardest=exhibits(gallery.hardest, evidence),
        open=exhibits(gallery.open, evidence),
        more=(
            sum(tally.falsified.values()),
            sum(tally.verified.values()) + tally.tied,
            tally.undecided,
        ),
        missing=evidence.missing,
        reproduction=reproduction(evidence),
    )


def _lead(summary: Summary) -> str:
    known = facts(summary)
    trained = f", trained by {known.method}" if known.method else ""
    if known.alpha is not None:
        trained += f" with α = {known.alpha:g}"
    if known.sabr_lambda is not None:
        trained += f" with λ = {known.sabr_lambda:g}"
    count = len(summary.records)
    box = f"ε = {known.box}" if known.epsilon is not None else known.box
    asked = f", {known.asked}" if known.asked else ""
    of = f"{isolated(known.data)} ({known.split})"
    return f"{isolated(known.network)}{trained}. {images_text(count)} of {of}, {box}{asked}."


def _tiles(summary: Summary) -> tuple[Tile, ...]:
    """Percentages of a finished run, counts of one that is not."""
    tally, images = summary.tally, summary.tally.images
    seconds = Tile(
        "Time",
        f"{seconds_text(tally.seconds)} s",
        f"{seconds_text(tally.seconds / images)} s an image" if images else "",
    )
    if summary.missing or not images:
        of = summary.requested or 0
        return (
            Tile("Images with a verdict", f"{images} of {of}", "not finished"),
            Tile("Verified so far", str(tally.proved), "no accuracy before the end"),
            seconds,
        )
    return (
        Tile("Standard accuracy", *_share(tally.right, images)),
        Tile("Verified accuracy", *_share(tally.proved, images)),
        Tile(
            "Robust at most",
            f"{percent_text(tally.not_broken, images)} %",
            f"{tally.undecided} of {images_text(images)} open",
        ),
        seconds,
    )


def _share(count: int, images: int) -> tuple[str, str]:
    low, high = wilson(count, images)
    interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f}"
    return f"{percent_text(count, images)} %", interval


def _kinds(summary: Summary) -> tuple[tuple[str, str, int], ...]:
    found = [kind_of(record) for record in summary.records]
    return tuple((kind, words, found.count(kind)) for kind, words in KINDS.items() if kind in found)


def _reasons(summary: Summary) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for record in summary.records:
        if record.reason is not None:
            counts[record.reason.value] = counts.get(record.reason.value, 0) + 1
    return tuple(sorted(counts.items(), key=lambda item: -item[1]))


def _funnel(summary: Summary) -> tuple[FunnelRow, ...]:
    flows = stage_flows(summary)
    spent = sum(flow.seconds or 0.0 for flow in flows)
    most = max((flow.entered for flow in flows), default=1)
    return tuple(
        FunnelRow(
            flow,
            100 * flow.entered / most,
            seconds_text(flow.seconds),
            seconds_text(None if flow.seconds is None else flow.seconds / flow.entered),
            "–" if flow.seconds is None else percent_text(flow.seconds, spent),
        )
        for flow in flows
    )

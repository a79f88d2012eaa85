"""Figures of runs, from verdicts and metrics, with what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import DataError
from verify_pipeline.figures import descriptions as words
from verify_pipeline.figures.draw.accuracy import draw_accuracy
from verify_pipeline.figures.draw.cactus import draw_cactus
from verify_pipeline.figures.draw.epsilon import draw_epsilon
from verify_pipeline.figures.draw.margins import draw_margins
from verify_pipeline.figures.draw.stages import draw_stages
from verify_pipeline.figures.draw.training import draw_training
from verify_pipeline.figures.series.accuracy import accuracy_panels
from verify_pipeline.figures.series.cactus import cactus_curve
from verify_pipeline.figures.series.epsilon import EpsilonCurve, by_network, epsilon_curve
from verify_pipeline.figures.series.flow import stage_flows
from verify_pipeline.figures.series.labels import run_labels
from verify_pipeline.figures.series.margins import run_margins
from verify_pipeline.figures.series.training import TrainingCurves, read_metrics, training_curves
from verify_pipeline.figures.style import MISSING, Width, checked_width, has_all, styled
from verify_pipeline.reporting.literature import Published
from verify_pipeline.reporting.results import results as table_rows
from verify_pipeline.training import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with what is said about it.

    Attributes:
        figure: of matplotlib.
        title: what it is.
        description: what it shows, in numbers.
        notes: sentences on what is left out, and why.
    """

    figure: Figure
    title: str
    description: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Drawing({self.title})"


def accuracy(
    results: Sequence[Summary],
    width: Width = "column",
    literature: Iterable[Published] | None = None,
) -> Drawing:
    """The figure of ``plots.plot_accuracy``."""
    finished = [result for result in results if result.records and not result.missing]
    panels = accuracy_panels(table_rows(finished), literature)
    _need("accuracy", panels, "a finished run", _unfinished_text(results))
    unfinished = [result for result in results if not result.records or result.missing]
    left_out = _labelled(results, unfinished)
    notes = [f"Not drawn, as it is not finished: {label}." for label in left_out]
    unchecked = {row.source for p in panels for row in p.published if not row.checked}
    if unchecked:
        sources = ", ".join(sorted(unchecked))
        notes.append(f"Hollow stars were not compared with the paper's own table: {sources}.")
    names = [name for panel in panels for name in (panel.title, *(p.method for p in panel.points))]
    return Drawing(
        _drawn(lambda: draw_accuracy(panels, width), width),
        "Standard against verified accuracy",
        words.describe_accuracy(panels),
        (*notes, *_without_glyphs(names)),
    )


def epsilon(results: Sequence[Summary], width: Width = "column") -> Drawing:
    """The figure of ``plots.plot_epsilon``."""
    groups = by_network(results)
    chosen = [group for group in groups if any(run.info.epsilon and run.records for run in group)]
    known = sorted({run.info.epsilon for run in results if run.info.epsilon is not None})
    _need(
        "epsilon",
        chosen,
        "verdicts at an ε above 0",
        f"{len(groups)} networks, ε = {', '.join(f'{each:g}' for each in known) or 'none'}",
        "Certify the network with an --epsilon, or find its radii.",
    )
    labels = run_labels([group[0] for group in chosen], without=("epsilon",))
    curves = [epsilon_curve(group, label) for group, label in zip(chosen, labels, strict=True)]
    drawn = [curve for curve in curves if curve.images]
    _need("epsilon", drawn, "images that were asked for at every ε", "none")
    notes = [_of_images(curve) for curve in curves if curve.left_out]
    return Drawing(
        _drawn(lambda: draw_epsilon(drawn, width), width),
        "Certified accuracy against ε",
        words.describe_epsilon(drawn),
        (*notes, *_without_glyphs(labels)),
    )


def _of_images(curve: EpsilonCurve) -> str:
    """What a curve leaves out."""
    if not curve.images:
        return f"Not drawn, as no image was asked for at every ε: {curve.label}."
    every = curve.images + curve.left_out
    return f"Drawn of the {curve.images} of {every} images asked for at every ε: {curve.label}."


def training(runs: Sequence[Path | Trained], width: Width = "column") -> Drawing:
    """The figure of ``plots.plot_training``."""
    _need("training", runs, "a run's folder", "none")
    trainings = [_training(run) for run in runs]
    return Drawing(
        _drawn(lambda: draw_training(trainings, width), width),
        "Training curves",
        words.describe_training(trainings),
        _without_glyphs([each.label for each in trainings]),
    )


def stages(results: Sequence[Summary], width: Width = "column") -> Drawing:
    """The figure of ``plots.plot_stages``."""
    begun, notes = _begun("stages", results)
    labels = run_labels(begun)
    funnels = [(name, stage_flows(run)) for name, run in zip(labels, begun, strict=True)]
    return Drawing(
        _drawn(lambda: draw_stages(funnels, width), width),
        "Images and seconds of each stage",
        words.describe_stages(funnels),
        (*notes, *_without_glyphs(labels)),
    )


def cactus(results: Sequence[Summary], width: Width = "column") -> Drawing:
    """The figure of ``plots.plot_cactus``."""
    begun, notes = _begun("cactus", results)
    curves = [cactus_curve(run, name) for name, run in zip(run_labels(begun), begun, strict=True)]
    curves = [curve for curve in curves if curve.images]
    _need("cactus", curves, "images that are classified rightly", "none")
    return Drawing(
        _drawn(lambda: draw_cactus(curves, width), width),
        "Images decided against seconds",
        words.describe_cactus(curves),
        (*notes, *_without_glyphs([curve.label for curve in curves])),
    )


def margins(results: Sequence[Summary], width: Width = "column") -> Drawing:
    """The figure of ``plots.plot_margins``."""
    begun, notes = _begun("margins", results)
    labels = run_labels(begun)
    runs = [run_margins(run, name) for name, run in zip(labels, begun, strict=True)]
    drawn = [run for run in runs if run.all]
    _need("margins", drawn, "bounds or counterexamples", "none in the ledger")
    unbounded = [
        f"{r.label}: open images without a bound: {r.unbounded}." for r in runs if r.unbounded
    ]
    empty = [f"Not drawn, as it has no margin: {run.label}." for run in runs if not run.all]
    return Drawing(
        _drawn(lambda: draw_margins(drawn, width), width),
        "Margins of the images",
        words.describe_margins(drawn),
        (*notes, *empty, *unbounded, *_without_glyphs([run.label for run in drawn])),
    )


KINDS: Mapping[str, Callable[[Sequence[Summary], Width], Drawing]] = {
    "accuracy": accuracy,
    "epsilon": epsilon,
    "stages": stages,
    "cactus": cactus,
    "margins": margins,
}
"""Figures of verdicts, by name; :func:`training` is of metrics."""


def _drawn(draw: Callable[[], Figure], width: str) -> Figure:
    checked_width(width)
    with styled():
        return draw()


def _without_glyphs(names: Iterable[str]) -> tuple[str, ...]:
    """Notes on names that the figures' font cannot show in full."""
    return tuple(
        f"Shown with {MISSING} for characters that the figures' font does not have: {name}."
        for name in dict.fromkeys(names)
        if not has_all(name)
    )


def _begun(kind: str, results: Sequence[Summary]) -> tuple[list[Summary], tuple[str, ...]]:
    """The runs with a verdict, and notes on the others and on unfinished ones."""
    begun = [result for result in results if result.records]
    _need(kind, begun, "a run with verdicts", _unfinished_text(results))
    empty = [result for result in results if not result.records]
    partial = [result for result in begun if result.missing]
    notes = [f"Not drawn, as it has no verdict yet: {n}." for n in _labelled(results, empty)]
    notes += [
        f"Not finished, {len(run.records)} of {run.requested} images: {label}."
        for run, label in zip(partial, _labelled(results, partial), strict=True)
    ]
    return begun, tuple(notes)


def _labelled(results: Sequence[Summary], chosen: Sequence[Summary]) -> list[str]:
    labels = run_labels(results)
    return [labels[place] for place, each in enumerate(results) if any(each is c for c in chosen)]


def _unfinished_text(results: Sequence[Summary]) -> str:
    missing = sum(result.missing for result in results)
    return f"{len(results)} unfinished, {missing} images to go" if results else "none"


def _training(run: Path | Trained) -> TrainingCurves:
    if isinstance(run, Trained):
        settings = run.settings
        label = f"{settings.loss.name}, {settings.network.label}, seed {settings.seed}"
        return training_curves(run.metrics, label)
    folder = run.resolve()
    return training_curves(read_metrics(run), folder.name)


def _need(
    kind: str, things: Sequence[object], expected: str, got: str, remedy: str | None = None
) -> None:
    if not things:
        raise DataError(f"figure {kind}", expected=expected, got=got, remedy=remedy)

"""Functions that return matplotlib figures, one for each kind.

All raise ``DependencyError`` where matplotlib is not installed, ``DataError`` where there is
nothing to draw, and ``ConfigError`` for an unknown width or too many runs. What is left out is told
by a ``UserWarning``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from verify_pipeline.certify.tally import Summary
from verify_pipeline.figures import drawings
from verify_pipeline.figures.drawings import Drawing
from verify_pipeline.figures.style import Width
from verify_pipeline.reporting.literature import Published
from verify_pipeline.training import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_accuracy(
    results: Sequence[Summary],
    *,
    width: Width = "column",
    literature: Iterable[Published] | None = None,
) -> Figure:
    """Plot standard against verified accuracy: points of runs, Pareto fronts, published results.

    Runs that differ in their seed only make one point: their mean, with lines of one sample
    standard deviation. Filled points are on the front of their method. A vertical line above a
    point ends at what no stage falsified. There is a panel for each data set and ε.

    Args:
        results: runs; unfinished ones are left out.
        width: ``column`` (3.25 in) or ``page`` (6.75 in).
        literature: rows of papers, drawn where data set and ε are those of the runs; None: those of
            this package; empty: none.
    """
    return _told(drawings.accuracy(results, width, literature))


def plot_epsilon(results: Sequence[Summary], *, width: Width = "column") -> Figure:
    """Plot certified accuracy against ε: a line for each network, which begins at ε = 0.

    A verdict at one ε counts at the others as far as one box is in the other. Where images are
    undecided, a band reaches from the verified share to what no stage falsified.

    Args:
        results: runs.
        width: ``column`` (3.25 in) or ``page`` (6.75 in).
    """
    return _told(drawings.epsilon(results, width))


def plot_training(runs: Sequence[Path | Trained], *, width: Width = "column") -> Figure:
    """Plot the metrics of trainings over the epochs: accuracies, losses, ε, and α if it changes.

    Args:
        runs: folders of runs or trainings, or what ``train`` returned; at most 2 in a column, 4 on
            a page.
        width: ``column`` (3.25 in) or ``page`` (6.75 in).
    """
    return _told(drawings.training(runs, width))


def plot_stages(results: Sequence[Summary], *, width: Width = "column") -> Figure:
    """Plot the funnel of stages: the images that each gets, what it decides, and its seconds.

    Args:
        results: runs, at most 12.
        width: ``column`` (3.25 in) or ``page`` (6.75 in).
    """
    return _told(drawings.stages(results, width))


def plot_cactus(results: Sequence[Summary], *, width: Width = "column") -> Figure:
    """Plot how many images are decided within so many seconds each: a curve for each run.

    Images that are classified wrongly as they are do not count.

    Args:
        results: runs.
        width: ``column`` (3.25 in) or ``page`` (6.75 in).
    """
    return _told(drawings.cactus(results, width))


def plot_margins(results: Sequence[Summary], *, width: Width = "column") -> Figure:
    """Plot a histogram of margins: lower bounds, and margins at counterexamples.

    Bins span at least 98 % of the values; numbers at a panel's edges count the others.

    Args:
        results: runs, at most 12.
        width: ``column`` (3.25 in) or ``page`` (6.75 in).
    """
    return _told(drawings.margins(results, width))


def _told(drawing: Drawing) -> Figure:
    for note in drawing.notes:
        warnings.warn(note, UserWarning, stacklevel=3)
    return drawing.figure

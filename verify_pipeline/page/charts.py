"""The figures of a page, as SVG elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError, DataError, DependencyError
from verify_pipeline.figures import drawings
from verify_pipeline.figures.drawings import Drawing
from verify_pipeline.figures.files import inline_svg

_OF_SEVERAL = ("accuracy", "stages")
"""Figures of one run alone would repeat its tiles and the table of its stages."""


@dataclass(frozen=True)
class Chart:
    """A figure on a page.

    Attributes:
        title: what it is.
        svg: an ``<svg>`` element.
        description: what it shows, in numbers.
        notes: sentences on what is left out.
    """

    title: str
    svg: str
    description: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Charts:
    """The figures that could be drawn.

    Attributes:
        drawn: in order.
        missing: sentences on those that could not, and why.
    """

    drawn: tuple[Chart, ...]
    missing: tuple[str, ...] = ()


def charts(results: Sequence[Summary], folders: Sequence[Path]) -> Charts:
    """The figures of runs; those that have nothing to show are left out without a word.

    Args:
        results: the runs.
        folders: of their trainings, those that are known.
    """
    wanted: list[tuple[str, Callable[[], Drawing]]] = [
        (kind, lambda draw=draw: draw(results, "column"))  # type: ignore[misc]
        for kind, draw in drawings.KINDS.items()
        if len(results) > 1 or kind not in _OF_SEVERAL
    ]
    wanted += [
        (f"training-{number}", lambda folder=folder: drawings.training([folder], "column"))  # type: ignore[misc]
        for number, folder in enumerate(folders, 1)
    ]
    drawn: list[Chart] = []
    missing: list[str] = []
    for name, draw in wanted:
        try:
            drawn.append(_chart(name, draw()))
        except DataError:
            continue
        except ConfigError as error:
            missing.append(f"Figure {name} is left out: {error}")
        except DependencyError as error:
            return Charts((), (f"There are no figures, as {error}",))
    return Charts(tuple(drawn), tuple(missing))


def _chart(name: str, drawing: Drawing) -> Chart:
    svg = inline_svg(drawing.figure, f"figure-{name}", drawing.title, drawing.description)
    return Chart(drawing.title, svg, drawing.description, drawing.notes)

"""The figures of a page, as SVG elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError, DataError, DependencyError
from verify_pipeline.figures import drawings
from verify_pipeline.figures.drawings import Drawing
from verify_pipeline.figures.files import inline_svg

_Named = tuple[str, Callable[[], Drawing]]

TRAININGS = 6
"""Trainings whose curves are drawn, at most."""

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


def charts(results: Sequence[Summary], trainings: Mapping[str, Path]) -> Charts:
    """The figures of runs; those that have nothing to show are left out without a word.

    Args:
        results: the runs.
        trainings: folders by what their trainings are called.
    """
    drawn: list[Chart] = []
    missing: list[str] = []
    if len(trainings) > TRAININGS:
        missing.append(f"Training curves of the first {TRAININGS} of {len(trainings)} are shown.")
    for name, draw in (*_of_verdicts(results), *_of_trainings(trainings)):
        try:
            drawn.append(_chart(name, draw()))
        except DataError:
            continue
        except ConfigError as error:
            missing.append(
                f"Figure {name} is left out: it holds {error.expected}, not {error.got}."
            )
        except DependencyError as error:
            return Charts((), (f"There are no figures, as {error}",))
    return Charts(tuple(drawn), tuple(missing))


def _of_verdicts(results: Sequence[Summary]) -> Iterator[_Named]:
    for kind, draw in drawings.KINDS.items():
        if len(results) > 1 or kind not in _OF_SEVERAL:
            yield kind, partial(draw, results, "column")


def _of_trainings(trainings: Mapping[str, Path]) -> Iterator[_Named]:
    for number, (title, folder) in enumerate(islice(trainings.items(), TRAININGS), 1):
        yield f"training-{number}", partial(_training, folder, title)


def _training(folder: Path, title: str) -> Drawing:
    return replace(drawings.training([folder], "column"), title=f"Training curves: {title}")


def _chart(name: str, drawing: Drawing) -> Chart:
    svg = inline_svg(drawing.figure, f"figure-{name}", drawing.title, drawing.description)
    return Chart(drawing.title, svg, drawing.description, drawing.notes)

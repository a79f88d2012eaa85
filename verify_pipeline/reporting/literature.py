"""Published results, from ``literature.yaml``; citations are in ``literature.bib``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources

import yaml


@dataclass(frozen=True)
class Published:
    """One row of a paper's table.

    Attributes:
        method: as the paper calls it.
        data: the data set.
        epsilon: half-width of the L∞ balls.
        network: the architecture.
        standard: accuracy in %.
        verified: accuracy in %.
        source: the citation's key.
        checked: whether the figures were compared with the paper's own table.
    """

    method: str
    data: str
    epsilon: float
    network: str
    standard: float
    verified: float
    source: str
    checked: bool


@cache
def published() -> tuple[Published, ...]:
    """Every row, in the file's order."""
    rows = yaml.safe_load(_text("literature.yaml"))
    return tuple(Published(**{**row, "epsilon": _epsilon(row["epsilon"])}) for row in rows)


def published_for(questions: Iterable[tuple[str, float | None]]) -> tuple[Published, ...]:
    """The rows of some data sets and ε, in the file's order.

    Args:
        questions: pairs of a data set and ε; an ε that is None has no rows.
    """
    wanted = set(questions)
    return tuple(row for row in published() if (row.data, row.epsilon) in wanted)


def bibliography() -> str:
    """The citations, as BibTeX."""
    return _text("literature.bib")


def _text(name: str) -> str:
    return (resources.files("verify_pipeline") / "reporting" / name).read_text(encoding="utf-8")


def _epsilon(value: str | float) -> float:
    """ε exactly: ``2/255`` is that quotient in float64, as recipes read it."""
    if isinstance(value, str):
        fraction = Fraction(value)
        return fraction.numerator / fraction.denominator
    return float(value)

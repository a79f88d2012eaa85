"""Seconds and rates as people read them: `about 3 min`, `2 min to 1.5 h`, `at least 40 s`."""

from __future__ import annotations

from dataclasses import dataclass

_UNITS = ((86400.0, "days", 48 * 3600.0), (3600.0, "h", 90 * 60.0), (60.0, "min", 90.0))
"""Seconds of a unit, its name, and the seconds from which on it is used."""

CLOSE = 1.3
"""A range is told as one duration if its ends differ by less than this factor."""


def duration(seconds: float) -> str:
    """A duration, rounded to about two digits: ``0.4 s``, ``42 s``, ``3 min``, ``1.5 h``."""
    for unit, name, least in _UNITS:
        if seconds >= least:
            return f"{_two_digits(seconds / unit)} {name}"
    return f"{_two_digits(seconds)} s"


def _two_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 9.95 else f"{number:.1f}".removesuffix(".0")


def pace(images: float, seconds: float, unit: str = "") -> str:
    """How many things are done in a second, a minute or an hour: the first that has one.

    Args:
        images: how many were done; or steps, or anything.
        seconds: that they took, > 0.
        unit: what they are called, in front of the stroke.
    """
    each = images / seconds
    name = f" {unit}" if unit else ""
    for factor, period in ((1, "s"), (60, "min")):
        if each * factor >= 1:
            return f"{_two_digits(each * factor)}{name}/{period}"
    return f"{_two_digits(each * 3600)}{name}/h"


@dataclass(frozen=True)
class TimeRange:
    """How long something is expected to take.

    Attributes:
        low: seconds, >= 0.
        high: seconds, at least ``low``; None: there is no limit, or none that is known.
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.low <= (self.low if self.high is None else self.high):
            raise ValueError(f"expected 0 <= low <= high; got {self.low}, {self.high}")

    @property
    def text(self) -> str:
        """``about 3 min``, ``2 min to 1.5 h``, ``at least 40 s`` or ``at most 1.5 h``."""
        if self.high is None:
            return f"at least {duration(self.low)}"
        low, high = duration(self.low), duration(self.high)
        if self.high <= CLOSE * self.low or low == high:
            return f"about {high}"
        return f"{low} to {high}" if self.low > 0 else f"at most {high}"

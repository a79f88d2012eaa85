"""Settings as small frozen value objects that are checked when they are made.

A layer defines its own settings with :data:`STRICT`::

    @dataclass(frozen=True, kw_only=True, config=STRICT)      # pydantic.dataclasses.dataclass
    class Clip:
        norm: Number = 10.0

so that a recipe's YAML and the Python API go through the same checks, once written. ``Number``
reads fractions such as ``"2/255"`` exactly; no type takes ``True`` for 1.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


LARGEST_COUNT = 2**53
"""Counts and seeds up to here stay exact in float64 and in torch's 64-bit integers."""


def number(text: str) -> float:
    """The float64 number that a text such as ``2/255``, ``0.1`` or ``1e-3`` says.

    Raises:
        ValueError: it says none, or one that float64 has only infinity or zero for.
    """
    plain = text.replace(" ", "")
    numerator, slash, denominator = plain.partition("/")
    try:
        value = float(Fraction(int(numerator), int(denominator))) if slash else float(plain)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"expected a finite number, or a fraction such as 2/255, got {_short(text)}"
        )
    if value == 0 and re.match(r"[-+.0_]*[1-9]", plain):
        raise ValueError(f"expected a number that float64 can hold, got {_short(text)}")
    return value


def _short(text: str) -> str:
    return repr(text) if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]!r}…"


LONGEST_SHOWN = 40
"""Characters of a text that a message repeats."""


def _number(value: Any) -> Any:
    """A float from an int, a float, or text, see :func:`number`."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {value}")
    return number(value) if isinstance(value, str) else value


Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0)]
NonNegative = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Unit = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Share = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST_COUNT)]
PositiveCount = Annotated[int, Field(strict=True, ge=1, le=LARGEST_COUNT)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]

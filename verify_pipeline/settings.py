"""Settings as small frozen value objects that are checked when they are made.

A layer defines its own settings with :data:`STRICT`::

    @dataclass(frozen=True, kw_only=True, config=STRICT)      # pydantic.dataclasses.dataclass
    class Clip:
        norm: Number = 10.0

so that a recipe's YAML and the Python API go through the same checks, once written. ``Number``
reads fractions such as ``"2/255"`` exactly; no type takes ``True`` for 1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def _number(value: Any) -> Any:
    """A float from an int, a float, or text such as ``2/255``, ``0.1``, ``1e-3``."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {value}")
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            raise ValueError(
                f"expected a number or a fraction such as 2/255, got {value!r}"
            ) from None
    return value


Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0)]
NonNegative = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Unit = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=0)]
PositiveCount = Annotated[int, Field(strict=True, ge=1)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]

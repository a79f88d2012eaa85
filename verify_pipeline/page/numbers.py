"""Numbers as a page writes them."""

from __future__ import annotations

import math
import unicodedata

_CONTROLS = dict.fromkeys((0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
"""Characters that change the direction of a text."""


def number_text(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, and a real minus sign; a dash if there is none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "−∞" if value < 0 else "∞" if value > 0 else "not a number"
    mantissa, exponent, power = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}{exponent}{int(power) if power else ''}".replace("-", "−")


def isolated(text: str) -> str:
    """A name that leaves the order of the words around it alone, wherever it is read from right.

    It has the effect of ``<bdi>`` also where there is no markup, as in an attribute or an option.
    """
    plain = text.translate(_CONTROLS)
    if not any(unicodedata.bidirectional(each) in ("R", "AL", "AN") for each in plain):
        return plain
    return f"\N{FIRST STRONG ISOLATE}{plain}\N{POP DIRECTIONAL ISOLATE}"


def seconds_text(value: float | None) -> str:
    """Seconds with three significant digits, and none behind the point from 100 on."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}".replace(",", "\N{THIN SPACE}")
    return number_text(value, 3)


def percent_text(part: float, whole: float) -> str:
    """A share in %, with one digit behind the point; a dash of nothing."""
    return f"{100 * part / whole:.1f}" if whole else "–"


def rounded(value: float | None, digits: int = 5) -> float | None:
    """A finite number with so many significant digits, as JSON can hold it; else None."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")

"""Bytes as people read them: `312 bytes`, `4.1 MiB`, `23 GiB`."""

from __future__ import annotations

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def size_text(size: float) -> str:
    """A number of bytes, rounded to about two digits."""
    for unit, name in _UNITS:
        if size >= unit:
            number = size / unit
            return f"{number:,.0f} {name}" if number >= 9.95 else f"{number:.1f} {name}"
    return f"{size:,.0f} bytes"

"""α,β-CROWN's status texts and their meaning."""

from __future__ import annotations

import enum

LATE = " (timed out)"
"""Suffix of a status that came too late; the result still counts."""


class ToolClaim(enum.Enum):
    """The tool's claim about an instance."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    OPEN = "open"


STATUSES = {
    "safe": ToolClaim.SAFE,
    "safe-incomplete": ToolClaim.SAFE,
    "safe-incomplete-refine": ToolClaim.SAFE,
    "safe-mip": ToolClaim.SAFE,
    "safe-lp": ToolClaim.SAFE,
    "unsafe": ToolClaim.UNSAFE,
    "unsafe-pgd": ToolClaim.UNSAFE,
    "unsafe-bab": ToolClaim.UNSAFE,
    "unsafe-mip": ToolClaim.UNSAFE,
    "unsafe-lp": ToolClaim.UNSAFE,
    "unknown": ToolClaim.OPEN,
    "unknown-mip": ToolClaim.OPEN,
    "unknown-lp": ToolClaim.OPEN,
}
"""Every status of release 0.7.0."""


def read_status(text: str) -> ToolClaim:
    """The claim of a status; an unknown status claims nothing."""
    return STATUSES.get(text.removesuffix(LATE), ToolClaim.OPEN)

"""α,β-CROWN's words for what it found."""

from __future__ import annotations

import enum

LATE = " (timed out)"
"""Stands after a status that came too late; the finding counts all the same."""


class ToolClaim(enum.Enum):
    """What the tool says of an instance."""

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
    """What a status claims; one that is not known claims nothing."""
    return STATUSES.get(text.removesuffix(LATE), ToolClaim.OPEN)

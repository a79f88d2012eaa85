"""α,β-CROWN's words for what it found."""

from __future__ import annotations

import enum

LATE = " (timed out)"
"""Stands after a status that came too late; the finding counts all the same."""


class Claim(enum.Enum):
    """What the tool says of an instance."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    OPEN = "open"


STATUSES = {
    "safe": Claim.SAFE,
    "safe-incomplete": Claim.SAFE,
    "safe-incomplete-refine": Claim.SAFE,
    "safe-mip": Claim.SAFE,
    "safe-lp": Claim.SAFE,
    "unsafe": Claim.UNSAFE,
    "unsafe-pgd": Claim.UNSAFE,
    "unsafe-bab": Claim.UNSAFE,
    "unsafe-mip": Claim.UNSAFE,
    "unsafe-lp": Claim.UNSAFE,
    "unknown": Claim.OPEN,
    "unknown-mip": Claim.OPEN,
    "unknown-lp": Claim.OPEN,
}
"""Every status of release 0.7.0."""


def read_status(text: str) -> Claim:
    """What a status claims; one that is not known claims nothing."""
    return STATUSES.get(text.removesuffix(LATE), Claim.OPEN)

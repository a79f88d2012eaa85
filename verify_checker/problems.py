"""What the checker answers besides "proved": it rejects a claim, or refuses to judge."""

from __future__ import annotations


class Rejected(Exception):  # noqa: N818
    """A claim of a proof does not follow, or the proof is not what it must be."""


class Refused(Exception):  # noqa: N818
    """The checker cannot follow: an operator, a form or a size that it does not know."""


def reject(wrong: object, reason: str) -> None:
    """Reject where something is wrong."""
    if wrong:
        raise Rejected(reason)


def refuse(unknown: object, reason: str) -> None:
    """Refuse where something is not known."""
    if unknown:
        raise Refused(reason)

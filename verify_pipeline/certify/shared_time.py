"""A time budget that several instances share, such as the cases of one property."""

from __future__ import annotations


class SharedTimeBudget:
    """Seconds that instances share; what one of them does not need is the others'.

    Args:
        seconds: in all.
        instances: that share them, at least 1.
    """

    def __init__(self, seconds: float, instances: int) -> None:
        self._left = seconds
        self._inside = instances

    @property
    def share(self) -> float:
        """Seconds for each instance that has not left; 0 or less when they are used up."""
        return self._left / max(self._inside, 1)

    def pay(self, seconds: float) -> None:
        """Charge seconds to one of them, whichever."""
        self._left -= seconds

    def leave(self) -> None:
        """One of them has its verdict."""
        self._inside -= 1

    def close(self) -> None:
        """Nothing more is to be spent: what is open needs no answer any more."""
        self._left = min(self._left, 0.0)

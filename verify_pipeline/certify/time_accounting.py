"""Time by share: the seconds of all instances of a task add up to the seconds that it took."""

from __future__ import annotations

from collections.abc import Callable


class TimeShares:
    """Splits passing time equally among the instances of a task that are still in it.

    Args:
        clock: seconds from some origin.
        instances: in the task, at least 1.
    """

    def __init__(self, clock: Callable[[], float], instances: int) -> None:
        self._clock = clock
        self._inside = instances
        self._each = 0.0
        self._mark = clock()

    def so_far(self) -> float:
        """Seconds charged to each instance that is still in the task."""
        now = self._clock()
        if self._inside > 0:
            self._each += (now - self._mark) / self._inside
            self._mark = now
        return self._each

    def leave(self) -> float:
        """One instance leaves the task; its seconds."""
        seconds = self.so_far()
        self._inside -= 1
        return seconds

"""The tasks of one stage: how many instances it is given at once, and again after an exception."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from verify_pipeline.certify.failures import StageFailure
from verify_pipeline.problem import Reason


class StageTasks:
    """Cuts the open instances of a stage into tasks.

    Tasks stay smaller once memory ran out. After another exception, each half of its task is tried
    by itself, until the instances that raise it are alone.

    Args:
        indices: of the instances, in order.
        size: of a task, at most.
    """

    def __init__(self, indices: Iterable[int], size: int) -> None:
        self._waiting = deque(indices)
        self._halves: deque[Sequence[int]] = deque()
        self._size = size

    def __bool__(self) -> bool:
        return bool(self._waiting or self._halves)

    def next(self, half: bool) -> Sequence[int]:
        """The next task.

        Args:
            half: whether it has half of the waiting instances at most.
        """
        if self._halves:
            return self._halves.popleft()
        waits = len(self._waiting)
        size = min(self._size, (waits + 1) // 2 if half else waits)
        return [self._waiting.popleft() for _ in range(size)]

    def again(self, left: Sequence[int], failure: StageFailure) -> bool:
        """Take back the instances that a failure left open, if smaller tasks may do better."""
        if len(left) < 2:
            return False
        if failure.reason is Reason.MEMORY:
            self._size = len(left) // 2
            self._waiting.extendleft(reversed(left))
        elif failure.of_one:
            middle = (len(left) + 1) // 2
            self._halves.extendleft((left[middle:], left[:middle]))
        else:
            return False
        return True

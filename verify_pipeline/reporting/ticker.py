"""A thread that calls something once a second, while the caller works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

SECONDS = 1.0
"""Between two calls."""


class Ticker:
    """Calls functions once a second from a thread of its own; use it as a context manager.

    Long steps of a job tell nothing for minutes; this is how a line a minute appears all the same.

    Args:
        calls: functions; they must not raise, nor change what the job computes with.
    """

    def __init__(self, calls: Sequence[Callable[[], None]]) -> None:
        self._calls = tuple(calls)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._calls:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._calls:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SECONDS):
            for call in self._calls:
                call()

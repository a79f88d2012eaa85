"""Images of a certification that several processes share through one ledger.

Each process certifies the images that are leased to it (``leases.py``). Who comes first has all of
them; who comes later takes half of those that no task has begun. Who has nothing left waits for
the others, and takes over what a process had that has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from verify_pipeline.certify.contract import Observer, Sharing
from verify_pipeline.certify.leases import LeaseKey, Leases
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Attempt, Run
from verify_pipeline.errors import LedgerError

POLL = 0.5
"""Seconds between two looks at what other processes have done."""


class SharedImages(Sharing):
    """The open images of one certification.

    Args:
        ledger: that gets the verdicts.
        leases: of the certification, entered.
        runs: of each image, and the digest of its instance.
        before: from :meth:`attempts`, before the open images were read.
        open_: images that need work.
        timeout: seconds for each image.
        observer: is told when others are waited for, and when their images are taken over.
    """

    def __init__(
        self,
        ledger: Ledger,
        leases: Leases,
        runs: Mapping[int, tuple[Run, str]],
        before: Mapping[int, Attempt | None],
        open_: Sequence[int],
        timeout: float,
        observer: Observer,
    ) -> None:
        self._ledger, self._leases = ledger, leases
        self._runs, self._before, self._timeout = runs, before, timeout
        self._observer = observer
        numbers = {run: ledger.number_of(run) for run in {runs[index][0] for index in open_}}
        self._open = {
            index: LeaseKey(numbers[runs[index][0]], index, runs[index][1]) for index in open_
        }

    @staticmethod
    def attempts(ledger: Ledger, runs: Mapping[int, tuple[Run, str]]) -> dict[int, Attempt | None]:
        """The last attempt at each image; None: there was none."""
        tried = {run: ledger.tried(run) for run in {run for run, _ in runs.values()}}
        return {index: tried[run].get((index, digest)) for index, (run, digest) in runs.items()}

    def rounds(self) -> Iterator[list[int]]:
        """Images for this process, as often as there are some; ends once all have verdicts.

        Raises:
            LedgerError: they belong to a certification from whose callback this one was called.
        """
        waits = False
        while True:
            for index in self._done():
                del self._open[index]
            if not self._open:
                return
            wanted = list(self._open.values())
            if self._leases.are_of_callers(wanted):
                raise LedgerError(
                    f"ledger {self._ledger.path or 'in memory'}",
                    expected="images that no certification further out in this thread has begun",
                    got="a certification inside a callback of another one, of the same images",
                    remedy="Call it after the outer one has returned, or with another ledger.",
                )
            taken = self._leases.take(wanted)
            if taken.lapsed:
                self._observer.took_over(taken.lapsed, taken.ended)
            if taken.keys:
                waits = False
                yield sorted(key.image for key in taken.keys)
            else:
                if not waits:
                    self._observer.waits_for(len(wanted), self._leases.owners_of(wanted))
                waits = True
                time.sleep(POLL)

    def settled(self, index: int) -> None:
        """An image has its verdict, which is in the ledger."""
        key = self._open.pop(index, None)
        if key is not None:
            self._leases.give_back(key)

    @property
    def others(self) -> bool:
        """Whether other processes certify into the ledger."""
        return self._leases.others

    def gone(self) -> set[int]:
        """Images that others have decided or taken over."""
        held = {key.image for key in self._leases.held()}
        return self._done() | (self._runs.keys() - held)

    def begin(self, indices: Sequence[int]) -> list[int]:
        """Begin a task; see :class:`Sharing`."""
        keys = [self._open[index] for index in indices if index in self._open]
        return [key.image for key in self._leases.begin(keys)]

    def _done(self) -> set[int]:
        """Open images that another process has decided, or tried as long as this one would."""
        wanted = {index: self._runs[index] for index in self._open}
        now = self.attempts(self._ledger, wanted)
        return {index for index in wanted if self._needs_nothing(self._before[index], now[index])}

    def _needs_nothing(self, before: Attempt | None, now: Attempt | None) -> bool:
        if now is None or now.decided:
            return now is not None
        again = now.number > (0 if before is None else before.number)
        return again and not (now.late and now.timeout < self._timeout)

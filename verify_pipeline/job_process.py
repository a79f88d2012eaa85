"""A process by number, host and birth, so that others can tell whether it still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

SILENCE = 120.0
"""Seconds without a sign after which a job on another host is not believed to run."""


@dataclass(frozen=True)
class JobProcess:
    """A process of some host.

    Attributes:
        number: that the operating system gave it.
        host: its name.
        born: when it began, in the host's own units; None: the host does not tell.
    """

    number: int
    host: str
    born: str | None

    @staticmethod
    def own() -> JobProcess:
        """This process."""
        return JobProcess(os.getpid(), socket.gethostname(), _born(os.getpid()))

    @property
    def label(self) -> str:
        """For people: its number, with the host unless it is this one."""
        here = self.host == socket.gethostname()
        return f"process {self.number}" if here else f"process {self.number} on {self.host}"

    def runs(self, silent: float) -> bool:
        """Whether it runs, as far as can be told here.

        Args:
            silent: seconds since its last sign, which decide where nothing else does.
        """
        if self.host != socket.gethostname() or os.name != "posix":
            return silent < SILENCE
        try:
            os.kill(self.number, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # somebody else's process
        return self.born == _born(self.number)


def _born(number: int) -> str | None:
    """When a process began, so that another one with its number is not taken for it."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]  # field 22 of proc_pid_stat(5): the start time

"""One process of α,β-CROWN: it is started, watched, and ended with all its child processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from verify_pipeline.engines.tool import Tool
from verify_pipeline.problem import Reason

TAIL = 20_000
"""Bytes at the end of a log that are read."""

# Runs in the tool's interpreter, which then becomes the tool: it ends with who started it, even if
# that is killed (PR_SET_PDEATHSIG is 1), and has so many bytes of address space; 0: any number.
_LAUNCH = """
import ctypes, os, resource, signal, sys
memory, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if int(memory):
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
os.execv(sys.executable, [sys.executable, *command])
"""

_OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|MemoryError|CUDA out of memory|can't allocate memory|Cannot allocate memory"
    r"|std::bad_alloc|not enough memory",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Limits:
    """Limits of a process.

    Attributes:
        startup: seconds until it may be expected to work on its first instance.
        overrun: seconds that an instance may take beyond its own and a tenth of them: the tool does
            not look at the clock everywhere.
        memory: bytes of address space, on Linux; None: not limited. On CUDA, which reserves much
            more than it uses, leave it at None.
        crashes: processes in succession that may end without any answer before it is given up.
    """

    startup: float = 300.0
    overrun: float = 10.0
    memory: int | None = None
    crashes: int = 3

    def allowed(self, seconds: float) -> float:
        """Seconds after which an instance's process is ended."""
        return 1.1 * seconds + self.overrun


class Process:
    """A running tool; a context manager that leaves nothing running.

    On Linux not even when this process is killed.

    Args:
        tool: to run.
        config: its configuration file.
        folder: its working directory.
        log: gets everything that it says.
        memory: bytes of address space, or None.
    """

    def __init__(
        self, tool: Tool, config: Path, folder: Path, log: Path, memory: int | None
    ) -> None:
        run = [str(tool.script), "--config", str(config.absolute())]
        if sys.platform == "linux":
            run = ["-c", _LAUNCH, str(memory or 0), *run]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [str(tool.python), *run],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def exit_status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it and every process of its group, at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def why_it_ended(status: int, log: Path) -> tuple[Reason, str]:
    """The reason for an unexpected end of a process, and a line about it.

    Args:
        status: its exit status.
        log: what it said.
    """
    said = _tail(log)
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    if status == -signal.SIGKILL or _OUT_OF_MEMORY.search(said):
        return Reason.MEMORY, f"out of memory: {last[:200]}"
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return Reason.ERROR, f"{how}: {last[:200]}"


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""

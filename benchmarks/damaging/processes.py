"""Commands of the package in processes of their own, under conditions that damage them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

Condition = Callable[[], None]
"""What a process does before its command, such as lowering a limit."""

LAST_BYTES = 1 << 20
"""Memory that a process still gets once it is to run out."""

LONGEST = 60.0
"""Seconds after which a command that nobody was to kill is taken for one that hangs."""

PATIENCE = 20.0
"""Seconds that processes may take to end after the one that started them is gone."""

HUNG = 1000
"""The exit code that stands for such a command."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative: the signal that ended it.
        error: what it wrote on standard error.
        seconds: how long it ran.
    """

    code: int
    error: str
    seconds: float

    @property
    def is_clear(self) -> bool:
        """Whether it is done, or told one error without a traceback."""
        if self.code == 0:
            return True
        told = [line for line in self.error.splitlines() if line.startswith("error: ")]
        return self.code == 2 and len(told) == 1 and "Traceback" not in self.error


def start(
    arguments: Sequence[str], log: Path, condition: Condition | None = None
) -> ForkServerProcess:
    """Start a command; its standard error goes to a file."""
    log.write_bytes(b"")
    _begun(log).unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["damaging.preloaded"])
    process = context.Process(target=_work, args=(tuple(arguments), log, condition))
    process.start()
    return process


def run(
    arguments: Sequence[str],
    log: Path,
    condition: Condition | None = None,
    *,
    kill_after: float | None = None,
    squeeze_after: float | None = None,
) -> Ended:
    """Run a command to its end.

    Args:
        arguments: as they are typed behind ``verify-pipeline``.
        log: file for its standard error.
        condition: what its process does first.
        kill_after: seconds until it gets SIGKILL; None: after :data:`LONGEST`.
        squeeze_after: seconds of the command itself until it gets no more memory; None: never.
    """
    began = time.monotonic()
    process = start(arguments, log, condition)
    if squeeze_after is not None:
        while process.is_alive() and not _begun(log).exists():
            time.sleep(0.01)
        process.join(squeeze_after)
        _squeeze(process)
    process.join(LONGEST if kill_after is None else kill_after)
    process.kill()
    process.join()
    code = process.exitcode
    assert code is not None
    if code == -signal.SIGKILL and kill_after is None:
        code = HUNG
    error = log.read_text(encoding="utf-8", errors="replace")
    return Ended(code, error, time.monotonic() - began)


def kill_with_children(process: ForkServerProcess) -> list[int]:
    """Kill a process, and wait until those that it has started end by themselves.

    Returns:
        Its children that are still there after :data:`PATIENCE`; they are killed, too.
    """
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGSTOP)  # it starts no further ones
    children = _children(process.pid)
    process.kill()
    process.join()
    until = time.monotonic() + PATIENCE
    while (left := [child for child in children if _is_alive(child)]) and time.monotonic() < until:
        time.sleep(0.05)
    for child in left:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return left


def _children(parent: int) -> list[int]:
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if _stat(path)[1:2] == [str(parent)]
    ]


def _is_alive(number: int) -> bool:
    return _stat(Path(f"/proc/{number}/stat"))[:1] not in ([], ["Z"], ["X"])


def _stat(path: Path) -> list[str]:
    """The fields of proc_pid_stat(5) behind the name: state, parent, …; none: it is gone."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _squeeze(process: ForkServerProcess) -> None:
    """Leave a process the memory that it has, and :data:`LAST_BYTES`."""
    if process.pid is None or process.exitcode is not None:
        return
    with suppress(OSError):
        text = Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii")
        limit = int(text.split()[0]) * resource.getpagesize() + LAST_BYTES
        hard = resource.prlimit(process.pid, resource.RLIMIT_AS)[1]
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, hard))


def warm_up(log: Path) -> None:
    """Start the server that forks the commands; without it, each imports everything itself."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # the server's own
    try:
        run(("--version",), log)
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def small_files(size: int) -> Condition:
    """No file grows beyond ``size`` bytes, as on a disk that is full."""
    return partial(_limit, resource.RLIMIT_FSIZE, size)


def clock_goes_back() -> None:
    """Every reading of the wall clock is an hour before the last one."""
    now = time.time()

    def back() -> float:
        nonlocal now
        now -= 3600.0
        return now

    time.time = back


def _limit(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _work(arguments: tuple[str, ...], log: Path, condition: Condition | None) -> None:
    sys.argv = ["verify-pipeline", *arguments]
    for stream, path in ((1, Path(os.devnull)), (2, log)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    from verify_pipeline.cli.app import main

    _begun(log).touch()
    if condition is not None:
        condition()
    main()


def _begun(log: Path) -> Path:
    """A file that is there once the command begins, behind all imports of this module."""
    return log.with_suffix(".begun")

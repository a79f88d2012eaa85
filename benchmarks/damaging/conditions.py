"""Commands on full disks, in read-only folders, with little memory, and with a clock going back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from damaging.jobs import Job, Prepared
from damaging.processes import (
    HUNG,
    Condition,
    Ended,
    clock_goes_back,
    run,
    small_files,
)

FILE_SIZES = tuple(size << 10 for size in (4, 8, 16, 32, 64, 96, 128, 192, 256, 512))
"""Limits of a file, in bytes, up to what the jobs write; below, no error could be told."""

DISK_SIZES = tuple(size << 10 for size in (4, 16, 32, 64, 96, 128, 256, 512))
"""Sizes of a disk, in bytes."""


@dataclass
class Tries:
    """What came of a job under one kind of condition.

    Attributes:
        job: what it was.
        condition: for people.
        tries: how often.
        done: of these, commands that ended with code 0.
        refused: commands that told one error.
        signals: commands that a signal ended, as where memory runs out outside of Python.
        hung: commands that did not end, such as one whose thread got no memory to begin with.
        unclear: of other ends, such as a traceback, what the command said last.
        equal: tries after which the same command ended with the undisturbed result.
    """

    job: str
    condition: str
    tries: int = 0
    done: int = 0
    refused: int = 0
    signals: int = 0
    hung: int = 0
    unclear: list[str] = field(default_factory=list)
    equal: int = 0

    def count(self, ended: Ended, equal: bool) -> None:
        """Add one try."""
        self.tries += 1
        self.done += ended.code == 0
        self.refused += ended.code == 2 and ended.is_clear
        self.signals += ended.code < 0
        self.hung += ended.code == HUNG
        if ended.code > 0 and ended.code != HUNG and not ended.is_clear:
            self.unclear.append((ended.error.strip().splitlines() or ["nothing"])[-1])
        self.equal += equal


def full_files(prepared: Prepared, job: Job, place: Path, sizes: Iterable[int]) -> Tries:
    """No file may grow beyond a size."""
    conditions = (small_files(size) for size in sizes)
    return _under(prepared, job, place, "files that cannot grow", conditions)


def little_room(prepared: Prepared, job: Job, place: Path, moments: Iterable[float]) -> Tries:
    """Memory ends after shares of the job; ``--retry`` then tries what stayed undecided."""
    found = Tries(job.name, "memory runs out")
    more = ("--retry",) if job is prepared.certification else ()
    for number, moment in enumerate(moments):
        folder = place / f"{job.name}-{number}"
        seconds = moment * prepared.seconds[job.name]
        ended = run(job.command(folder), prepared.log, squeeze_after=seconds)
        found.count(ended, prepared.ends_as_undisturbed(job, folder, *more))
        shutil.rmtree(folder)
    return found


def backward_clock(prepared: Prepared, job: Job, place: Path, rounds: int) -> Tries:
    """The wall clock goes back an hour each time that it is read."""
    conditions = (clock_goes_back for _ in range(rounds))
    return _under(prepared, job, place, "the clock goes back", conditions)


def _under(
    prepared: Prepared,
    job: Job,
    place: Path,
    name: str,
    conditions: Iterable[Condition],
) -> Tries:
    found = Tries(job.name, name)
    for number, condition in enumerate(conditions):
        folder = place / f"{job.name}-{number}"
        ended = run(job.command(folder), prepared.log, condition)
        found.count(ended, prepared.ends_as_undisturbed(job, folder))
        shutil.rmtree(folder)
    return found


def full_disks(prepared: Prepared, job: Job, place: Path, sizes: Iterable[int]) -> Tries:
    """The folder is on a disk of a size, which grows afterwards."""
    found = Tries(job.name, "a disk that is full")
    for size in sizes:
        with disk(place / "disk", f"size={size}") as mounted:
            ended = run(job.command(mounted / "out"), prepared.log)
            _mount("-o", "remount,size=64M", str(mounted))
            found.count(ended, prepared.ends_as_undisturbed(job, mounted / "out"))
    return found


def read_only_folders(prepared: Prepared, job: Job, place: Path) -> Tries:
    """The folder cannot be written: before anything is there, and in the middle of the job."""
    found = Tries(job.name, "a folder that is read-only")
    for part in (0.0, 0.6):
        with _folder_that_can_be_locked(place) as (folder, lock, unlock):
            if part:
                run(job.command(folder), prepared.log, kill_after=part * prepared.seconds[job.name])
            else:
                folder.mkdir()
            before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            lock()
            ended = run(job.command(folder), prepared.log)
            after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            unlock()
            same = before == after and prepared.ends_as_undisturbed(job, folder)
            found.count(ended, same)
    return found


def can_mount() -> bool:
    """Whether this process may mount disks in memory."""
    return os.name == "posix" and os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def disk(place: Path, options: str) -> Iterator[Path]:
    """A disk in memory."""
    place.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


@contextmanager
def _folder_that_can_be_locked(
    place: Path,
) -> Iterator[tuple[Path, Condition, Condition]]:
    """A folder, and what makes it read-only and writable; root is stopped by a mount only."""
    if can_mount():
        with disk(place / "disk", "size=64M") as mounted:
            yield (
                mounted / "out",
                lambda: _mount("-o", "remount,ro", str(mounted)),
                lambda: _mount("-o", "remount,rw", str(mounted)),
            )
        return
    folder = place / "locked"

    def mode(bits: int) -> None:
        for path in (folder, *folder.rglob("*")):
            path.chmod(bits | (0o111 if path.is_dir() else 0))

    yield folder, lambda: mode(0o444), lambda: mode(0o644)
    shutil.rmtree(folder)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)

"""What this machine has: memory, cores, room on a disk; and what this process takes of it."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from verify_pipeline.errors import LedgerError

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may take."""


@dataclass(frozen=True)
class Capacity:
    """Memory and cores.

    Attributes:
        memory: bytes that processes may take, all together; None: not known.
        free: of these, what is not taken now; None: not known.
        cores: that this process may use.
        threads: of torch in this process.
    """

    memory: int | None
    free: int | None
    cores: int
    threads: int

    @staticmethod
    def this() -> Capacity:
        """The machine that this process runs on."""
        cores = os.cpu_count() or 1
        with suppress(AttributeError):  # only Linux limits a process to some cores
            cores = len(os.sched_getaffinity(0))
        return Capacity(_memory(), _free(), cores, torch.get_num_threads())

    def fits(self, each: int) -> int | None:
        """How many processes fit that take so many bytes each; None: not known."""
        return None if self.memory is None else self.memory // max(each, 1)


def resident_bytes() -> int:
    """What this process holds in memory now; at most that, where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_bytes()
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """The most that this process has held in memory so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def accelerator_bytes(device: torch.device) -> int | None:
    """The most that tensors have taken on an accelerator so far; None: the device is none."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def room_beside(path: Path) -> int:
    """Free bytes where a file at ``path`` is written.

    Raises:
        LedgerError: its folder cannot be made or written.
    """
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        got = f"{folder}, which is no folder that can be written"
        raise LedgerError(f"ledger {path}", expected="a place that can be written", got=got)
    return shutil.disk_usage(folder).free


def _memory() -> int | None:
    known = []
    with suppress(OSError, ValueError, AttributeError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for place in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max": no limit
            known.append(int(Path(place).read_text(encoding="ascii")))
    return min(known, default=None)


def _free() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None

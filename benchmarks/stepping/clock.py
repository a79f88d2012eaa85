"""Time and memory of something that is run again and again, on each kind of device."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

Run = Callable[[], object]
KIB = 1024
RUNS = 4
"""In a row, on CUDA."""


class Clock(Protocol):
    """How seconds and memory are measured on a device."""

    @property
    def unit(self) -> str:
        """What the seconds are, in words."""
        ...

    def seconds(self, run: Run) -> float:
        """Of one run, all its work done."""
        ...

    def start_memory(self) -> None:
        """Forget the peak so far."""
        ...

    def peak_memory(self) -> int:
        """Bytes, since the start."""
        ...


class ProcessorClock:
    """Processor time, which another process disturbs least; growth of resident memory."""

    unit = "processor time"

    def __init__(self) -> None:
        self._before = _resident()

    def seconds(self, run: Run) -> float:
        """Of processor time."""
        started = time.process_time()
        run()
        return time.process_time() - started

    def start_memory(self) -> None:
        """From now on."""
        self._before = _resident()

    def peak_memory(self) -> int:
        """How far the peak of the whole process lies above what was resident at the start."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
        return max(0, peak - self._before)


class CudaClock:
    """Time between CUDA events; memory of torch's allocator."""

    unit = f"time between CUDA events around {RUNS} runs in a row, divided by {RUNS}"

    def seconds(self, run: Run) -> float:
        """Between two events around several runs, of which the host prepares the next ones."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(RUNS):
            run()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / RUNS

    def start_memory(self) -> None:
        """From now on."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> int:
        """Allocated for tensors at most, those that were there at the start included."""
        return int(torch.cuda.max_memory_allocated())


def clock_of(device: torch.device) -> Clock:
    """The clock of a device."""
    return CudaClock() if device.type == "cuda" else ProcessorClock()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@dataclass(frozen=True)
class Timing:
    """Seconds of one run: median and least of several; bytes at most."""

    median: float
    least: float
    peak: int


def timed(clock: Clock, run: Run, warm_ups: int, repeats: int) -> Timing:
    """Run something a few times without a look at the clock, then with one.

    Args:
        clock: of the device.
        run: what is measured.
        warm_ups: runs that are not counted.
        repeats: runs that are.
    """
    clock.start_memory()
    for _ in range(warm_ups):
        run()
    times = [clock.seconds(run) for _ in range(repeats)]
    return Timing(statistics.median(times), min(times), clock.peak_memory())

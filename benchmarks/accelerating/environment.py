"""Part: the device and the software, as they were found; nothing is set."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator

import torch

from accelerating.job import Job, Record
from verify_pipeline import doctor

QUERIES = {
    "driver": "driver_version",
    "clock of multiprocessors": "clocks.sm",
    "its most": "clocks.max.sm",
    "clock of memory": "clocks.mem",
    "power limit": "power.limit",
}
"""What nvidia-smi is asked, by what the table calls it."""


def environment(job: Job, record: Record) -> None:
    """One row for each fact."""
    for fact, value in [*_facts(job.device), *_found()]:
        record.row(fact=fact, value=value)


def _facts(device: torch.device) -> Iterator[tuple[str, str]]:
    yield "machine", f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}"
    yield "torch", f"{torch.__version__}, CUDA {torch.version.cuda}"
    if device.type != "cuda":
        yield "device", f"{device.type}, {torch.get_num_threads()} threads"
        return
    facts = torch.cuda.get_device_properties(device)
    yield "device", f"{facts.name}, {facts.multi_processor_count} multiprocessors"
    yield "memory", f"{facts.total_memory / 2**30:.1f} GiB"
    yield "compute capability", f"{facts.major}.{facts.minor}"
    yield "cuDNN", str(torch.backends.cudnn.version())
    for fact, query in QUERIES.items():
        yield fact, asked(query)


def asked(query: str) -> str:
    """What nvidia-smi answers to a query of the first device."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi did not answer ({type(error).__name__})"
    return done.stdout.strip() or done.stderr.strip()


def _found() -> Iterator[tuple[str, str]]:
    for finding in doctor.examine():
        if finding.subject in ("torch", "device", "data root"):
            continue
        yield finding.subject, finding.fact

"""Freed memory stays with a process that trains."""

import platform
import subprocess
import sys

import pytest

from verify_pipeline.training.freed_memory import keep_freed_memory

FAULTS = """
import resource, sys, torch
from verify_pipeline.training.freed_memory import keep_freed_memory

if "keep" in sys.argv:
    assert keep_freed_memory()
x = torch.ones(1 << 20)  # 4 MiB, a thousand pages
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        [each.sum() for each in [x + number for number in range(12)]]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(*arguments: str) -> int:
    """Pages that the system hands out for 50 rounds of twelve tensors of a thousand pages each."""
    command = [sys.executable, "-c", FAULTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_the_same_tensors_are_not_asked_for_again() -> None:
    assert faults("keep") < 1000
    assert faults() > 100 * faults("keep")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()

"""Freed memory stays with a process that trains."""

import platform
import subprocess
import sys

import pytest

from verify_pipeline.training.freed_memory import keep_freed_memory

FAULTS = """
import ctypes, resource, sys, torch
from verify_pipeline.training.freed_memory import keep_freed_memory

M_MMAP_THRESHOLD = -3
assert ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 17)
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
    """Page faults of 50 rounds of twelve tensors of 4 MiB each.

    glibc's own threshold grows while it runs, and whether the heap shrinks depends on what lies at
    its end. The process therefore starts with a fixed threshold: each tensor is mapped anew.
    """
    command = [sys.executable, "-c", FAULTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_the_same_tensors_are_not_asked_for_again() -> None:
    assert faults("keep") < 100
    assert faults() >= 50 * 12  # one fault a tensor, where the system hands out huge pages


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()

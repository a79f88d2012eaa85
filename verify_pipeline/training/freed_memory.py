"""Freed memory stays with the process, so that the next step need not ask for it again."""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD = (-3, 32 << 20)
"""Option and bytes, from malloc.h: larger tensors go back to the system when they are freed.

32 MiB is the most that glibc allows; by itself it begins at 128 KiB.
"""

_TRIM_THRESHOLD = (-1, 2**31 - 1)
"""Option and bytes: how much free memory the top of the heap may hold; the greatest value."""


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed, for this process from now on.

    A training step frees and takes the same tensors again. The system would clear each page that
    it hands out, which costs a tenth of a step and more. The most memory that a process uses stays
    as it is; it falls less between steps.

    Returns:
        Whether the allocator took both values; False where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(*each) for each in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)
    )

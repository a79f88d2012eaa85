"""Full float32: no reduced-precision arithmetic (TF32, bfloat16) inside bounds, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Every backend that may take float32 operands with fewer bits, whichever of them is built in.
_SWITCHES = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
)


@contextmanager
def full_precision() -> Iterator[None]:
    """While it lasts, float32 products are those of IEEE float32; then all is as it was."""
    before = [switch.fp32_precision for switch in _SWITCHES]
    for switch in _SWITCHES:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, precision in zip(_SWITCHES, before, strict=True):
            switch.fp32_precision = precision

"""Full float32: bounds never use reduced-precision arithmetic (TF32, bfloat16), on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Every backend that may round float32 operands to fewer bits. Some may not be built in.
_SWITCHES = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
)


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products in IEEE float32 inside the context, and restore the settings."""
    before = [switch.fp32_precision for switch in _SWITCHES]
    for switch in _SWITCHES:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, precision in zip(_SWITCHES, before, strict=True):
            switch.fp32_precision = precision

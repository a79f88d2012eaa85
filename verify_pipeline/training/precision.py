"""Passes of an attack in fewer digits."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def passes_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Layers of weights in this precision, by torch's autocast, and their gradients too.

    Weights stay in float32. What the passes are to leave unchanged, such as running statistics,
    is up to the caller.

    Args:
        precision: of the passes; ``float32`` changes nothing.
        device: that they run on.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)

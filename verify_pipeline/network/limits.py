"""Maxima, limits and rounding to a narrower type, as operations of their own.

In real numbers, ``max(a, b) = b + relu(a - b)``. In floating point, the sum loses ``a`` if ``b`` is
far below it: with ``b = -1e38``, nothing is left of ``a = 1``. Limits and maxima of a file are
therefore read as separate operations. ``bounds/interval`` replaces them with ReLUs where the sum
loses no precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.network.ops import Op
from verify_pipeline.rounding import nearest


@dataclass(frozen=True, eq=False)
class AtLeast(Op):
    """``max(x, limit)`` with a constant that broadcasts to the shape ``*V`` of the input.

    ``min(x, limit)`` equals ``-max(-x, -limit)`` exactly.
    """

    limit: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.maximum(inputs[0], self.limit)


@dataclass(frozen=True, eq=False)
class Maximum(Op):
    """The elementwise maximum of two inputs of the same shape."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.maximum(inputs[0], inputs[1])


@dataclass(frozen=True, eq=False)
class Rounded(Op):
    """Rounding to the nearest number of a type, as by a cast; the dtype stays the input's.

    Attributes:
        type: float32, float16 or bfloat16.
    """

    type: torch.dtype

    def __call__(self, *inputs: Tensor) -> Tensor:
        x = inputs[0]
        found = nearest(x.detach(), self.type)
        return found + (x - x.detach()) if x.requires_grad else found  # with a slope of 1

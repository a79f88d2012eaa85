"""Maxima, and rounding to float32, as operations of their own.

``max(a, b) = b + relu(a - b)`` in real numbers. In floating point the sum loses ``a`` where ``b``
is far below it: with ``b = -1e38`` nothing is left of ``a = 1``. So a file's limits and maxima are
read as what they are. Where the sum loses nothing ``bounds/interval`` writes them with ReLUs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.network.ops import Op


@dataclass(frozen=True, eq=False)
class AtLeast(Op):
    """``max(x, limit)`` with a constant that broadcasts against ``*V`` without changing it.

    ``min(x, limit)`` is the negative of ``max(-x, -limit)``, exactly.
    """

    limit: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.maximum(inputs[0], self.limit)


@dataclass(frozen=True, eq=False)
class Maximum(Op):
    """The greater of two inputs of one shape, element by element."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.maximum(inputs[0], inputs[1])


@dataclass(frozen=True, eq=False)
class Single(Op):
    """The nearest float32 number, in the input's own dtype: what a cast to float32 leaves."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].to(torch.float32).to(inputs[0].dtype)

"""How float32 products are rounded, as torch's settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Arithmetic:
    """Of matrix products and convolutions in float32.

    Attributes:
        name: in tables.
        products: torch's word for matrix products.
        tf32_convolutions: whether cuDNN may use TF32.
    """

    name: str
    products: Literal["highest", "high"]
    tf32_convolutions: bool

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside; cuDNN looks for its fastest algorithms there, too. What was set comes back."""
        before = (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
        )
        torch.set_float32_matmul_precision(self.products)
        torch.backends.cudnn.allow_tf32 = self.tf32_convolutions
        torch.backends.cudnn.benchmark = True
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]
            torch.backends.cudnn.benchmark = before[2]


FLOAT32 = Arithmetic("float32", "highest", False)
TF32 = Arithmetic("TF32", "high", True)

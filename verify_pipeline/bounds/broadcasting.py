"""The adjoint of broadcasting: it sums over the axes that broadcasting repeated."""

from __future__ import annotations

from torch import Tensor

Shape = tuple[int, ...]


def sum_to(coefficients: Tensor, shape: Shape) -> Tensor:
    """Apply the adjoint of broadcasting: sum ``B x *V`` to ``B x *shape``."""
    added = coefficients.dim() - 1 - len(shape)
    if added > 0:
        coefficients = coefficients.sum(tuple(range(1, 1 + added)))
    repeated = [
        axis + 1
        for axis, length in enumerate(shape)
        if length == 1 and coefficients.shape[axis + 1] != 1
    ]
    return coefficients.sum(repeated, keepdim=True) if repeated else coefficients


def broadcast_back(coefficients: Tensor, shape: Shape) -> Tensor:
    """Apply the adjoint of broadcasting: sum ``N x S x *V`` to ``N x S x *shape``."""
    summed = sum_to(coefficients.flatten(0, 1), shape)
    return summed.reshape(*coefficients.shape[:2], *shape)

"""Probabilities of classes as functions of margins: ``p_y = 1 / (1 + Σ_j exp(-z_j))``.

The label comes first, then the other classes in the order of their margins, so that vectors of
several points of one instance fit together.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def relative_logits(margins: Tensor) -> Tensor:
    """``[0, -z]``: the logits ``N x K`` up to a constant, the label's first.

    Args:
        margins: ``N x S``.
    """
    return F.pad(-margins, (1, 0))


def log_probabilities(margins: Tensor) -> Tensor:
    """``log p_k``, ``N x K``, the label's first; finite for finite margins ``N x S``."""
    return relative_logits(margins).log_softmax(-1)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """``KL(p ‖ q) = Σ_k p_k (log p_k - log q_k)`` of each instance, ``N``, >= 0 up to rounding.

    Args:
        first: ``log p``, ``N x K``.
        second: ``log q``, ``N x K``.
    """
    return (first.exp() * (first - second)).sum(-1)


def doubt(log_label: Tensor) -> Tensor:
    """``1 - p_y`` from ``log p_y``, without cancellation."""
    return -log_label.expm1()

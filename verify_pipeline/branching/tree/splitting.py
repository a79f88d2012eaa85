"""How a search divides a subproblem into two parts: all cuts are made here, under one contract.

A search proves the whole by proving each part. Therefore the following holds for every cut. Each
point of the parent that its dtype can represent lies in a part. The parts have at most the cut in
common. No part is empty unless the parent is. Shape letters: ``D`` parents, ``U`` coordinates
(inputs or neurons). Parts are laid out as ``2 D``: first one part of each parent, then the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def middle(lower: Tensor, upper: Tensor) -> Tensor:
    """The middle of each interval up to rounding; it never overflows and never leaves the interval.

    Args:
        lower: finite, of any shape.
        upper: finite, nowhere below ``lower``.
    """
    # the sum of two numbers of equal sign may overflow, and so may the difference of opposite signs
    one_side = (lower > 0) == (upper > 0)
    return torch.where(one_side, lower + (upper - lower) / 2, (lower + upper) / 2)


def bend(lower: Tensor, upper: Tensor) -> Tensor:
    """0, where a (leaky) ReLU bends, if 0 is inside the interval; else the interval's middle."""
    inside = (lower < 0) & (upper > 0)
    return torch.where(inside, torch.zeros_like(lower), middle(lower, upper))


Where = Callable[[Tensor, Tensor], Tensor]
"""Chooses the point at which each interval is cut: :func:`middle` or :func:`bend`."""


def halved(
    lower: Tensor, upper: Tensor, column: Tensor, where: Where = middle
) -> tuple[Tensor, Tensor]:
    """Cut boxes along one coordinate: first the parts below the cut, then those above it.

    Args:
        lower: ``D x U``, finite at ``column``.
        upper: ``D x U``, finite at ``column``.
        column: ``D``, the coordinate that is cut.
        where: chooses the cut.

    Returns:
        Lower and upper limits of the parts, ``2 D x U`` each.
    """
    at = column.unsqueeze(1)
    cut = where(lower.gather(1, at), upper.gather(1, at))
    below, above = upper.scatter(1, at, cut), lower.scatter(1, at, cut)
    return torch.cat([lower, above]), torch.cat([below, upper])


def both_signs(splits: Tensor, column: Tensor) -> Tensor:
    """Split domains at one neuron: first the active parts, input >= 0, then the inactive, <= 0.

    Args:
        splits: ``D x U``, for each neuron +1 (active), -1 (inactive) or 0 (not split).
        column: ``D``, the neuron, which is not split yet.

    Returns:
        The splits of the parts, ``2 D x U``.
    """
    at = column.unsqueeze(1)
    return torch.cat([splits.scatter(1, at, sign) for sign in (1, -1)])

"""How a search makes two parts of one: every cut is made here, under one contract.

A search proves each part, and therefore the whole. So of any cut: every point of the parent lies in
one of its parts, exactly, in the numbers of its dtype; the parts have no more than the cut in
common; and none is empty unless the parent is. Shape letters: ``D`` parents, ``U`` coordinates
(inputs, or neurons). Parts are laid out as ``2 D``: first one part of each parent, then the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def middle(lower: Tensor, upper: Tensor) -> Tensor:
    """A number of each interval, half way up to rounding: neither end overflows or is passed.

    Args:
        lower: finite, of any shape.
        upper: finite, nowhere below ``lower``.
    """
    # the sum of numbers of one sign may overflow, and so may the difference of numbers of two
    one_side = (lower > 0) == (upper > 0)
    return torch.where(one_side, lower + (upper - lower) / 2, (lower + upper) / 2)


def bend(lower: Tensor, upper: Tensor) -> Tensor:
    """0, where a (leaky) ReLU bends, if it is inside of an interval; else its middle."""
    inside = (lower < 0) & (upper > 0)
    return torch.where(inside, torch.zeros_like(lower), middle(lower, upper))


Where = Callable[[Tensor, Tensor], Tensor]
"""A number of each interval, at which it is cut: :func:`middle` or :func:`bend`."""


def halved(
    lower: Tensor, upper: Tensor, column: Tensor, where: Where = middle
) -> tuple[Tensor, Tensor]:
    """Boxes cut inside of one interval: first what is at most there, then what is at least.

    Args:
        lower: ``D x U``, finite at ``column``.
        upper: ``D x U``, likewise.
        column: ``D``, whose interval is cut.
        where: the cut.

    Returns:
        Both limits of the parts, ``2 D x U``.
    """
    at = column.unsqueeze(1)
    cut = where(lower.gather(1, at), upper.gather(1, at))
    below, above = upper.scatter(1, at, cut), lower.scatter(1, at, cut)
    return torch.cat([lower, above]), torch.cat([below, upper])


def both_signs(splits: Tensor, column: Tensor) -> Tensor:
    """Domains split at one neuron: first the active ones, input >= 0, then the inactive ones, <= 0.

    Args:
        splits: ``D x U``, of each neuron +1 (active), -1 (inactive) or 0 (either).
        column: ``D``, which neuron; one that is not split yet.

    Returns:
        The splits of the parts, ``2 D x U``.
    """
    at = column.unsqueeze(1)
    return torch.cat([splits.scatter(1, at, sign) for sign in (1, -1)])

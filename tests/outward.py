"""Bounds in float64 lie a little outside of exact values: by what rounding may have changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Numbers = Tensor | float | Sequence[float] | Sequence[Sequence[float]]

WITHIN = 1e-12
"""How far outside they may lie, relative to the exact value or to 1, whichever is greater."""


def assert_just_below(found: Numbers, exact: Numbers, within: float = WITHIN) -> None:
    """Lower bounds: nowhere above the exact values, not even by rounding, and hardly below."""
    below, limit = _both(found, exact)
    torch.testing.assert_close(below, limit, rtol=within, atol=within)
    assert bool((below <= limit).all()), f"{below.tolist()} is above {limit.tolist()}"


def assert_just_above(found: Numbers, exact: Numbers, within: float = WITHIN) -> None:
    """Upper bounds: nowhere below the exact values, not even by rounding, and hardly above."""
    above, limit = _both(found, exact)
    torch.testing.assert_close(above, limit, rtol=within, atol=within)
    assert bool((above >= limit).all()), f"{above.tolist()} is below {limit.tolist()}"


def _both(found: Numbers, exact: Numbers) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(found, dtype=torch.float64), torch.as_tensor(exact, dtype=torch.float64)

"""Arrays of fractions, and what numpy lacks for them. Nothing of the package is used here."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
"""Of fractions, which numpy's types cannot express."""


def rational(numbers: Any) -> Array:
    """An array of ``Fraction``s from numbers that are finite."""
    given = np.asarray(numbers)
    found = np.empty(given.shape, dtype=object)
    found.reshape(-1)[:] = [Fraction(one) for one in given.reshape(-1).tolist()]
    return found


def windows(
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    fill: Any = None,
) -> Array:
    """``N x C x H' x W' x kh x kw`` of ``N x C x H x W``; ``fill`` outside of the plane.

    ``pads`` are ONNX's: top, left, bottom, right.
    """
    top, left, bottom, right = pads
    widths = [(0, 0), (0, 0), (top, bottom), (left, right)]
    wide = np.pad(x, widths, constant_values=fill)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(wide, reach, axis=(2, 3))
    return seen[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def convolved(seen: Array, weight: Array, groups: int) -> Array:
    """The convolution of :func:`windows` with ``O x C/groups x kh x kw``, without its constant."""
    size, per = weight.shape[1], len(weight) // groups
    parts = []
    for g in range(groups):
        inside = seen[:, g * size : (g + 1) * size].transpose(0, 2, 3, 1, 4, 5)
        flat = inside.reshape(*inside.shape[:3], -1)
        rows = weight[g * per : (g + 1) * per].reshape(per, -1)
        parts.append((flat @ rows.T).transpose(0, 3, 1, 2))
    return np.concatenate(parts, axis=1)

"""The box of an instance, exactly, and its rounding for attacks.

Images are float32 and ε is a float64, so ``x ± ε`` is in general no float32. The box *is* the pair
of float64 arrays that :meth:`Box.around` gives on float64 pixels: each limit is ``x ± ε`` rounded
once to float64 (an error below 1e-16), cut to [0, 1]. Bounds that decide are computed in float64 on
these limits. onnxruntime replays points of the file's input type, mostly float32. So attacks search
:func:`inner_box`: each of its points, read as float64, lies in the box. :meth:`Box.contains` on the
float64 box decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from verify_pipeline.problem import Box
from verify_pipeline.rounding import inward, nearest, outward, searched

Item = TypeVar("Item")


def exact_box(pixels: Tensor, epsilon: float | Tensor) -> Box:
    """The float64 box around ``pixels`` ``N x *X``, cut to [0, 1].

    ``epsilon`` is its half-width, a number or float64 ones that broadcast against the pixels.
    """
    return Box.around(pixels.double(), epsilon)


def inner_box(box: Box, dtype: torch.dtype = torch.float32) -> Box:
    """The largest box with limits of that dtype inside a float64 box; in float64 the box itself.

    An interval that contains no number of the dtype becomes the number nearest to its middle. The
    box does not contain that number, so the final check refuses a candidate there. Limits narrower
    than float32 are given in float32.
    """
    if dtype == torch.float64:
        return box
    lower, upper = (end.to(searched(dtype)) for end in inward(box.lower, box.upper, dtype))
    empty = lower > upper
    middle = nearest(box.center, dtype).to(lower)
    return Box(torch.where(empty, middle, lower), torch.where(empty, middle, upper))


def sample_points(box: Box, dtype: torch.dtype) -> Tensor:
    """Sample each box: its middle, two opposite corners, random corners and random points.

    Args:
        box: float64, ``N``.
        dtype: of the points.

    Returns:
        ``8 N x *X``, in the boxes where these hold a point of that dtype; the same on every call.
    """
    inner = inner_box(box.to("cpu"), dtype)
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(5, *inner.lower.shape, generator=generator).to(inner.lower)
    shares[:2] = shares[:2].round()
    random = inner.lower + shares * (inner.upper - inner.lower)
    random = random.maximum(inner.lower).minimum(inner.upper)
    return nearest(torch.cat([inner.center, inner.lower, inner.upper, *random]), dtype)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` evenly spaced items, with the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[place * (len(items) - 1) // (count - 1)] for place in range(count)]


def outer_box(box: Box) -> Box:
    """The least box with float32 limits around a float64 one; its tensors are float32."""
    return Box(*outward(box.lower, box.upper, torch.float32))

"""SABR's shrunk ReLU: intervals that pass an unstable ReLU lose a part of their upper side.

Müller et al. 2023 (arXiv:2210.04871). The intervals behind such a ReLU are no bounds: training with
them regularises less. Certification does not use them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def shrunk(lower: Tensor, upper: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The interval of a ReLU's input, with ``c u`` instead of u where ``l < 0 < u``.

    Behind the ReLU, an unstable neuron has [0, c u] instead of [0, u]. Other neurons keep theirs.

    Args:
        lower: l, of any shape.
        upper: u, of the same shape.
        share: c in (0, 1]; 1 changes nothing.
    """
    unstable = (lower < 0) & (upper > 0)
    return lower, torch.where(unstable, share * upper, upper)


def shrink_relus(bounded: Any, share: float) -> None:
    """Let all ReLUs of one bounded module pass shrunk intervals.

    The intervals of their inputs stay as they are; what reads the ReLUs sees the difference.

    Args:
        bounded: auto_LiRPA's ``BoundedModule``.
        share: c in (0, 1].
    """
    for node in bounded._modules.values():
        if type(node).__name__ == "BoundRelu":
            node.interval_propagate = _shrinking(node.interval_propagate, share)


def _shrinking(propagate: Any, share: float) -> Any:
    def interval_propagate(*v: Any) -> tuple[Tensor, Tensor]:
        bounds: tuple[Tensor, Tensor] = propagate(shrunk(v[0][0], v[0][1], share))
        return bounds

    return interval_propagate

"""Activations that auto_LiRPA 0.3 does not know, for bounds by IBP.

All but PReLU never decrease, so their values at the ends of an interval bound those between. GELU
is a product of its input with an increasing function (``Erf``), which auto_LiRPA bounds as such.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Function = Callable[[Tensor, Mapping[str, Any]], Tensor]
"""Of values and the operator's attributes."""

_INCREASING: dict[str, Function] = {
    "Erf": lambda x, _: torch.erf(x),
    "Elu": lambda x, attributes: F.elu(x, attributes.get("alpha", 1.0)),
    "Celu": lambda x, attributes: F.celu(x, attributes.get("alpha", 1.0)),
    "Selu": lambda x, _: F.selu(x),
    "HardSigmoid": lambda x, attributes: (
        attributes.get("alpha", 0.2) * x + attributes.get("beta", 0.5)
    ).clamp(0, 1),
}


def prelu_interval(lower: Tensor, upper: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Exact bounds of ``x`` for x >= 0 and ``slope · x`` below, for slopes of any sign.

    Args:
        lower: ``N x *V``.
        upper: ``N x *V``.
        slope: broadcasts against them.
    """
    at_lower, at_upper = (torch.where(x >= 0, x, slope * x) for x in (lower, upper))
    turns = (slope < 0) & (lower < 0) & (upper > 0)
    least = torch.where(turns, torch.zeros_like(lower), torch.minimum(at_lower, at_upper))
    return least, torch.maximum(at_lower, at_upper)


@cache
def more_activations() -> dict[str, Any]:
    """ONNX operator -> rule, as a subclass of auto_LiRPA's class of operations."""
    base = importlib.import_module("auto_LiRPA.bound_ops").Bound
    rules = {f"onnx::{name}": _increasing(base, each) for name, each in _INCREASING.items()}
    return {**rules, "onnx::PRelu": _prelu(base)}


def _increasing(base: Any, function: Function) -> type:
    class Increasing(base):  # type: ignore[misc]
        """A function of one input that never decreases."""

        use_default_ibp = True

        def __init__(self, attr: Any, inputs: Any, output_index: int, options: Any) -> None:
            super().__init__(attr, inputs, output_index, options)
            self.attributes = dict(attr or {})

        def forward(self, x: Tensor) -> Tensor:
            return function(x, self.attributes)

        def interval_propagate(self, *v: Any) -> tuple[Tensor, Tensor]:
            return self.forward(v[0][0]), self.forward(v[0][1])

    return Increasing


def _prelu(base: Any) -> type:
    class PRelu(base):  # type: ignore[misc]
        """ReLU with trained slopes for negative inputs."""

        def forward(self, x: Tensor, slope: Tensor) -> Tensor:
            return torch.where(x >= 0, x, slope * x)

        def interval_propagate(self, *v: Any) -> tuple[Tensor, Tensor]:
            return prelu_interval(v[0][0], v[0][1], v[1][0])

    return PRelu

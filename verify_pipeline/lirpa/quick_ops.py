"""Interval rules for auto_LiRPA 0.3: the same in fewer passes over memory, and a finite softmax.

On a CPU the rules of release 0.3 cost as much as the convolutions they surround. Two of these do
the same arithmetic: halving weights instead of sums of bounds, scaling bounds directly in batch
normalisation, and taking a batch's statistics from the normalisation that computes them anyway.
The third is there because release 0.3 divides exponentials that overflow. auto_LiRPA takes such
rules as ``custom_ops``; what is not L∞ falls back to its own.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F


class BatchStatistics(torch.autograd.Function):
    """Gives known per-channel mean and variance of ``x`` the gradients they have in ``x``.

    ``d mean / d x = 1/n`` and ``d var / d x = 2 (x - mean) / n`` (biased variance of n values).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, mean)
        return mean.clone(), variance.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, mean = ctx.saved_tensors  # type: ignore[attr-defined]
        of_mean, of_variance = gradients
        slope = of_variance * (2 * mean.numel() / x.numel())
        constant = of_mean * (mean.numel() / x.numel()) - slope * mean
        return torch.addcmul(_channels(constant, x), _channels(slope, x), x), None, None


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """One value per channel, shaped to broadcast against ``N x C x …``."""
    return values.view(1, -1, *[1] * (like.dim() - 2))


def batch_norm_interval(
    lower: Tensor, upper: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Bounds of ``scale x + shift`` per channel."""
    rising, shift = _channels(scale.clamp_min(0), lower), _channels(shift, lower)
    low, high = torch.addcmul(shift, rising, lower), torch.addcmul(shift, rising, upper)
    if bool((scale < 0).any()):
        falling = _channels(scale.clamp_max(0), lower)
        low, high = torch.addcmul(low, falling, upper), torch.addcmul(high, falling, lower)
    return low, high


def softmax_interval(lower: Tensor, upper: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Exact bounds of each output of a softmax, finite however wide its inputs' bounds are.

    An output rises in its own input and falls in every other: its least value is
    ``sigmoid(l_i - log Σ_{j≠i} exp u_j)``, its greatest the same with l and u exchanged.
    """
    lower, upper = lower.movedim(axis, -1), upper.movedim(axis, -1)
    least = torch.sigmoid(lower - _log_sum_of_others(upper))
    most = torch.sigmoid(upper - _log_sum_of_others(lower))
    return least.movedim(-1, axis), most.movedim(-1, axis)


def _log_sum_of_others(x: Tensor) -> Tensor:
    """``log Σ_{j≠i} exp x_j`` for each i of the last axis."""
    itself = torch.eye(x.shape[-1], dtype=torch.bool, device=x.device)
    others = x.unsqueeze(-2).expand(*x.shape, x.shape[-1])
    return others.masked_fill(itself, -torch.inf).logsumexp(-1)


@cache
def quick_ops() -> dict[str, type]:
    """The rules by ONNX operator, as subclasses of auto_LiRPA's own."""
    operators = importlib.import_module("auto_LiRPA.bound_ops")
    is_linf = operators.Interval.get_perturbation

    class QuickConv(operators.BoundConv):  # type: ignore[misc, name-defined]
        """Convolution: centre and radius with halved weights."""

        def interval_propagate(self, *v: Any, C: Tensor | None = None) -> tuple[Tensor, Tensor]:
            if self.is_input_perturbed(1) or is_linf(v[0])[0] != float("inf"):
                bounds: tuple[Tensor, Tensor] = super().interval_propagate(*v, C=C)
                return bounds
            (lower, upper), half = v[0], v[1][0] / 2
            where = (self.stride, self.padding, self.dilation, self.groups)
            center = F.conv2d(upper + lower, half, v[2][0] if self.has_bias else None, *where)
            radius = F.conv2d(upper - lower, half.abs(), None, *where)
            return center - radius, center + radius

    class QuickBatchNormalization(operators.BoundBatchNormalization):  # type: ignore[misc, name-defined]
        """Batch normalisation: statistics at no extra pass, bounds scaled directly."""

        def forward(self, x: Tensor, w: Tensor, b: Tensor, m: Tensor, v: Tensor) -> Tensor:
            if not self.training:
                self.current_mean, self.current_var = m, v
                return F.batch_norm(x, m, v, w, b, False, self.momentum, self.eps)
            out, mean, inverse = torch.native_batch_norm(
                x, w, b, m, v, True, self.momentum, self.eps
            )
            variance = inverse.reciprocal().square() - self.eps
            self.current_mean, self.current_var = BatchStatistics.apply(  # type: ignore[no-untyped-call]
                x, mean, variance
            )
            return out

        def interval_propagate(self, *v: Any) -> tuple[Tensor, Tensor]:
            if is_linf(v[0])[0] != float("inf"):
                bounds: tuple[Tensor, Tensor] = super().interval_propagate(*v)
                return bounds
            mean, variance = self.current_mean, self.current_var
            if not self.training:
                mean, variance = v[3][0], v[4][0]
            scale = v[1][0] / torch.sqrt(variance + self.eps)
            return batch_norm_interval(v[0][0], v[0][1], scale, v[2][0] - mean * scale)

    class FiniteSoftmax(operators.BoundSoftmax):  # type: ignore[misc, name-defined]
        """Softmax as one operation, not as exponentials and a quotient; IBP only."""

        def __init__(self, attr: Any, inputs: Any, output_index: int, options: Any) -> None:
            super().__init__(attr, inputs, output_index, {**options, "softmax": "whole"})

        def interval_propagate(self, *v: Any) -> tuple[Tensor, Tensor]:
            return softmax_interval(v[0][0], v[0][1], self.axis)

    return {
        "onnx::Conv": QuickConv,
        "onnx::BatchNormalization": QuickBatchNormalization,
        "onnx::Softmax": FiniteSoftmax,
    }

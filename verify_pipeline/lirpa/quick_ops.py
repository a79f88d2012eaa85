"""Interval rules for auto_LiRPA 0.3: faster convolution and batch norm, and attention.

On a CPU, the rules of release 0.3 cost as much as the convolutions themselves. The rules for
convolution and batch normalisation compute the same bounds in fewer passes over memory. They halve
the weights instead of sums of bounds, fold a batch normalisation into the convolution before it,
and take the batch statistics from the forward pass, which computes them anyway. The rule for
division does not look at a fixed divisor again, so that a training step reads nothing from its
device. The rule for softmax is needed because release 0.3 divides exponentials that overflow; the
one for its product with values, because release 0.3 forgets that weights sum to one, and widths
grow by the number of tokens.

auto_LiRPA accepts such rules as ``custom_ops``. They support L∞ boxes and fixed weights, which is
all that the adapter uses.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from verify_pipeline.weighted_means import mean_interval


class BatchStatistics(torch.autograd.Function):
    """Attach gradients with respect to ``x`` to its known per-channel mean and variance.

    ``d mean / d x = 1/n`` and ``d var / d x = 2 (x - mean) / n``, for the biased variance of n
    values.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The given mean and variance, ``C`` each, of ``x`` ``N x C x …``, unchanged."""
        ctx.save_for_backward(x, mean)
        return mean.clone(), variance.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient for ``x``, ``N x C x …``, from those of mean and variance, ``C`` each."""
        x, mean = ctx.saved_tensors  # type: ignore[attr-defined]
        of_mean, of_variance = gradients
        slope = of_variance * (2 * mean.numel() / x.numel())
        constant = of_mean * (mean.numel() / x.numel()) - slope * mean
        return torch.addcmul(_channels(constant, x), _channels(slope, x), x), None, None


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values ``C`` so that they broadcast against ``N x C x …``."""
    return values.view(1, -1, *[1] * (like.dim() - 2))


def batch_norm_interval(
    lower: Tensor, upper: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Bounds of ``scale x + shift``, with one scale and shift for each channel."""
    rising, shift = _channels(scale.clamp_min(0), lower), _channels(shift, lower)
    low, high = torch.addcmul(shift, rising, lower), torch.addcmul(shift, rising, upper)
    # an accelerator multiplies by zeros sooner than the host has read whether all are
    if scale.device.type != "cpu" or bool((scale < 0).any()):
        falling = _channels(scale.clamp_max(0), lower)
        low, high = torch.addcmul(low, falling, upper), torch.addcmul(high, falling, lower)
    return low, high


def softmax_interval(lower: Tensor, upper: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Exact bounds of each output of a softmax, which are finite for inputs of any width.

    An output increases in its own input and decreases in every other input. Its minimum is
    ``sigmoid(l_i - log Σ_{j≠i} exp u_j)``, and its maximum the same with l and u exchanged.
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


def fold_batch_norms(nodes: Iterable[Any]) -> None:
    """Bound each convolution together with the batch normalisation that follows it.

    The normalisation then scales the convolution's weights instead of its bounds, which are much
    larger tensors. The convolution passes on its input's bounds, so it must have no other user.
    """
    rules = quick_ops()
    every = list(nodes)
    for node in every:
        if not isinstance(node, rules["onnx::BatchNormalization"]):
            continue
        before = node.inputs[0]
        users = sum(before is each for user in every for each in user.inputs)
        if isinstance(before, rules["onnx::Conv"]) and users == 1:
            before.is_folded = True
            # not registered as a submodule, because the whole network already contains it
            object.__setattr__(node, "convolution", before)


@cache
def quick_ops() -> dict[str, Any]:
    """ONNX operator -> rule, as a subclass of auto_LiRPA's own class."""
    operators = importlib.import_module("auto_LiRPA.bound_ops")
    return {
        "onnx::Conv": _quick_conv(operators),
        "onnx::BatchNormalization": _quick_batch_norm(operators),
        "onnx::Div": _quick_division(operators),
        "onnx::Softmax": _finite_softmax(operators),
        "onnx::MatMul": _mean_or_product(operators),
    }


def _quick_conv(operators: Any) -> type:
    class QuickConv(operators.BoundConv):  # type: ignore[misc]
        """Convolution, bounded by centre and radius with halved weights."""

        is_folded = False

        def interval_propagate(self, *v: Any, C: Tensor | None = None) -> tuple[Tensor, Tensor]:
            if self.is_folded:
                return v[0][0], v[0][1]
            return self.bounds(v[0], v[1][0], v[2][0] if self.has_bias else None)

        def bounds(
            self, interval: Any, weight: Tensor, bias: Tensor | None
        ) -> tuple[Tensor, Tensor]:
            """Bounds with the given weights and bias instead of the convolution's own."""
            (lower, upper), half = interval, weight / 2
            where = (self.stride, self.padding, self.dilation, self.groups)
            center = F.conv2d(upper + lower, half, bias, *where)
            radius = F.conv2d(upper - lower, half.abs(), None, *where)
            return center - radius, center + radius

    return QuickConv


def _quick_batch_norm(operators: Any) -> type:
    class QuickBatchNormalization(operators.BoundBatchNormalization):  # type: ignore[misc]
        """Batch norm, folded into the convolution before it; statistics need no extra pass."""

        convolution: Any = None

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

        def scale_and_shift(
            self, w: Tensor, b: Tensor, m: Tensor, v: Tensor
        ) -> tuple[Tensor, Tensor]:
            """What each channel is multiplied by and what is added, ``C`` each."""
            mean, variance = self.current_mean, self.current_var
            if not self.training:
                mean, variance = m, v
            scale = w / torch.sqrt(variance + self.eps)
            return scale, b - mean * scale

        def folded(self, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
            """Weight and bias of the convolution before it together with it."""
            weight: Tensor = self.convolution.inputs[1].param
            if self.convolution.has_bias:
                shift = shift + scale * self.convolution.inputs[2].param
            return weight * scale.view(-1, 1, 1, 1), shift

        def interval_propagate(self, *v: Any) -> tuple[Tensor, Tensor]:
            scale, shift = self.scale_and_shift(*(each[0] for each in v[1:]))
            if self.convolution is None:
                return batch_norm_interval(v[0][0], v[0][1], scale, shift)
            bounds: tuple[Tensor, Tensor] = self.convolution.bounds(
                v[0], *self.folded(scale, shift)
            )
            return bounds

    return QuickBatchNormalization


def _quick_division(operators: Any) -> type:
    class QuickDiv(operators.BoundDiv):  # type: ignore[misc]
        """Division by numbers that do not change, whose signs are read once and not in each step.

        auto_LiRPA's own rule reads them each time, and the host waits for an accelerator.
        """

        seen: tuple[Tensor, int] | None = None

        def interval_propagate(self, *v: Any) -> tuple[Tensor, Tensor]:
            divisor = v[1][0]
            if v[1][1] is not divisor:
                bounds: tuple[Tensor, Tensor] = super().interval_propagate(*v)
                return bounds
            if self.seen is None or self.seen[0] is not divisor or self.seen[1] != divisor._version:
                self.seen = None
                bounds = super().interval_propagate(*v)  # refuses what is not positive
                self.seen = (divisor, divisor._version)
                return bounds
            return v[0][0] / divisor, v[0][1] / divisor

    return QuickDiv


def _finite_softmax(operators: Any) -> type:
    class FiniteSoftmax(operators.BoundSoftmax):  # type: ignore[misc]
        """Softmax as one operation instead of exponentials and a quotient; IBP only."""

        def __init__(self, attr: Any, inputs: Any, output_index: int, options: Any) -> None:
            super().__init__(attr, inputs, output_index, {**options, "softmax": "whole"})

        def interval_propagate(self, *v: Any) -> tuple[Tensor, Tensor]:
            return softmax_interval(v[0][0], v[0][1], self.axis)

    return FiniteSoftmax


def _mean_or_product(operators: Any) -> type:
    class MeanOrProduct(operators.BoundMatMul):  # type: ignore[misc]
        """Matrix product; one of softmax's weights with values is bounded as their mean."""

        def interval_propagate(self, *v: Any, C: Tensor | None = None) -> tuple[Tensor, Tensor]:
            if C is not None:  # the network's last layer, a linear one without bias
                bounds: tuple[Tensor, Tensor] = operators.BoundLinear.interval_propagate(
                    self, *v, C=C
                )
                return bounds
            weights, last = self.inputs[0], (-1, v[0][0].dim() - 1)
            if isinstance(weights, operators.BoundSoftmax) and weights.axis in last:
                return mean_interval((v[0][0], v[0][1]), (v[1][0], v[1][1]))
            bounds = super().interval_propagate(*v)
            return bounds[0], bounds[1]

    return MeanOrProduct

"""Convolution and pooling, over one or two spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from verify_pipeline.network.ops import AvgPool2d, Conv2d, MaxPool2d, Relu
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.operators.shapes import pad
from verify_pipeline.onnx.trace import Activation, Trace, Value, refuse_huge, tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """What slides over an image, along two axes.

    Attributes:
        pads: zeros (before, after) of each axis.
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[Pair, Pair]
    ceil_mode: bool

    @property
    def symmetric(self) -> bool:
        """Whether each axis has as many zeros before as after."""
        return all(before == after for before, after in self.pads)

    @property
    def padding(self) -> Pair:
        """Zeros at each end of each axis, where they are symmetric."""
        return self.pads[0][0], self.pads[1][0]


def _image(call: Call) -> Activation:
    """The input as an image of two spatial axes: one of height 1 where it has but one."""
    x = call.activation()
    if x.rank not in (3, 4):
        raise call.unsupported(f"an input with {x.rank - 2} spatial axes, not 1 or 2")
    x = call.trace.batch_first(x)
    return x if x.rank == 4 else call.trace.reshape(x, (*x.shape[:2], 1, x.shape[2]))


def _like_input(call: Call, image: Activation) -> Activation:
    """Without the height of 1 that :func:`_image` gave."""
    if call.activation().rank == 4:
        return image
    return call.trace.reshape(image, (*image.shape[:2], image.shape[3]))


def _window(call: Call, image: Activation, kernel: Sequence[int]) -> Window:
    """The node's window from its attributes, with automatic padding worked out."""
    axes = len(kernel)
    strides = call.attribute("strides", [1] * axes)
    dilations = call.attribute("dilations", [1] * axes)
    flat = call.attribute("pads", [0] * (2 * axes))
    pads = list(zip(flat[:axes], flat[axes:], strict=True))
    mode = call.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        sizes = image.shape[-axes:]
        total = [
            max((-(-size // s) - 1) * s + r - size, 0)
            for size, s, r in zip(sizes, strides, reach, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
        pads = list(zip(before, after, strict=True))
    elif mode == "VALID":
        pads = [(0, 0)] * axes
    if any(width < 0 for pair in pads for width in pair):
        raise call.unsupported("negative padding")
    refuse_huge(sum(width for pair in pads for width in pair))
    ones, ceil_mode = [1] * (2 - axes), bool(call.attribute("ceil_mode", 0))
    return Window(
        kernel=cast(Pair, (*ones, *kernel)),
        stride=cast(Pair, (*ones, *strides)),
        dilation=cast(Pair, (*ones, *dilations)),
        pads=cast(tuple[Pair, Pair], (*([(0, 0)] * (2 - axes)), *pads)),
        ceil_mode=ceil_mode,
    )


def _padded(trace: Trace, image: Activation, window: Window) -> Activation:
    return pad(trace, image, [(0, 0), (0, 0), *window.pads])


@reads("Conv")
def _conv(call: Call) -> Value:
    weight, bias = call.constant(1), call.constant(2)
    image, trace = _image(call), call.trace
    if weight is None or weight.ndim != call.activation().rank:
        raise call.unsupported("a weight that does not fit the input")
    window = _window(call, image, weight.shape[2:])
    if weight.ndim == 3:
        weight = weight[:, :, None]
    if not window.symmetric:
        image = _padded(trace, image, window)
    op = Conv2d(
        tensor(weight),
        None if bias is None else tensor(bias),
        window.stride,
        window.padding if window.symmetric else (0, 0),
        window.dilation,
        int(call.attribute("group", 1)),
    )
    return _like_input(call, trace.emit(op, image))


@reads("MaxPool")
def _max_pool(call: Call) -> Value:
    if len([name for name in call.node.output if name]) > 1:
        raise call.unsupported("the output of indices")
    image = _image(call)
    window = _window(call, image, call.attribute("kernel_shape"))
    if not _torch_can_pad(window):
        # ONNX pads a maximum with -inf; zeros are the same after a ReLU.
        if not isinstance(call.trace.op(call.activation()), Relu):
            raise call.unsupported("uneven padding that is not right after a Relu")
        image = _padded(call.trace, image, window)
    padding = window.padding if _torch_can_pad(window) else (0, 0)
    op = MaxPool2d(window.kernel, window.stride, padding, window.dilation, window.ceil_mode)
    return _like_input(call, call.trace.emit(op, image))


@reads("GlobalMaxPool")
def _global_max(call: Call) -> Value:
    image = _image(call)
    kernel = cast(Pair, image.shape[2:])
    return _like_input(call, call.trace.emit(MaxPool2d(kernel, kernel), image))


@reads("AveragePool")
def _average_pool(call: Call) -> Value:
    image, trace = _image(call), call.trace
    window = _window(call, image, call.attribute("kernel_shape"))
    if window.dilation != (1, 1):
        raise call.unsupported("dilation")
    counts_pads = bool(call.attribute("count_include_pad", 0))
    if _torch_can_pad(window):
        op = AvgPool2d(window.kernel, window.stride, window.padding, window.ceil_mode, counts_pads)
        return _like_input(call, trace.emit(op, image))
    padded = _padded(trace, image, window)
    op = AvgPool2d(window.kernel, window.stride, (0, 0), window.ceil_mode)
    pooled = trace.emit(op, padded)
    if not counts_pads:
        pooled = trace.affine(pooled, _inverse_share(image, window, op), 0.0)
    return _like_input(call, pooled)


def _torch_can_pad(window: Window) -> bool:
    """Whether torch's pooling takes this padding: symmetric, at most half of the kernel."""
    halves = all(p <= k // 2 for p, k in zip(window.padding, window.kernel, strict=True))
    return window.symmetric and halves


def _inverse_share(image: Activation, window: Window, op: AvgPool2d) -> Array:
    """1 / (the share of each window that lies in the image), ``1 x 1 x H x W``."""
    (top, bottom), (left, right) = window.pads
    ones = torch.ones(image.shape, dtype=torch.float64)
    inside = torch.nn.functional.pad(ones, (left, right, top, bottom))
    return np.asarray(1.0 / op(inside[:, :1]).numpy())

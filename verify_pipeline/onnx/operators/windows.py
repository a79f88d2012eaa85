"""Convolution and pooling, over up to three spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from verify_pipeline.network.affine_error import Norms, of_roundings
from verify_pipeline.network.ops import AvgPool2d, Conv2d, MaxPool2d, size
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.registry import Call, for_each_row, reads
from verify_pipeline.onnx.operators.shapes import pad, pick
from verify_pipeline.onnx.trace import Activation, Trace, Value, refuse_huge, tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """What slides along one axis; ``pads`` are zeros before and after it."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    pads: Pair = (0, 0)


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
    ceil_mode: bool = False

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
    """The node's window over an image; of height 1 where the node has one axis."""
    return _window_of(_axes(call, image, kernel), bool(call.attribute("ceil_mode", 0)))


def _window_of(axes: Sequence[Axis], ceil_mode: bool = False) -> Window:
    """Of one or two axes."""
    first, second = (Axis(1), *axes)[-2:]
    return Window(
        kernel=(first.kernel, second.kernel),
        stride=(first.stride, second.stride),
        dilation=(first.dilation, second.dilation),
        pads=(first.pads, second.pads),
        ceil_mode=ceil_mode,
    )


def _axes(call: Call, image: Activation, kernel: Sequence[int]) -> list[Axis]:
    """The node's window along each of its axes, automatic padding worked out."""
    count = len(kernel)
    strides = call.attribute("strides", [1] * count)
    dilations = call.attribute("dilations", [1] * count)
    flat = call.attribute("pads", [0] * (2 * count))
    pads = list(zip(flat[:count], flat[count:], strict=True))
    mode = call.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        sizes = image.shape[-count:]
        total = [
            max((-(-size // s) - 1) * s + r - size, 0)
            for size, s, r in zip(sizes, strides, reach, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
        pads = list(zip(before, after, strict=True))
    elif mode == "VALID":
        pads = [(0, 0)] * count
    if any(width < 0 for pair in pads for width in pair):
        raise call.unsupported("negative padding")
    refuse_huge(sum(width for pair in pads for width in pair))
    return [Axis(*one) for one in zip(kernel, strides, dilations, pads, strict=True)]


def _padded(trace: Trace, image: Activation, window: Window) -> Activation:
    return pad(trace, image, [(0, 0), (0, 0), *window.pads])


@reads("Conv")
@for_each_row
def _conv(call: Call) -> Value:
    weight, bias = call.constant(1), call.constant(2)
    if call.activation().rank == 5:
        return _volume_conv(call, weight, bias)
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


def _volume_conv(call: Call, weight: Array | None, bias: Array | None) -> Value:
    """Over three axes: the layers of a volume as channels of an image, ``C x D`` of them.

    Layer t of an output channel sees layer ``t * stride + i * dilation`` of the input channels
    through the i-th layer of the kernel, and no other.
    """
    x, trace = call.trace.batch_first(call.activation()), call.trace
    if weight is None or weight.ndim != 5:
        raise call.unsupported("a weight that does not fit the input")
    depth, *plane = _axes(call, x, weight.shape[2:])
    x = pad(trace, x, [(0, 0), (0, 0), depth.pads, (0, 0), (0, 0)])
    channels, layers = x.shape[1:3]
    dense = _without_groups(weight, int(call.attribute("group", 1)))
    count = (layers - depth.dilation * (depth.kernel - 1) - 1) // depth.stride + 1
    refuse_huge(dense.size * count * layers)
    wide = np.zeros((len(dense), count, channels, layers, *dense.shape[3:]), dense.dtype)
    for t in range(count):
        seen = t * depth.stride + depth.dilation * np.arange(depth.kernel)
        wide[:, t][:, :, seen] = dense
    image = trace.reshape(x, (1, channels * layers, *x.shape[3:]))
    window = _window_of(plane)
    image = _padded(trace, image, window)
    op = Conv2d(
        tensor(wide.reshape(len(dense) * count, channels * layers, *dense.shape[3:])),
        None if bias is None else tensor(bias.repeat(count)),
        window.stride,
        (0, 0),
        window.dilation,
    )
    found = trace.emit(op, image)
    return trace.reshape(found, (1, len(dense), count, *found.shape[2:]))


def _without_groups(weight: Array, groups: int) -> Array:
    """The weight ``O x I x …`` of one group, from that of several, ``O x I/groups x …``."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    dense = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), weight.dtype)
    for g in range(groups):
        rows = slice(g * outputs, (g + 1) * outputs)
        dense[rows, g * inputs : (g + 1) * inputs] = weight[rows]
    return dense


@reads("MaxPool")
@for_each_row
def _max_pool(call: Call) -> Value:
    if len([name for name in call.node.output if name]) > 1:
        raise call.unsupported("the output of indices")

    def pool(image: Activation, window: Window) -> Activation:
        padding = window.padding
        if not _torch_can_pad(window):
            padding = (0, 0)
            image = _repeated_at_the_edges(call, image, window)
        op = MaxPool2d(window.kernel, window.stride, padding, window.dilation, window.ceil_mode)
        return call.trace.emit(op, image)

    return _pooled(call, pool)


def _pooled(call: Call, pool: Callable[[Activation, Window], Activation]) -> Value:
    """Of one or two axes at once; of three, along the first and then over the others."""
    x, trace, kernel = call.activation(), call.trace, call.attribute("kernel_shape")
    ceil_mode = bool(call.attribute("ceil_mode", 0))
    if x.rank != 5:
        image = _image(call)
        return _like_input(call, pool(image, _window(call, image, kernel)))
    _, channels, layers, height, width = trace.batch_first(x).shape
    depth, *plane = _axes(call, x, kernel)
    rows = trace.reshape(x, (1, channels, layers, height * width))
    rows = pool(rows, _window_of([depth, Axis(1)], ceil_mode))
    count = rows.shape[2]
    image = trace.reshape(rows, (1, channels * count, height, width))
    image = pool(image, _window_of(plane, ceil_mode))
    return trace.reshape(image, (1, channels, count, *image.shape[2:]))


def _repeated_at_the_edges(call: Call, image: Activation, window: Window) -> Activation:
    """Padded by its outermost elements: each is in every window that reaches beyond it.

    So they change no maximum, as ONNX's padding by -inf does not.
    """
    if window.dilation != (1, 1) or window.ceil_mode:
        raise call.unsupported("uneven padding with dilation or ceil_mode")
    for axis, pads, kernel in zip((2, 3), window.pads, window.kernel, strict=True):
        if max(pads) >= kernel:
            raise call.unsupported("padding as wide as the window")
        if any(pads):
            places = np.pad(np.arange(image.shape[axis]), pads, mode="edge")
            image = pick(call.trace, image, axis, places)
    return image


@reads("GlobalMaxPool")
@for_each_row
def _global_max(call: Call) -> Value:
    image = _image(call)
    kernel = cast(Pair, image.shape[2:])
    return _like_input(call, call.trace.emit(MaxPool2d(kernel, kernel), image))


@reads("AveragePool")
@for_each_row
def _average_pool(call: Call) -> Value:
    trace, counts_pads = call.trace, bool(call.attribute("count_include_pad", 0))

    def pool(image: Activation, window: Window) -> Activation:
        if window.dilation != (1, 1):
            raise call.unsupported("dilation")
        sizes = window.kernel, window.stride
        if _torch_can_pad(window):
            return trace.emit(
                AvgPool2d(*sizes, window.padding, window.ceil_mode, counts_pads), image
            )
        op = AvgPool2d(*sizes, (0, 0), window.ceil_mode)
        pooled = trace.emit(op, _padded(trace, image, window))
        if counts_pads:
            return pooled
        share = _inverse_share(image, window, op)
        rounded = of_roundings(size(op.kernel) + 2, Norms(float(share.max()), 0.0))
        return trace.affine(pooled, share, 0.0, rounded)

    return _pooled(call, pool)


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

"""Operators that make images larger or smaller: transposed convolution, resizing, shuffling."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from onnx import helper

from verify_pipeline.network.ops import Conv2d, Linear
from verify_pipeline.onnx.constants import fold
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.registry import Call, for_each_row, reads
from verify_pipeline.onnx.operators.shapes import pad, pick
from verify_pipeline.onnx.trace import Activation, Trace, Value, refuse_huge, tensor

Pair = tuple[int, int]


@reads("ConvTranspose")
@for_each_row
def _conv_transpose(call: Call) -> Value:
    """The convolution with the flipped kernel, of the image with zeros between its elements."""
    weight, bias, trace = call.constant(1), call.constant(2), call.trace
    x = call.activation()
    if weight is None or weight.ndim != x.rank or x.rank not in (3, 4):
        raise call.unsupported("a weight that does not fit the input, or not 1 or 2 spatial axes")
    image = trace.batch_first(x)
    steps = {name: _pair(call, name, 1) for name in ("strides", "dilations")}
    if x.rank == 3:
        image, weight = trace.reshape(image, (*x.shape[:2], 1, x.shape[2])), weight[:, :, None]
    stride, dilation = steps["strides"], steps["dilations"]
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    margins = _margins(call, image, stride, reach)
    image = _with_zeros_between(trace, image, stride, margins)
    groups = int(call.attribute("group", 1))
    turned = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    turned = turned.reshape(-1, *turned.shape[2:])[:, :, ::-1, ::-1]
    constants = tensor(turned.copy()), None if bias is None else tensor(bias)
    found = trace.emit(Conv2d(*constants, dilation=dilation, groups=groups), image)
    return trace.reshape(found, (*found.shape[:2], found.shape[3])) if x.rank == 3 else found


def _pair(call: Call, name: str, default: int) -> Pair:
    """An attribute of one or two numbers, for two axes."""
    given = call.attribute(name)
    if given is None:
        return default, default
    return cast(Pair, (default, *given)[-2:])


def _margins(call: Call, image: Activation, stride: Pair, reach: list[int]) -> list[Pair]:
    """Zeros before and after each axis around the spread image; negative ones cut it.

    As the operator's definition has it: an output without padding is ``stride (size - 1) + reach +
    1 + output_padding`` long, and padding takes away from both ends.
    """
    more = _pair(call, "output_padding", 0)
    axes = call.activation().rank - 2
    pads = call.attribute("pads", [0] * (2 * axes))
    begin, end = (cast(Pair, (0, *part)[-2:]) for part in (pads[:axes], pads[axes:]))
    mode, wanted = call.attribute("auto_pad", "NOTSET"), call.attribute("output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * s for size, s in zip(image.shape[2:], stride, strict=True)][-axes:]
    if wanted is not None:
        lengths = (1, *wanted)[-2:]
        full = zip(image.shape[2:], stride, reach, more, strict=True)
        total = [s * (size - 1) + r + 1 + o for size, s, r, o in full]
        over = [t - w for t, w in zip(total, lengths, strict=True)]
        small, large = (over[0] // 2, over[1] // 2), (-(-over[0] // 2), -(-over[1] // 2))
        begin, end = (small, large) if mode == "SAME_UPPER" else (large, small)
    refuse_huge(sum(map(abs, (*begin, *end, *more))))
    return [(r - b, r - e + o) for r, b, e, o in zip(reach, begin, end, more, strict=True)]


def _with_zeros_between(
    trace: Trace, image: Activation, stride: Pair, margins: list[Pair]
) -> Activation:
    """The image with ``stride - 1`` zeros after each element but the last, and the margins."""
    first, channels, height, width = image.shape
    down, across = stride
    refuse_huge(math.prod(image.shape) * down * across)
    if stride != (1, 1):
        apart = trace.reshape(image, (first, channels, height, 1, width, 1))
        zeros = [(0, 0), (0, 0), (0, 0), (0, down - 1), (0, 0), (0, across - 1)]
        spread = pad(trace, apart, zeros)
        image = trace.reshape(spread, (first, channels, height * down, width * across))
    ends = [(b, a - s + 1) for (b, a), s in zip(margins, stride, strict=True)]
    return pad(trace, image, [(0, 0), (0, 0), *ends])


@reads("Resize", "Upsample")
def _resize(call: Call) -> Value:
    """One axis after another: each is a linear map of its elements, worked out by ONNX's own rule.

    An axis on which it only picks elements is a Gather, another one a matrix.
    """
    x, trace = call.activation(), call.trace
    if call.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise call.unsupported("coordinate_transformation_mode tf_crop_and_resize")
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise call.unsupported("a keep_aspect_ratio_policy other than stretch")
    axes = call.attribute("axes") or list(range(x.rank))
    scales, sizes = _targets(call, x, axes)
    for i, axis in enumerate(axes):
        target = int(sizes[i] if sizes is not None else np.floor(x.shape[axis] * scales[i]))
        refuse_huge(target * x.shape[axis])
        if target == x.shape[axis] and (sizes is not None or scales[i] == 1):
            continue
        scale = None if sizes is not None else np.float32(scales[i])
        matrix = _resizing(call, x.shape[x.axis(axis)], scale, target)
        x = _mapped(trace, x, x.axis(axis), matrix)
    return x


def _targets(call: Call, x: Activation, axes: list[int]) -> tuple[list[float], list[int] | None]:
    """Scales of the axes, or their sizes."""
    if call.node.op_type == "Upsample":
        given, sizes = call.attribute("scales"), None
        if given is None:
            given = call.constant(1)
    else:
        given, sizes = call.constant(1 if call.opset < 11 else 2), call.integers("", 3)
    scales = [] if given is None else [float(one) for one in np.asarray(given).reshape(-1)]
    sizes = sizes or None
    if len(sizes or scales) != len(axes):
        raise call.unsupported("neither a scale nor a size of every axis")
    return scales, sizes


def _resizing(call: Call, size: int, scale: np.float32 | None, target: int) -> Array:
    """What resizing does to one axis, ``size x target``: the identity matrix, resized.

    By ONNX's reference evaluator, which rounds no weight to float32.
    """
    names = {"mode": "nearest", "coordinate_transformation_mode": None, "nearest_mode": None}
    names |= {"cubic_coeff_a": None, "exclude_outside": None, "antialias": None}
    kept = {name: call.attribute(name, default) for name, default in names.items()}
    if call.opset < 11:  # the rules before them, which Upsample has, too
        kept |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    attributes = {name: value for name, value in kept.items() if value is not None}
    if scale is None:
        inputs, wanted = ["x", "", "", "sizes"], np.asarray([size, target], np.int64)
    else:
        inputs, wanted = ["x", "", "scales"], np.asarray([1, scale], np.float32)
    node = helper.make_node("Resize", inputs, ["y"], **attributes)
    values: list[Array | None] = [np.eye(size), *([None] * (len(inputs) - 2)), wanted]
    (matrix,) = fold(node, values, max(call.opset, 13))
    return matrix


def _mapped(trace: Trace, x: Activation, axis: int, matrix: Array) -> Activation:
    """A matrix (rows: old elements, columns: new ones) applied along one axis."""
    picked = matrix.argmax(0)
    if np.array_equal(matrix, np.eye(len(matrix))[:, picked]):
        return pick(trace, x, axis, picked)
    order = [place for place in range(x.rank) if place != axis]
    turned, _ = trace.along(trace.transpose(x, (*order, axis)), -1)
    found = trace.emit(Linear(tensor(matrix.T)), turned)
    order.append(axis)
    return trace.transpose(found, tuple(order.index(place) for place in range(x.rank)))


@reads("CumSum")
def _cumulative_sum(call: Call) -> Value:
    """A triangular matrix."""
    x, axis = call.activation(), call.integers("", 1)
    if axis is None:
        raise call.unsupported("no axis")
    place = x.axis(axis[0])
    refuse_huge(x.shape[place] ** 2)
    matrix = np.triu(np.ones((x.shape[place],) * 2), 1 if call.attribute("exclusive", 0) else 0)
    return _mapped(call.trace, x, place, matrix.T if call.attribute("reverse", 0) else matrix)


@reads("DepthToSpace")
def _depth_to_space(call: Call) -> Value:
    x, trace, size = call.activation(), call.trace, int(call.attribute("blocksize"))
    first, channels, height, width = x.shape
    if call.attribute("mode", "DCR") == "CRD":
        shape, order = (channels // size**2, size, size), (0, 1, 4, 2, 5, 3)
    else:
        shape, order = (size, size, channels // size**2), (0, 3, 4, 1, 5, 2)
    apart = trace.reshape(x, (first, *shape, height, width))
    joined = trace.transpose(apart, order)
    return trace.reshape(joined, (first, channels // size**2, height * size, width * size))


@reads("SpaceToDepth")
def _space_to_depth(call: Call) -> Value:
    x, trace, size = call.activation(), call.trace, int(call.attribute("blocksize"))
    first, channels, height, width = x.shape
    parts = (first, channels, height // size, size, width // size, size)
    turned = trace.transpose(trace.reshape(x, parts), (0, 3, 5, 1, 2, 4))
    return trace.reshape(turned, (first, channels * size**2, height // size, width // size))

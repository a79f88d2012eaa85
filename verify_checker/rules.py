"""Section 2, continued: what each ONNX operator is, from the ONNX operator specification.

What is not known is refused. Shapes here do not have the batch axis, which is the first one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verify_checker import operations as ops
from verify_checker.operations import Frame, Node, Places, Shape
from verify_checker.problems import Refused, refuse
from verify_checker.rounding import Array, U, above

LARGEST_VALUE = 1 << 24


@dataclass(frozen=True, eq=False)
class Call:
    """One node of the file.

    Attributes:
        kind, name, inputs, attributes: as the file has them.
        constants: of the file, by name.
        values: its inputs that are no constants.
        last: whether it is the file's output.
        version: of the file's operators.
    """

    kind: str
    name: str
    inputs: list[str]
    attributes: dict[str, Any]
    constants: dict[str, np.ndarray]
    values: list[Node]
    last: bool
    version: int

    @property
    def shape(self) -> Shape:
        """Of its first value."""
        return self.values[0].shape

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def has(self, place: int) -> bool:
        """Whether it has an input at ``place``."""
        return len(self.inputs) > place and self.inputs[place] != ""

    def constant(self, place: int) -> np.ndarray:
        """The constant that it has as its input ``place``."""
        if not self.has(place) or self.inputs[place] not in self.constants:
            raise Refused(f"{self.kind} without a constant as input {place}")
        return self.constants[self.inputs[place]]

    def integers(self, attribute: str, place: int) -> list[int]:
        """Integers that older files have as an attribute and newer ones as an input."""
        if attribute not in self.attributes:
            return [int(v) for v in self.constant(place).ravel()]
        return [int(v) for v in np.ravel(self.attributes[attribute])]


Made = tuple[ops.Operation | None, Shape]
"""An operation, or None for the same value under another name, and its value's shape."""


def _floats(value: np.ndarray) -> Array:
    refuse(value.dtype != np.float64, "integers where weights are expected")
    return value


def _fitted(value: np.ndarray, shape: Shape) -> Array:
    """A constant broadcast to a value of that shape; it may have a batch axis of length 1."""
    found = _floats(value)
    if found.ndim == len(shape) + 1 and found.shape[0] == 1:
        found = found[0]
    if found.ndim > len(shape) or np.broadcast_shapes(found.shape, shape) != shape:
        raise Refused(f"a constant of shape {value.shape} beside a value of shape {shape}")
    return np.ascontiguousarray(np.broadcast_to(found, shape))


def _normal(quotients: Array) -> Array:
    """Quotients whose rounding is relative: none has underflowed or overflowed."""
    if not np.all((np.abs(quotients) >= 2.0**-1000) & np.isfinite(quotients)):
        raise Refused("a quotient of constants that float64 cannot represent")
    return quotients


def _frame(call: Call, kernel: Shape) -> Frame:
    pads, auto = call.get("pads", [0, 0, 0, 0]), call.get("auto_pad", b"NOTSET")
    refuse(auto != b"NOTSET" and (auto != b"VALID" or any(pads)), f"{call.kind} with auto_pad")
    stride, dilation = call.get("strides", [1, 1]), call.get("dilations", [1, 1])
    lengths = [len(each) for each in (call.shape, kernel, stride, dilation, pads)]
    refuse(lengths != [3, 2, 2, 2, 4] or min(pads) < 0, f"{call.kind} of other than two dimensions")
    refuse(min(*stride, *dilation) < 1, f"{call.kind} with a stride below 1")
    spans = [
        (call.shape[a + 1] + pads[a] + pads[a + 2] - dilation[a] * (kernel[a] - 1) - 1) // stride[a]
        for a in range(2)
    ]
    refuse(min(spans) < 0, f"{call.kind} without outputs")
    made = spans[0] + 1, spans[1] + 1
    return Frame(kernel, tuple(stride), tuple(dilation), tuple(pads), made)


def _conv(call: Call) -> Made:
    weight, shape = _floats(call.constant(1)), call.shape
    frame, groups = _frame(call, weight.shape[2:]), call.get("group", 1)
    (outputs, inputs), kernel, pads = weight.shape[:2], frame.kernel, frame.pads
    refuse(tuple(call.get("kernel_shape", kernel)) != kernel, "a kernel_shape unlike its weight's")
    refuse(outputs % groups or inputs * groups != shape[0], "channels that do not fit")
    if max(pads[0], pads[2]) >= kernel[0] or max(pads[1], pads[3]) >= kernel[1]:
        raise Refused("a convolution padded by more than its kernel")
    made = (outputs, *frame.spans)
    bias = _floats(call.constant(2)) if call.has(2) else np.zeros(outputs)
    bias = np.ascontiguousarray(np.broadcast_to(bias.reshape(outputs, 1, 1), made))
    weight = np.ascontiguousarray(weight.reshape(groups, outputs // groups, -1))
    return ops.Conv(weight=weight, frame=frame, input_shape=shape, shape=made, bias=bias), made


def _gemm(call: Call) -> Made:
    weight = _floats(call.constant(1))
    if {call.get("alpha", 1.0), call.get("beta", 1.0)} != {1.0} or call.get("transA", 0):
        raise Refused("Gemm with alpha, beta or transA")
    weight = weight.T if call.get("transB", 0) else weight
    made = (weight.shape[1],)
    refuse(weight.ndim != 2 or call.shape != weight.shape[:1], "Gemm whose sizes do not fit")
    bias = _fitted(call.constant(2), made) if call.has(2) else 0.0
    return ops.Dense(weight=np.ascontiguousarray(weight), bias=bias), made


def _matmul(call: Call) -> Made:
    if len(call.values) == 2:
        (*one, _, k), (*other, size, _) = call.shape, call.values[1].shape
        refuse(one != other or k != size, "MatMul of two values whose sizes do not fit")
        return ops.Product(), (*call.shape[:-1], call.values[1].shape[-1])
    weight, shape = _floats(call.constant(1)), call.shape
    if weight.ndim != 2 or not shape or shape[-1] != weight.shape[0]:
        raise Refused("MatMul whose sizes do not fit")
    return ops.Dense(weight=weight), (*shape[:-1], weight.shape[1])


def _beside(call: Call) -> tuple[Array, bool]:
    """The constant beside the only value, broadcast to it, and whether the value is on the left."""
    left = call.inputs[0] not in call.constants
    return _fitted(call.constant(1 if left else 0), call.shape), left


def _join(call: Call) -> Made:
    sign, shape = 1.0 if call.kind == "Add" else -1.0, call.shape
    if len(call.values) == 2:
        refuse(call.values[1].shape != shape, f"{call.kind} of values of different shapes")
        return ops.Join(sign), shape
    given, left = _beside(call)
    if left:
        return ops.Scale(factor=np.ones(shape), bias=sign * given), shape
    return ops.Scale(factor=np.full(shape, sign), bias=given), shape


def _product(call: Call) -> Made:
    refuse(len(call.values) == 2, f"{call.kind} of two values")
    given, left = _beside(call)
    if call.kind == "Mul":
        return ops.Scale(factor=given), call.shape
    refuse(not left or not np.all(given != 0), "Div by a value or by zero")
    return ops.Scale(factor=_normal(1.0 / given), weight_roundings=1), call.shape


def _batch_norm(call: Call) -> Made:
    shape = call.shape
    refuse(call.get("training_mode", 0), "BatchNormalization in training mode")
    spread = (-1,) + (1,) * (len(shape) - 1)
    scale, shift, mean, variance = (
        _fitted(_floats(call.constant(k)).reshape(spread), shape) for k in range(1, 5)
    )
    # the attribute is a float32 number, exactly; the sum, root and quotient are three roundings
    root = np.sqrt(variance + float(call.get("epsilon", np.float32(1e-5))))
    refuse(not np.all(root > 0), "BatchNormalization with a variance of zero")
    factor = np.where(scale == 0, 0.0, _normal(np.where(scale == 0, 1.0, scale) / root))
    bias = shift - factor * mean
    error = above((np.abs(shift) + np.abs(factor * mean)) * (8 * U))
    return ops.Scale(factor=factor, bias=bias, bias_spread=error, weight_roundings=4), shape


def _pool(call: Call) -> Made:
    shape = call.shape
    if len(shape) != 3 or call.get("ceil_mode", 0):
        raise Refused(f"{call.kind} with ceil_mode or of other than two dimensions")
    if call.kind == "GlobalAveragePool":
        return _mean(shape, (1, 2), True)
    frame = _frame(call, tuple(call.attributes["kernel_shape"]))
    window, made = _windows(shape, frame), (shape[0], *frame.spans)
    if call.kind == "MaxPool":
        refuse((window < 0).all(1).any(), "MaxPool with a window of nothing")
        return ops.Maximum(window, shape, made), made
    count = np.full(len(window), len(window[0]), dtype=np.float64)
    if not call.get("count_include_pad", 0):
        count = (window >= 0).sum(1).astype(np.float64)
        refuse(not count.all(), "AveragePool with a window of nothing")
    return _averages(window, count, shape, made), made


def _windows(shape: Shape, frame: Frame) -> Places:
    """The places of the input in each window, ``P x k``; -1 is padding."""
    top, left, bottom, right = frame.pads
    if shape[0] * math.prod(frame.spans) * math.prod(frame.kernel) > LARGEST_VALUE:
        raise Refused("a pooling of unusual size")
    numbers = np.arange(math.prod(shape)).reshape(shape)
    numbers = np.pad(numbers, ((0, 0), (top, bottom), (left, right)), constant_values=-1)
    return np.stack([view.ravel() for _, _, view in frame.views(numbers, *frame.spans)], 1)


def _averages(window: Places, count: Array, shape: Shape, made: Shape) -> ops.Windows:
    return ops.Windows(
        window=window, factor=1.0 / count, input_shape=shape, shape=made, weight_roundings=1
    )


def _mean(shape: Shape, axes: tuple[int, ...], keep: bool) -> tuple[ops.Operation, Shape]:
    """Means over axes of a value."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    count = math.prod(shape[axis] for axis in axes)
    window = numbers.transpose(*kept, *axes).reshape(-1, count)
    made = tuple(1 if a in axes else n for a, n in enumerate(shape) if keep or a not in axes)
    return _averages(window, np.full(len(window), float(count)), shape, made), made


def _reduce_mean(call: Call) -> Made:
    shape = call.shape
    axes = tuple(_axis(a, len(shape)) for a in call.integers("axes", 1))
    if not axes:  # ONNX takes an empty list for all axes, the batch's too
        raise Refused("ReduceMean over no axes, which means all")
    return _mean(shape, axes, bool(call.get("keepdims", 1)))


def _axis(axis: int, rank: int) -> int:
    """An axis of the file, which counts the batch, as an axis of ``*V``."""
    found = axis + rank + 1 if axis < 0 else axis
    refuse(not 1 <= found <= rank, "an operation across the batch axis")
    return found - 1


def _reshape(call: Call) -> Made:
    shape = call.shape
    size = math.prod(shape)
    if call.kind == "Flatten":
        refuse(call.get("axis", 1) != 1, "Flatten of another axis than 1")
        return ops.Reshape((size,)), (size,)
    if call.kind == "Reshape":
        wanted = call.integers("shape", 1)
        refuse(call.get("allowzero", 0) or len(wanted) < 2, "Reshape with allowzero or to a vector")
        old = (1, *shape)
        whole = [old[n] if v == 0 else v for n, v in enumerate(wanted)]
        if -1 in whole:
            whole[whole.index(-1)] = size // -math.prod(whole)
        if whole[0] != 1 or math.prod(whole) != size or min(whole) < 1:
            raise Refused(f"Reshape of {shape} to {wanted}")
        return ops.Reshape(tuple(whole[1:])), tuple(whole[1:])
    axes, batch = tuple(call.integers("axes", 1)), np.broadcast_to(0.0, (2, *shape))
    found = np.squeeze(batch, axes) if call.kind == "Squeeze" else np.expand_dims(batch, axes)
    if not axes or len(found) != 2:
        raise Refused(f"{call.kind} of no axes, which means all, or of the batch axis")
    return ops.Reshape(found.shape[1:]), found.shape[1:]


def _chosen(shape: Shape, numbers: Places) -> ops.Windows:
    """Some numbers of the value, each at most once; -1 is zero."""
    flat = numbers.reshape(-1, 1)
    used = flat[flat >= 0]
    refuse(len(np.unique(used)) != len(used), "a number of a value that is taken twice")
    one = np.ones(len(flat))
    return ops.Windows(window=flat, factor=one, input_shape=shape, shape=numbers.shape)


def _transpose(call: Call) -> Made:
    shape = call.shape
    order = call.get("perm", list(range(len(shape), -1, -1)))
    refuse(order[0] != 0, "a transposition that moves the batch axis")
    moved = tuple(axis - 1 for axis in order[1:])
    made = tuple(shape[axis] for axis in moved)
    return ops.Reshape(made, moved), made


def _pad(call: Call) -> Made:
    shape = call.shape
    value = call.constant(2) if call.has(2) else call.get("value", 0.0)
    refuse(call.get("mode", b"constant") != b"constant" or np.any(value), "Pad by other than zeros")
    refuse(call.has(3), "Pad of listed axes")
    pads, rank = call.integers("pads", 1), len(shape) + 1
    if len(pads) != 2 * rank or pads[0] or pads[rank] or min(pads) < 0:
        raise Refused("Pad of the batch axis, or negative")
    numbers = np.arange(math.prod(shape)).reshape(shape)
    widths = [(pads[a], pads[rank + a]) for a in range(1, rank)]
    numbers = np.pad(numbers, widths, constant_values=-1)
    return _chosen(shape, numbers), numbers.shape


def _concat(call: Call) -> Made:
    """Values one after another, or one value with constants beside it, which are then a bias."""
    axis, shape = _axis(call.attributes["axis"], len(call.shape)), call.shape
    if len(call.values) == len(call.inputs):
        made = np.concatenate([np.zeros(value.shape) for value in call.values], axis).shape
        return ops.Concat(axis), made
    refuse(len(call.values) > 1, "Concat of several values and constants")
    parts = [_floats(call.constants.get(name, np.zeros((1, *shape)))) for name in call.inputs]
    refuse(any(len(part) != 1 for part in parts), "Concat with a constant of several instances")
    own = np.arange(math.prod(shape)).reshape(shape)
    pairs = zip(call.inputs, parts, strict=True)
    each = [np.full(p.shape[1:], -1) if name in call.constants else own for name, p in pairs]
    numbers = np.concatenate(each, axis)
    bias = np.concatenate([part[0] for part in parts], axis)
    return replace(_chosen(shape, numbers), bias=bias), numbers.shape


def _same(call: Call) -> Made:
    refuse(call.has(2), "Dropout that may be in training mode")
    return None, call.shape


def _softmax(call: Call) -> Made:
    """At the end, a softmax keeps the order of its numbers, and is left out."""
    shape, usual = call.shape, 1 if call.version < 13 else -1
    if not shape or call.get("axis", usual) not in (-1, len(shape)):
        raise Refused("Softmax over another axis than the last one")
    return None if call.last and len(shape) == 1 else ops.Softmax(), shape


def _kink(call: Call) -> Made:
    slope = 0.0 if call.kind == "Relu" else float(call.get("alpha", np.float32(0.01)))
    refuse(not 0 <= slope < 1, f"LeakyRelu with slope {slope}")
    return ops.Kink(slope), call.shape


def _smooth(call: Call) -> Made:
    refuse(call.get("alpha", 1.0) != 1.0, f"{call.kind} with alpha")
    return ops.Smooth(call.kind.lower()), call.shape


def _negated(call: Call) -> Made:
    return ops.Scale(factor=-np.ones(call.shape)), call.shape


_WINDOW = "auto_pad dilations kernel_shape pads strides"

_TABLE: tuple[tuple[str, Callable[[Call], Made], str], ...] = (
    ("Add Sub", _join, ""),
    ("AveragePool", _pool, f"{_WINDOW} ceil_mode count_include_pad"),
    ("BatchNormalization", _batch_norm, "epsilon momentum training_mode"),
    ("Concat", _concat, "axis"),
    ("Conv", _conv, f"{_WINDOW} group"),
    ("Dropout Identity", _same, "ratio seed"),
    ("Elu Exp Sigmoid Softplus Tanh", _smooth, "alpha"),
    ("Flatten", _reshape, "axis"),
    ("Gemm", _gemm, "alpha beta transA transB"),
    ("GlobalAveragePool", _pool, ""),
    ("LeakyRelu Relu", _kink, "alpha"),
    ("MatMul", _matmul, ""),
    ("MaxPool", _pool, f"{_WINDOW} ceil_mode storage_order"),
    ("Mul Div", _product, ""),
    ("Neg", _negated, ""),
    ("Pad", _pad, "mode pads value"),
    ("ReduceMean", _reduce_mean, "axes keepdims"),
    ("Reshape", _reshape, "shape allowzero"),
    ("Softmax", _softmax, "axis"),
    ("Squeeze Unsqueeze", _reshape, "axes"),
    ("Transpose", _transpose, "perm"),
)
RULES = {kind: (rule, known) for kinds, rule, known in _TABLE for kind in kinds.split()}
"""The operators that are known: what reads each, and the attributes that it may have."""

"""Section 3: from the bytes of an ONNX file to a :class:`Network`.

Only ``onnx`` parses the file; every operator's meaning is written here anew, from the ONNX operator
specification. What is not known is refused. The first axis of the input is the batch: shapes here
do not have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from verify_checker.operations import (
    Concat,
    Conv,
    Dense,
    Join,
    Kink,
    Maximum,
    Network,
    Node,
    Operation,
    Places,
    Reshape,
    Scale,
    Shape,
    Smooth,
    Windows,
)
from verify_checker.problems import Refused
from verify_checker.rounding import Array, U, above

LARGEST_FILE, LARGEST_VALUE, MOST_NODES = 1 << 30, 1 << 24, 10_000
OLDEST = 7
"""Before this version of ONNX's operators, constants were not broadcast as they are now."""

FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)


def read_network(data: bytes) -> Network:
    """The network of an ONNX file.

    Raises:
        Refused: it is no ONNX file, too large, or has something that is not known here.
    """
    if len(data) > LARGEST_FILE:
        raise Refused(f"network file of {len(data)} bytes")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # the parser's exceptions are of many kinds
        raise Refused(f"no ONNX file: {type(error).__name__}") from None
    try:
        return _Reader(model).network
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise Refused(f"an unusual ONNX file: {type(error).__name__}: {error}") from None


@dataclass
class _Call:
    """One node of the file."""

    kind: str
    name: str
    inputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
        if not versions or versions[0] < OLDEST:
            raise Refused(f"ONNX operators of version {versions[0] if versions else 'none'}")
        if model.functions or len(graph.node) > MOST_NODES or graph.sparse_initializer:
            raise Refused("functions, sparse weights, or too many nodes")
        self.constants = {t.name: _constant(t) for t in graph.initializer}
        inputs = [i for i in graph.input if i.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise Refused(f"{len(inputs)} inputs and {len(graph.output)} outputs")
        self.output, self.compares = graph.output[0].name, False
        self.nodes: list[Node] = []
        self.places: dict[str, int] = {}
        self._add(inputs[0].name, None, (), _input_shape(inputs[0]))
        for proto in graph.node:
            self._read(proto)
        if self.places.get(self.output) is None:
            raise Refused("an output that does not depend on the input")
        self.network = _pruned(self.nodes, self.places[self.output], self.compares)

    def _add(
        self, name: str, operation: Operation | None, inputs: tuple[int, ...], shape: Shape
    ) -> None:
        if math.prod(shape) > LARGEST_VALUE or min(shape, default=1) < 1:
            raise Refused(f"a value of shape {shape}")
        self.places[name] = len(self.nodes)
        self.nodes.append(Node(name, operation, inputs, shape))

    def _read(self, proto: onnx.NodeProto) -> None:
        if proto.domain not in ("", "ai.onnx"):
            raise Refused(f"operator {proto.domain}.{proto.op_type}")
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        call = _Call(proto.op_type, proto.output[0], list(proto.input), attributes)
        if any(proto.output[1:]):
            raise Refused(f"{call.kind} with several outputs")
        if call.name in self.places or call.name in self.constants:
            raise Refused(f"two values of the name {call.name!r}")
        if call.kind == "Constant":
            self.constants[call.name] = _constant(attributes["value"])
            return
        rule, known = _RULES.get(call.kind, (None, ""))
        moving = [self.places[name] for name in call.inputs if name in self.places]
        if rule is None or not moving:
            raise Refused(f"operator {call.kind}" + ("" if moving else " of constants"))
        for attribute in attributes:
            if attribute not in known.split():
                raise Refused(f"{call.kind} with {attribute}")
        if any(n and n not in self.places and n not in self.constants for n in call.inputs):
            raise Refused(f"{call.kind} of an unknown value")
        operation, shape = rule(self, call, [self.nodes[place] for place in moving])
        if operation is None:  # the same value under another name
            self.places[call.name] = moving[0]
            return
        self._add(call.name, operation, tuple(moving), shape)

    def constant(self, call: _Call, place: int) -> np.ndarray:
        """The constant that an operator has as its input ``place``."""
        name = call.inputs[place] if place < len(call.inputs) else ""
        if name not in self.constants:
            raise Refused(f"{call.kind} without a constant as input {place}")
        return self.constants[name]

    def integers(self, call: _Call, attribute: str, place: int) -> list[int]:
        """Integers that older files have as an attribute and newer ones as an input."""
        if attribute in call.attributes:
            value = call.attributes[attribute]
            return [int(v) for v in (value if hasattr(value, "__iter__") else [value])]
        return [int(v) for v in self.constant(call, place).ravel()]


def _constant(tensor: onnx.TensorProto) -> np.ndarray:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise Refused("weights in another file")
    allowed = (*FLOATS, onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    if tensor.data_type not in allowed:
        raise Refused(f"a constant of ONNX type {tensor.data_type}")
    if math.prod(tensor.dims) > LARGEST_FILE // 4:
        raise Refused(f"a constant of shape {tuple(tensor.dims)}")
    value = numpy_helper.to_array(tensor)
    if tensor.data_type not in FLOATS:
        return value
    if not np.all(np.isfinite(value)):
        raise Refused("a constant that is not finite")
    return value.astype(np.float64)


def _input_shape(info: onnx.ValueInfoProto) -> Shape:
    kind = info.type.tensor_type
    dims = kind.shape.dim
    if kind.elem_type not in FLOATS or len(dims) < 2:
        raise Refused("an input that is no batch of real numbers")
    if dims[0].HasField("dim_value") and dims[0].dim_value not in (-1, 0, 1):
        raise Refused(f"an input for batches of {dims[0].dim_value}")
    if any(not d.HasField("dim_value") or d.dim_value < 1 for d in dims[1:]):
        raise Refused("an input whose shape is open")
    return tuple(d.dim_value for d in dims[1:])


def _pruned(nodes: list[Node], output: int, compares: bool) -> Network:
    """The nodes that the output depends on, the output last."""
    needed = {output}
    for place in range(output, -1, -1):
        if place in needed:
            needed.update(nodes[place].inputs)
    if 0 not in needed or output == 0:
        raise Refused("an output that does not depend on the input")
    kept = sorted(needed)
    new = {old: place for place, old in enumerate(kept)}
    return Network(
        tuple(
            Node(n.name, n.operation, tuple(new[i] for i in n.inputs), n.shape)
            for n in (nodes[old] for old in kept)
        ),
        compares,
    )


Rule = Callable[[_Reader, _Call, list[Node]], tuple[Operation | None, Shape]]


def _floats(value: np.ndarray) -> Array:
    if value.dtype != np.float64:
        raise Refused("integers where weights are expected")
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


def _pairs(call: _Call) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]:
    """Strides, dilations and pads of a 2-D window."""
    if call.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Refused(f"{call.kind} with auto_pad")
    stride, dilation = call.get("strides", [1, 1]), call.get("dilations", [1, 1])
    pads = call.get("pads", [0, 0, 0, 0])
    if call.get("auto_pad", b"NOTSET") == b"VALID" and any(pads):
        raise Refused(f"{call.kind} with auto_pad and pads")
    if len(stride) != 2 or len(dilation) != 2 or len(pads) != 4 or min(pads) < 0:
        raise Refused(f"{call.kind} of other than two dimensions")
    if min(*stride, *dilation) < 1:
        raise Refused(f"{call.kind} with a stride below 1")
    return (stride[0], stride[1]), (dilation[0], dilation[1]), tuple(pads)


def _spans(
    size: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, ...],
) -> Shape:
    """Height and width of what windows make."""
    found = []
    for axis in range(2):
        whole = size[axis] + pads[axis] + pads[axis + 2]
        found.append((whole - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1)
    return tuple(found)


def _conv(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    weight, shape = _floats(reader.constant(call, 1)), values[0].shape
    if weight.ndim != 4 or len(shape) != 3:
        raise Refused("a convolution of other than two dimensions")
    stride, dilation, pads = _pairs(call)
    groups, kernel = call.get("group", 1), weight.shape[2:]
    outputs, inputs = weight.shape[:2]
    if call.get("kernel_shape", list(kernel)) != list(kernel):
        raise Refused("a convolution whose kernel_shape is not its weight's")
    if outputs % groups or inputs * groups != shape[0]:
        raise Refused("a convolution whose channels do not fit")
    made = (outputs, *_spans(shape[1:], kernel, stride, dilation, pads))
    if max(pads[0], pads[2]) >= kernel[0] or max(pads[1], pads[3]) >= kernel[1]:
        raise Refused("a convolution padded by more than its kernel")
    if min(made) < 1:
        raise Refused("a convolution without outputs")
    bias: Array | float = 0.0
    if len(call.inputs) > 2 and call.inputs[2]:
        given = _floats(reader.constant(call, 2)).reshape(outputs, 1, 1)
        bias = np.ascontiguousarray(np.broadcast_to(given, made))
    operation = Conv(
        weight=np.ascontiguousarray(weight.reshape(groups, outputs // groups, -1)),
        kernel=(kernel[0], kernel[1]),
        stride=stride,
        pads=(pads[0], pads[1], pads[2], pads[3]),
        dilation=dilation,
        input_shape=shape,
        shape=made,
        bias=bias,
    )
    return operation, made


def _gemm(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    weight = _floats(reader.constant(call, 1))
    if call.get("alpha", 1.0) != 1.0 or call.get("transA", 0) or weight.ndim != 2:
        raise Refused("Gemm with alpha or transA")
    weight = weight.T if call.get("transB", 0) else weight
    made = (weight.shape[1],)
    if values[0].shape != (weight.shape[0],):
        raise Refused("Gemm whose sizes do not fit")
    bias: Array | float = 0.0
    if len(call.inputs) > 2 and call.inputs[2]:
        if call.get("beta", 1.0) != 1.0:
            raise Refused("Gemm with beta")
        bias = _fitted(reader.constant(call, 2), made)
    return Dense(weight=np.ascontiguousarray(weight), bias=bias), made


def _matmul(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    if call.inputs[0] not in reader.places:
        raise Refused("MatMul with its constant on the left")
    weight, shape = _floats(reader.constant(call, 1)), values[0].shape
    if weight.ndim != 2 or not shape or shape[-1] != weight.shape[0]:
        raise Refused("MatMul whose sizes do not fit")
    return Dense(weight=weight), (*shape[:-1], weight.shape[1])


def _join(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    sign = 1.0 if call.kind == "Add" else -1.0
    shape = values[0].shape
    if len(values) == 2:
        if values[1].shape != shape:
            raise Refused(f"{call.kind} of values of different shapes")
        return Join(sign), shape
    left = call.inputs[0] in reader.places
    given = _fitted(reader.constant(call, 1 if left else 0), shape)
    ones = np.ones(shape)
    if left:
        return Scale(factor=ones, bias=sign * given), shape
    return Scale(factor=sign * ones, bias=given), shape


def _product(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    if len(values) == 2:
        raise Refused(f"{call.kind} of two values")
    shape, left = values[0].shape, call.inputs[0] in reader.places
    given = _fitted(reader.constant(call, 1 if left else 0), shape)
    if call.kind == "Mul":
        return Scale(factor=given), shape
    if not left or not np.all(given != 0):
        raise Refused("Div by a value or by zero")
    return Scale(factor=_normal(1.0 / given), weight_roundings=1), shape


def _batch_norm(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    shape = values[0].shape
    if call.get("training_mode", 0):
        raise Refused("BatchNormalization in training mode")
    spread = (-1,) + (1,) * (len(shape) - 1)
    scale, shift, mean, variance = (
        _fitted(_floats(reader.constant(call, k)).reshape(spread), shape) for k in range(1, 5)
    )
    # the attribute is a float32 number, exactly; the sum, root and quotient are three roundings
    root = np.sqrt(variance + float(call.get("epsilon", np.float32(1e-5))))
    if not np.all(root > 0):
        raise Refused("BatchNormalization with a variance of zero")
    factor = np.where(scale == 0, 0.0, _normal(np.where(scale == 0, 1.0, scale) / root))
    bias = shift - factor * mean
    error = above((np.abs(shift) + np.abs(factor * mean)) * (8 * U))
    return Scale(factor=factor, bias=bias, bias_spread=error, weight_roundings=4), shape


def _pool(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    shape = values[0].shape
    if len(shape) != 3 or call.get("ceil_mode", 0):
        raise Refused(f"{call.kind} with ceil_mode or of other than two dimensions")
    if call.kind == "GlobalAveragePool":
        return _mean(shape, (1, 2), True)
    kernel = tuple(call.attributes["kernel_shape"])
    stride, dilation, pads = _pairs(call)
    window, made = _windows(shape, kernel, stride, dilation, pads)
    if call.kind == "MaxPool":
        if (window < 0).all(1).any():
            raise Refused("MaxPool with a window of nothing")
        return Maximum(window, shape, made), made
    count = np.full(len(window), len(window[0]), dtype=np.float64)
    if not call.get("count_include_pad", 0):
        count = (window >= 0).sum(1).astype(np.float64)
        if not count.all():
            raise Refused("AveragePool with a window of nothing")
    return _averages(window, count, shape, made), made


def _windows(
    shape: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, ...],
) -> tuple[Places, Shape]:
    """The places of the input in each window, ``P x k``; -1 is padding."""
    made = (shape[0], *_spans(shape[1:], kernel, stride, dilation, pads))
    if min(made) < 1 or math.prod(made) * math.prod(kernel) > LARGEST_VALUE:
        raise Refused("a pooling of unusual size")
    numbers = np.arange(math.prod(shape)).reshape(shape)
    wide = ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]))
    numbers = np.pad(numbers, wide, constant_values=-1)
    columns = []
    for y in range(kernel[0]):
        for x in range(kernel[1]):
            top, left = y * dilation[0], x * dilation[1]
            rows = slice(top, top + (made[1] - 1) * stride[0] + 1, stride[0])
            across = slice(left, left + (made[2] - 1) * stride[1] + 1, stride[1])
            columns.append(numbers[:, rows, across].ravel())
    return np.stack(columns, 1), made


def _averages(window: Places, count: Array, shape: Shape, made: Shape) -> Windows:
    return Windows(
        window=window, factor=1.0 / count, input_shape=shape, shape=made, weight_roundings=1
    )


def _mean(shape: Shape, axes: tuple[int, ...], keep: bool) -> tuple[Operation, Shape]:
    """Means over axes of a value."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    count = math.prod(shape[axis] for axis in axes)
    window = numbers.transpose(*kept, *axes).reshape(-1, count)
    made = tuple(1 if a in axes else n for a, n in enumerate(shape) if keep or a not in axes)
    return _averages(window, np.full(len(window), float(count)), shape, made), made


def _reduce_mean(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    shape = values[0].shape
    axes = tuple(_axis(a, len(shape)) for a in reader.integers(call, "axes", 1))
    if not axes:  # ONNX takes an empty list for all axes, the batch's too
        raise Refused("ReduceMean over no axes, which means all")
    return _mean(shape, axes, bool(call.get("keepdims", 1)))


def _axis(axis: int, rank: int) -> int:
    """An axis of the file, which counts the batch, as an axis of ``*V``."""
    found = axis + rank + 1 if axis < 0 else axis
    if not 1 <= found <= rank:
        raise Refused("an operation across the batch axis")
    return found - 1


def _reshape(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    shape = values[0].shape
    size = math.prod(shape)
    if call.kind == "Flatten":
        if call.get("axis", 1) != 1:
            raise Refused("Flatten of another axis than 1")
        return Reshape((size,)), (size,)
    if call.kind == "Reshape":
        wanted = reader.integers(call, "shape", 1)
        if call.get("allowzero", 0) or len(wanted) < 2:
            raise Refused("Reshape with allowzero, or to a vector")
        old = (1, *shape)
        whole = [old[n] if v == 0 else v for n, v in enumerate(wanted)]
        if -1 in whole:
            whole[whole.index(-1)] = size // -math.prod(whole)
        if whole[0] != 1 or math.prod(whole) != size or min(whole) < 1:
            raise Refused(f"Reshape of {shape} to {wanted}")
        return Reshape(tuple(whole[1:])), tuple(whole[1:])
    axes = reader.integers(call, "axes", 1)
    if call.kind == "Squeeze":
        gone = {_axis(a, len(shape)) for a in axes}
        if not gone:
            raise Refused("Squeeze of no axes, which means all")
        if any(shape[a] != 1 for a in gone):
            raise Refused("Squeeze of an axis that is longer than 1")
        made = tuple(n for a, n in enumerate(shape) if a not in gone)
    else:
        rank = len(shape) + len(axes)
        new = {_axis(a, rank) for a in axes}
        rest = iter(shape)
        made = tuple(1 if a in new else next(rest) for a in range(rank))
    return Reshape(made), made


def _chosen(shape: Shape, numbers: Places, made: Shape) -> tuple[Operation, Shape]:
    """Some numbers of the value, each at most once; -1 is zero."""
    flat = numbers.reshape(-1, 1)
    used = flat[flat >= 0]
    if len(np.unique(used)) != len(used):
        raise Refused("a number of a value that is taken twice")
    one = np.ones(len(flat))
    return Windows(window=flat, factor=one, input_shape=shape, shape=made), made


def _transpose(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    shape = values[0].shape
    order = call.get("perm", list(range(len(shape), -1, -1)))
    if order[0] != 0:
        raise Refused("a transposition that moves the batch axis")
    numbers = np.arange(math.prod(shape)).reshape(shape).transpose([axis - 1 for axis in order[1:]])
    return _chosen(shape, numbers, numbers.shape)


def _pad(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    shape = values[0].shape
    if call.get("mode", b"constant") != b"constant" or call.get("value", 0.0) != 0:
        raise Refused("Pad with other than zeros")
    if len(call.inputs) > 2 and call.inputs[2] and np.any(reader.constant(call, 2) != 0):
        raise Refused("Pad with other than zeros")
    if len(call.inputs) > 3 and call.inputs[3]:
        raise Refused("Pad of listed axes")
    pads, rank = reader.integers(call, "pads", 1), len(shape) + 1
    if len(pads) != 2 * rank or pads[0] or pads[rank] or min(pads) < 0:
        raise Refused("Pad of the batch axis, or negative")
    numbers = np.arange(math.prod(shape)).reshape(shape)
    widths = [(pads[a], pads[rank + a]) for a in range(1, rank)]
    numbers = np.pad(numbers, widths, constant_values=-1)
    return _chosen(shape, numbers, numbers.shape)


def _concat(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    if len(values) != len(call.inputs):
        raise Refused("Concat with a constant")
    axis = _axis(call.attributes["axis"], len(values[0].shape))
    made = list(values[0].shape)
    made[axis] = sum(v.shape[axis] for v in values)
    for v in values:
        if v.shape[:axis] + v.shape[axis + 1 :] != tuple(made[:axis] + made[axis + 1 :]):
            raise Refused("Concat of values that do not fit")
    return Concat(axis), tuple(made)


def _same(reader: _Reader, call: _Call, values: list[Node]) -> tuple[None, Shape]:
    if len(call.inputs) > 2 and call.inputs[2]:
        raise Refused("Dropout that may be in training mode")
    return None, values[0].shape


def _softmax(reader: _Reader, call: _Call, values: list[Node]) -> tuple[None, Shape]:
    """A softmax at the end keeps the order of its numbers, and is left out."""
    if (
        call.name != reader.output
        or len(values[0].shape) != 1
        or call.get("axis", 1) not in (1, -1)
    ):
        raise Refused("operator Softmax inside a network")
    reader.compares = True
    return None, values[0].shape


def _kink(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    slope = 0.0 if call.kind == "Relu" else float(call.get("alpha", np.float32(0.01)))
    if not 0 <= slope < 1:
        raise Refused(f"LeakyRelu with slope {slope}")
    return Kink(slope), values[0].shape


def _smooth(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    return Smooth(call.kind.lower()), values[0].shape


def _negated(reader: _Reader, call: _Call, values: list[Node]) -> tuple[Operation, Shape]:
    return Scale(factor=-np.ones(values[0].shape)), values[0].shape


_WINDOW = "auto_pad dilations kernel_shape pads strides"

_RULES: dict[str, tuple[Rule, str]] = {
    "Add": (_join, ""),
    "AveragePool": (_pool, f"{_WINDOW} ceil_mode count_include_pad"),
    "BatchNormalization": (_batch_norm, "epsilon momentum training_mode"),
    "Concat": (_concat, "axis"),
    "Conv": (_conv, f"{_WINDOW} group"),
    "Div": (_product, ""),
    "Dropout": (_same, "ratio seed"),
    "Flatten": (_reshape, "axis"),
    "Gemm": (_gemm, "alpha beta transA transB"),
    "GlobalAveragePool": (_pool, ""),
    "Identity": (_same, ""),
    "LeakyRelu": (_kink, "alpha"),
    "MatMul": (_matmul, ""),
    "MaxPool": (_pool, f"{_WINDOW} ceil_mode storage_order"),
    "Mul": (_product, ""),
    "Neg": (_negated, ""),
    "Pad": (_pad, "mode pads value"),
    "ReduceMean": (_reduce_mean, "axes keepdims"),
    "Relu": (_kink, ""),
    "Reshape": (_reshape, "shape allowzero"),
    "Sigmoid": (_smooth, ""),
    "Softmax": (_softmax, "axis"),
    "Squeeze": (_reshape, "axes"),
    "Sub": (_join, ""),
    "Tanh": (_smooth, ""),
    "Transpose": (_transpose, "perm"),
    "Unsqueeze": (_reshape, "axes"),
}
"""The operators that are known: what reads each, and the attributes that it may have."""

"""Section 2, continued: from the bytes of an ONNX file to a :class:`Network`.

Only ``onnx`` parses the file. The first axis of the input is the batch, of one instance; shapes do
not have it. What operators make of constants alone, such as shapes, is computed here.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from verify_checker import operations as ops
from verify_checker.operations import Network, Node, Shape
from verify_checker.problems import Refused, refuse
from verify_checker.rules import LARGEST_VALUE, RULES, Call

LARGEST_FILE, MOST_NODES = 1 << 30, 10_000
OLDEST = 7
"""Before this version of ONNX's operators, constants were not broadcast as they are now."""

_T = onnx.TensorProto
FLOATS = (_T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.BFLOAT16)


def read_network(data: bytes) -> Network:
    """The network of an ONNX file.

    Raises:
        Refused: it is no ONNX file, too large, or has something that is not known here.
    """
    refuse(len(data) > LARGEST_FILE, f"network file of {len(data)} bytes")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # the parser's exceptions are of many kinds
        raise Refused(f"no ONNX file: {type(error).__name__}") from None
    try:
        return _Reader(model).network
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise Refused(f"an unusual ONNX file: {type(error).__name__}: {error}") from None


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
        self.version = versions[0]
        self.nodes: list[Node] = []
        self.places: dict[str, int] = {}
        self._add(inputs[0].name, None, (), _input_shape(inputs[0]))
        for proto in graph.node:
            self._read(proto)
        refuse(self.output not in self.places, "an output that does not depend on the input")
        self.network = _pruned(self.nodes, self.places[self.output], self.compares)

    def _add(
        self, name: str, operation: ops.Operation | None, inputs: tuple[int, ...], shape: Shape
    ) -> None:
        if math.prod(shape) > LARGEST_VALUE or min(shape, default=1) < 1:
            raise Refused(f"a value of shape {shape}")
        self.places[name] = len(self.nodes)
        self.nodes.append(Node(name, operation, inputs, shape))

    def _read(self, proto: onnx.NodeProto) -> None:
        refuse(proto.domain not in ("", "ai.onnx"), f"operator {proto.domain}.{proto.op_type}")
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        kind, name, inputs = proto.op_type, proto.output[0], list(proto.input)
        moving = [self.places[each] for each in inputs if each in self.places]
        values, last = [self.nodes[place] for place in moving], name == self.output
        call = Call(kind, name, inputs, attributes, self.constants, values, last, self.version)
        refuse(any(proto.output[1:]), f"{kind} with several outputs")
        refuse(name in self.places or name in self.constants, f"two values of the name {name!r}")
        if any(each and each not in self.places and each not in self.constants for each in inputs):
            raise Refused(f"{kind} of an unknown value")
        if kind == "Shape" and values and not attributes:
            self.constants[name] = np.array([1, *call.shape])
            return
        if not moving:
            self.constants[name] = _folded(call)
            return
        rule, known = RULES.get(kind, (None, ""))
        if rule is None:
            raise Refused(f"operator {kind}")
        for attribute in attributes:
            refuse(attribute not in known.split(), f"{kind} with {attribute}")
        operation, shape = rule(call)
        if operation is None:  # the same value under another name
            self.places[name] = moving[0]
            self.compares |= kind == "Softmax"
        else:
            self._add(name, operation, tuple(moving), shape)


def _folded(call: Call) -> np.ndarray:
    """What an operator makes of constants; only what needs no rounding is known."""
    values = [call.constants[name] for name in call.inputs]
    if call.kind == "Constant":
        return _constant(call.attributes["value"])
    if call.kind == "Identity":
        return values[0]
    if call.kind == "Gather":
        found = np.take(values[0], values[1], call.get("axis", 0))
    elif call.kind == "Concat":
        found = np.concatenate(values, call.attributes["axis"])
    elif call.kind == "Unsqueeze":
        found = np.expand_dims(values[0], call.integers("axes", 1))
    elif call.kind == "ConstantOfShape" and 0 <= math.prod(values[0].tolist()) <= LARGEST_VALUE:
        value = _constant(call.attributes["value"])
        found = np.full(values[0], value.item(), value.dtype)
    elif call.kind == "Slice" and values[0].ndim == 1 and len(values) < 5:
        (first,), (end,) = call.integers("starts", 1), call.integers("ends", 2)
        found = values[0][first:end]
    elif call.kind == "Add" and not all(value.any() for value in values):
        found = values[0] + values[1]
    else:
        raise Refused(f"operator {call.kind} of constants")
    refuse(found.size > LARGEST_VALUE, f"a constant of shape {found.shape}")
    return found


def _constant(tensor: onnx.TensorProto) -> np.ndarray:
    refuse(tensor.data_location == onnx.TensorProto.EXTERNAL, "weights in another file")
    allowed = (*FLOATS, onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    refuse(tensor.data_type not in allowed, f"a constant of ONNX type {tensor.data_type}")
    refuse(math.prod(tensor.dims) > LARGEST_FILE // 4, f"a constant of shape {tuple(tensor.dims)}")
    value = numpy_helper.to_array(tensor)
    if tensor.data_type not in FLOATS:
        return value
    refuse(not np.all(np.isfinite(value)), "a constant that is not finite")
    return value.astype(np.float64)


def _input_shape(info: onnx.ValueInfoProto) -> Shape:
    kind = info.type.tensor_type
    dims = kind.shape.dim
    refuse(kind.elem_type not in FLOATS or len(dims) < 2, "an input that is no batch of reals")
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
    refuse(0 not in needed or output == 0, "an output that does not depend on the input")
    kept = sorted(needed)
    new = {old: place for place, old in enumerate(kept)}
    chosen = (nodes[old] for old in kept)
    found = (Node(n.name, n.operation, tuple(new[i] for i in n.inputs), n.shape) for n in chosen)
    return Network(tuple(found), compares)

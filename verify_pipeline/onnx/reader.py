"""Read an ONNX model as a graph of the package's own operations."""

from __future__ import annotations

import math

import numpy as np
import torch
from onnx import ModelProto, NodeProto

from verify_pipeline.errors import NetworkError
from verify_pipeline.network.graph import Graph
from verify_pipeline.onnx.constants import fold, foldable
from verify_pipeline.onnx.model_file import (
    Array,
    Signature,
    initializers,
    opset_of,
    refuse_nan,
    signature,
)
from verify_pipeline.onnx.operators import OPERATORS, Call, unsupported_operator
from verify_pipeline.onnx.operators.shapes import cut, join
from verify_pipeline.onnx.simplify import simplify
from verify_pipeline.onnx.trace import Activation, Trace, Value

# What a reader of an operator, or ONNX's reference evaluator, meets in a file that contradicts
# itself: shapes that do not fit, axes out of range, missing inputs, numbers too large.
CONTRADICTIONS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_graph(model: ModelProto, source: str) -> Graph:
    """The network that ``model`` computes for one input, as a graph for batches, in float64.

    Args:
        model: with its functions inlined and all weights in it.
        source: how messages name the file.

    Raises:
        UnsupportedOperatorError: an operator, or a form of it, that no reader takes.
        NetworkError: contradictions in the file, a NaN or infinite weight, an output that does not
            depend on the input.
    """
    # a broken file's overflows and NaN are refused where they end, not warned of on their way
    with np.errstate(all="ignore"):
        reading = _Reading(model, source)
        for node in model.graph.node:
            reading.visit(node)
        graph = simplify(reading.finish())
    # searching happens in float32, where a weight may overflow that float64 holds
    if not graph.to(torch.float32).is_finite():
        raise NetworkError(source, expected="weights finite in float32", got="NaN or infinity")
    return graph


class _Reading:
    """The values of the file so far."""

    def __init__(self, model: ModelProto, source: str) -> None:
        self.source = source
        self.opset = opset_of(model, source)
        self.signature = signature(model, source)
        first = self.signature.inputs[0]
        self.trace = Trace(self.signature.input_shape, first.name, first.dtype)
        self.values: dict[str, Value] = dict(initializers(model, source))
        self.values.update(_inputs(self.trace, self.signature))

    def visit(self, node: NodeProto) -> None:
        """Work out a node's outputs from its inputs."""
        if not node.output:
            raise NetworkError(f"{self.source}: node {node.name}", got="no output")
        self.trace.label(node.output[0])
        try:
            inputs = tuple(self._value(name) if name else None for name in node.input)
            results = self._results(node, inputs)
        except NetworkError:
            raise
        except CONTRADICTIONS as error:
            raise NetworkError(
                f"{self.source}: node {node.name or node.output[0]!r} ({node.op_type})",
                expected="inputs and attributes that fit each other",
                got=str(error) or type(error).__name__,
                remedy="The file may be damaged; check that onnxruntime runs it.",
            ) from error
        self.values.update(zip(node.output, results, strict=False))

    def _value(self, name: str) -> Value:
        if name not in self.values:
            raise ValueError(f"an input {name!r} that no earlier node computes")
        return self.values[name]

    def _results(self, node: NodeProto, inputs: tuple[Value | None, ...]) -> tuple[Value, ...]:
        constants = [value for value in inputs if not isinstance(value, Activation)]
        if len(constants) == len(inputs) and foldable(node):
            folded = fold(node, constants, self.opset)
            for array in folded:
                refuse_nan(array, f"{self.source}: constant {node.output[0]}")
            return folded
        if node.op_type == "If" and len(constants) == len(inputs) == 1:
            return self._branch(node, bool(np.asarray(constants[0]).reshape(())))
        reader = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if reader is None:
            raise unsupported_operator(node, self.opset, "an operator that is not known")
        result = reader(Call(node, inputs, self.opset, self.trace))
        return result if isinstance(result, tuple) else (result,)

    def _branch(self, node: NodeProto, condition: bool) -> tuple[Value, ...]:
        """The outputs of the branch that a constant condition takes; it sees all values so far."""
        name = "then_branch" if condition else "else_branch"
        (taken,) = (item.g for item in node.attribute if item.name == name)
        for inner in taken.node:
            self.visit(inner)
        return tuple(self._value(output.name) for output in taken.output)

    def finish(self) -> Graph:
        """The graph up to the outputs, flattened and joined to ``N x K``."""
        self.trace.label("output")
        outputs: list[Value] = []
        for name in self.signature.outputs:
            value = self.values.get(name)
            if value is None:
                raise NetworkError(f"{self.source}: output {name}", got="no node that computes it")
            outputs.append(_flat(self.trace, value))
        if not any(isinstance(value, Activation) for value in outputs):
            raise NetworkError(
                f"{self.source}: output {self.signature.outputs[0]}",
                expected="an output that depends on the input",
                got="a constant",
            )
        joined = outputs[0] if len(outputs) == 1 else join(self.trace, outputs, 1)
        assert isinstance(joined, Activation)
        return self.trace.build(joined)


def _inputs(trace: Trace, signature: Signature) -> dict[str, Activation]:
    """The file's inputs: the graph's input, or the parts of it one after another."""
    first = signature.inputs[0]
    if len(signature.inputs) == 1:
        return {first.name: Activation(0, first.shape, first.batch_axis)}
    everything = Activation(0, (1, *signature.input_shape), batched=True)
    ends = np.cumsum([item.size for item in signature.inputs]).tolist()
    return {
        item.name: trace.reshape(cut(trace, everything, 1, slice(end - item.size, end)), item.shape)
        for item, end in zip(signature.inputs, ends, strict=True)
    }


def _flat(trace: Trace, value: Value) -> Value:
    if isinstance(value, Activation):
        return trace.reshape(value, (1, math.prod(value.shape)))
    flat: Array = value.reshape(1, -1)
    return flat

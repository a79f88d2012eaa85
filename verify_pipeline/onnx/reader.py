"""Read an ONNX model as a graph of the package's own operations."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto

from verify_pipeline.errors import NetworkError
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.written import Written
from verify_pipeline.onnx.constants import FoldingError, fold, foldable
from verify_pipeline.onnx.half import is_real, refuse_mixed, refuse_undeclared, widened
from verify_pipeline.onnx.masks import refuse_masks_before_others
from verify_pipeline.onnx.model_file import (
    Array,
    Signature,
    initializers,
    opset_of,
    refuse_nan,
    signature,
)
from verify_pipeline.onnx.operators import OPERATORS, Call, node_name, unsupported_operator
from verify_pipeline.onnx.operators.shapes import cut, join
from verify_pipeline.onnx.simplify import simplify
from verify_pipeline.onnx.trace import Activation, Trace, Value
from verify_pipeline.onnx.written import Writing

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


@dataclass(frozen=True, eq=False)
class Read:
    """What was read of a file.

    Attributes:
        graph: for batches, in float64, neighbouring operations merged.
        written: the same before anything was merged.
        of_shapes: by name, the constants that are made of shapes.
    """

    graph: Graph
    written: Written
    of_shapes: dict[str, OfShapes]


def read_graph(model: ModelProto, source: str) -> Read:
    """The network that ``model`` computes for one input.

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
        what = signature(model, source)
        trace = Trace(what.input_shape, what.inputs[0].name)
        reading = Reading(model, source, what, trace, initializers(model, source))
        reading.read()
        refuse_undeclared(model, reading.output_types(), source)
        written = reading.writing.written(reading.graph())
        graph = simplify(written.graph)
    # searching happens in float32, where a weight may overflow that float64 holds
    for node in graph.to(torch.float32).nodes:
        if not node.is_finite():
            raise NetworkError(
                f"{source}: weights of {node.name!r}",
                expected="weights finite in float32",
                got="NaN or infinity",
            )
    return Read(graph, written, reading.of_shapes)


@dataclass(frozen=True, eq=False)
class OfShapes:
    """A constant that is made of the shapes of activations.

    Attributes:
        value: the constant.
        operator: that made it.
        inputs: names of what it was made of.
    """

    value: Array
    operator: str
    inputs: tuple[str, ...]


class Reading:
    """The values of the file so far.

    Args:
        model: with its functions inlined and all weights in it.
        source: how messages name the file.
        signature: what goes in, in the shapes in which the file is read.
        trace: where the graph is written.
        weights: by name.
        unknown: names of weights whose numbers are not those of the file.

    Attributes:
        of_shapes: constants that are made of shapes and of nothing unknown; by name, in order.
        numbers: names of those that an operation of activations computes with.
        writing: notes about the file's own operations.
    """

    def __init__(
        self,
        model: ModelProto,
        source: str,
        signature: Signature,
        trace: Trace,
        weights: Mapping[str, Array],
        unknown: Collection[str] = (),
    ) -> None:
        self.source = source
        self.opset = opset_of(model, source)
        self.signature = signature
        self.trace = trace
        self.node: NodeProto | None = None
        self.of_shapes: dict[str, OfShapes] = {}
        self.numbers: set[str] = set()
        self.writing = Writing(weights)
        self._unknown = set(unknown)
        self._nodes = model.graph.node
        self.values: dict[str, Value] = dict(weights)
        given = _inputs(self.trace, self.signature)
        self.writing.results(tuple(given.values()))
        self.values.update(given)

    def read(self) -> None:
        """Work out every node's outputs."""
        for node in self._nodes:
            self.visit(node)
        self.node = None

    def visit(self, node: NodeProto) -> None:
        """Work out a node's outputs from its inputs."""
        self.node = node
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
                f"{self.source}: {node_name(node)}",
                expected="inputs and attributes that fit each other",
                got=str(error) or type(error).__name__,
                remedy="The file may be damaged; check that onnxruntime runs it.",
            ) from error
        self.values.update(zip(node.output, results, strict=False))
        self._note_origin(node, inputs)

    def _note_origin(self, node: NodeProto, inputs: Sequence[Value | None]) -> None:
        """Which constants are made of shapes, and which of them activations meet as numbers."""
        if node.op_type == "If":
            self.numbers |= self.of_shapes.keys() & {*node.input}
        measures = node.op_type in ("Shape", "Size")
        if not measures and any(isinstance(value, Activation) for value in inputs):
            self.numbers |= {
                name
                for name, value in zip(node.input, inputs, strict=True)
                if name in self.of_shapes and isinstance(value, np.ndarray)
                if value.dtype.kind == "b" or is_real(value)
            }
        elif self._unknown.intersection(node.input):
            self._unknown.update(node.output)
        elif measures or any(name in self.of_shapes for name in node.input):
            for name in filter(None, node.output):
                value = self.values[name]
                if isinstance(value, np.ndarray):
                    self.of_shapes[name] = OfShapes(value, node.op_type, tuple(node.input))

    def _value(self, name: str) -> Value:
        if name not in self.values:
            raise ValueError(f"an input {name!r} that no earlier node computes")
        return self.values[name]

    def _results(self, node: NodeProto, inputs: tuple[Value | None, ...]) -> tuple[Value, ...]:
        types = [value.dtype for value in inputs if value is not None and _is_real(value)]
        refuse_mixed(f"{self.source}: {node_name(node)}", node.op_type, types)
        constants = [value for value in inputs if not isinstance(value, Activation)]
        if len(constants) == len(inputs) and foldable(node):
            folded = self._folded(node, constants)
            for array in folded:
                refuse_nan(array, f"{self.source}: constant {node.output[0]}")
            self.writing.constants(node, constants, folded)
            return folded
        if node.op_type == "If" and len(constants) == len(inputs) == 1:
            return self._branch(node, bool(np.asarray(constants[0]).reshape(())))
        reader = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if reader is None:
            raise unsupported_operator(node, self.opset, "an operator that is not known")
        self.writing.activation(node)
        if node.op_type != "CastLike":  # to which a constant's type matters
            inputs = tuple(widened(x) if isinstance(x, np.ndarray) else x for x in inputs)
        found = reader(Call(node, inputs, self.opset, self.trace))
        results = found if isinstance(found, tuple) else (found,)
        self.writing.results(results)
        return results

    def _folded(self, node: NodeProto, constants: Sequence[Array | None]) -> tuple[Array, ...]:
        try:
            return fold(node, constants, self.opset)
        except FoldingError as error:
            raise NetworkError(
                f"{self.source}: {node_name(node)}, of constants",
                expected="an operator that onnxruntime computes of these",
                got=str(error),
                remedy="Export the network with its constants folded.",
            ) from None

    def _branch(self, node: NodeProto, condition: bool) -> tuple[Value, ...]:
        """The outputs of the branch that a constant condition takes; it sees all values so far."""
        name = "then_branch" if condition else "else_branch"
        (taken,) = (item.g for item in node.attribute if item.name == name)
        for inner in taken.node:
            self.visit(inner)
        return tuple(self._value(output.name) for output in taken.output)

    def outputs(self) -> list[Value]:
        """The file's outputs, each flattened to ``1 x K``."""
        self.trace.label("output")
        outputs: list[Value] = []
        for name in self.signature.outputs:
            value = self.values.get(name)
            if value is None:
                raise NetworkError(f"{self.source}: output {name}", got="no node that computes it")
            outputs.append(_flat(self.trace, value))
        return outputs

    def output_types(self) -> dict[str, np.dtype[Any]]:
        """The types in which the outputs are computed, by name."""
        found = {name: self.values.get(name) for name in self.signature.outputs}
        return {name: value.dtype for name, value in found.items() if value is not None}

    def graph(self) -> Graph:
        """The graph up to the outputs, joined to ``N x K``."""
        outputs = self.outputs()
        if not any(isinstance(value, Activation) for value in outputs):
            raise NetworkError(
                f"{self.source}: output {self.signature.outputs[0]}",
                expected="an output that depends on the input",
                got="a constant",
            )
        joined = outputs[0] if len(outputs) == 1 else join(self.trace, outputs, 1)
        assert isinstance(joined, Activation)
        graph = self.trace.build(joined)
        refuse_masks_before_others(graph, self.trace.masked, self.source)
        return graph


def _is_real(value: Value) -> bool:
    return isinstance(value, Activation) or is_real(value)


def _inputs(trace: Trace, signature: Signature) -> dict[str, Activation]:
    """The file's inputs: the graph's input, or the parts of it one after another."""
    first = signature.inputs[0]
    if len(signature.inputs) == 1:
        return {first.name: Activation(0, first.shape, first.batch_axis, first.dtype)}
    everything = Activation(0, (1, *signature.input_shape), True, first.dtype)
    ends = np.cumsum([item.size for item in signature.inputs]).tolist()
    return {
        item.name: replace(
            trace.reshape(cut(trace, everything, 1, slice(end - item.size, end)), item.shape),
            dtype=item.dtype,
        )
        for item, end in zip(signature.inputs, ends, strict=True)
    }


def _flat(trace: Trace, value: Value) -> Value:
    if isinstance(value, Activation):
        return trace.reshape(value, (1, math.prod(value.shape)))
    flat: Array = value.reshape(1, -1)
    return flat

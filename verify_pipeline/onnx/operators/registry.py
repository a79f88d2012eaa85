"""The table of ONNX operators that can be read, and what each reader is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from verify_pipeline.errors import UnsupportedOperatorError
from verify_pipeline.network.ops import Concat, Slice
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.unsupported import unsupported_operator
from verify_pipeline.onnx.trace import Activation, Trace, Value


@dataclass(frozen=True, eq=False)
class Call:
    """One node of an ONNX file with its inputs' values, of which at least one is an activation.

    Attributes:
        node: as in the file.
        inputs: None where an optional input is left out.
        opset: version of the standard operator set the file is written in.
        trace: where the graph is written.
    """

    node: NodeProto
    inputs: tuple[Value | None, ...]
    opset: int
    trace: Trace

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node; text as ``str``."""
        for item in self.node.attribute:
            if item.name == name:
                found = helper.get_attribute_value(item)
                return found.decode() if isinstance(found, bytes) else found
        return default

    def number(self, name: str, default: float) -> float:
        """A number among the node's attributes, which are float32, as their defaults are."""
        return float(np.float32(self.attribute(name, default)))

    def value(self, index: int) -> Value:
        """An input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise self.unsupported(f"no input {index}")
        return found

    def activation(self, index: int = 0) -> Activation:
        """An input that must depend on the network's input."""
        found = self.value(index)
        if not isinstance(found, Activation):
            raise self.unsupported(f"a constant as input {index}")
        return found

    def constant(self, index: int) -> Array | None:
        """An input that must be constant; None where it is left out."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(found, Activation):
            raise self.unsupported(f"an input {index} ({self.node.input[index]}) that varies")
        return found

    def integers(self, name: str, index: int) -> list[int] | None:
        """Integers of an attribute or, as later operator sets have it, of a constant input."""
        found = self.attribute(name)
        if found is None:
            found = self.constant(index)
        return None if found is None else [int(item) for item in np.asarray(found).reshape(-1)]

    def unsupported(self, got: str) -> UnsupportedOperatorError:
        """The error to raise where this form of the operator is not read."""
        return unsupported_operator(self.node, self.opset, got)


Reader = Callable[[Call], Value | tuple[Value, ...]]

OPERATORS: dict[str, Reader] = {}
"""Reader of each operator of ONNX's standard set, by name; filled by the modules beside this."""


def reads(*names: str) -> Callable[[Reader], Reader]:
    """Register a function as the reader of the operators of these names."""

    def register(reader: Reader) -> Reader:
        OPERATORS.update(dict.fromkeys(names, reader))
        return reader

    return register


def for_each_row(reader: Reader) -> Reader:
    """A reader of operators whose first axis is the batch, for inputs of which it is not.

    The file's own batch may stand elsewhere, or be one axis with another; then each element of the
    first axis is read by itself, and the results are joined.
    """

    def read(call: Call) -> Value | tuple[Value, ...]:
        x = call.activation()
        if x.rank < 2 or x.shape[0] == 1:
            return reader(call)
        rows = [_row(call, reader, x, i) for i in range(x.shape[0])]
        return call.trace.emit(Concat(0), *rows)

    return read


def _row(call: Call, reader: Reader, x: Activation, i: int) -> Activation:
    whole = call.trace.whole(x)
    row = call.trace.emit(Slice(0, i, i + 1), whole)
    found = reader(replace(call, inputs=(row, *call.inputs[1:])))
    assert isinstance(found, Activation)
    return call.trace.whole(found)


def node_name(node: NodeProto) -> str:
    """A node as messages name it: its name or first output, and its operator."""
    name = node.name or (node.output[0] if node.output else "")
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return f"node {name!r} ({operator})"

"""The table of ONNX operators that can be read, and what each reader is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from verify_pipeline.errors import UnsupportedOperatorError
from verify_pipeline.onnx.model_file import Array
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


def unsupported_operator(node: NodeProto, opset: int, got: str) -> UnsupportedOperatorError:
    """An error that names the node, its operator, the version, and what is supported."""
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    name = node.name or (node.output[0] if node.output else "")
    return UnsupportedOperatorError(
        f"ONNX operator {operator} (node {name!r}, operator set {opset})",
        expected=f"a supported form of {', '.join(sorted(OPERATORS))}",
        got=got,
        remedy="Export the network without this operator, or write a reader for it in "
        "verify_pipeline/onnx/operators.",
    )

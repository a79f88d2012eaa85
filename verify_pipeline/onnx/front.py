"""Writes preprocessing into an ONNX file, for programs that read files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx.half import OF_FILES
from verify_pipeline.onnx.model_file import Array, FileInput, opset_of, serialised, signature

BROADCASTS = 7
"""The first operator set whose ``Sub`` and ``Div`` broadcast as numpy does."""


@dataclass(frozen=True, eq=False)
class Front:
    """Float32 preprocessing in front of a network.

    Attributes:
        shape: ``*X``, of the pixels.
        mean: float32, subtracted first; broadcasts against ``N x *X``.
        std: float32, divided by then, likewise.
        order: of the axes ``*X`` that the network takes; None: as they are.
    """

    shape: tuple[int, ...]
    mean: Array | None = None
    std: Array | None = None
    order: tuple[int, ...] | None = None


def with_front(model: ModelProto, front: Front, source: str) -> bytes:
    """The bytes of a file of pixels: ``front``, then the network of ``model``.

    onnxruntime computes with it what it computes with the file at what ``front`` makes of pixels.

    Args:
        model: with all weights in it.
        front: what is done first.
        source: how messages name the file.

    Raises:
        NetworkError: the file has several inputs, an operator set before 7, or is too large.
    """
    inputs, opset = signature(model, source).inputs, opset_of(model, source)
    if len(inputs) > 1 or opset < BROADCASTS:
        raise NetworkError(
            f"{source} behind its preprocessing",
            expected=f"a file with one input, in operator set {BROADCASTS} or later",
            got=f"{len(inputs)} inputs, operator set {opset}",
            remedy="Put the preprocessing into the file.",
        )
    (old,) = inputs
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    writer = _Writer(graph, "pixels")
    if front.mean is not None and front.std is not None:
        writer.then("Sub", _by_channel(front.mean, front.shape))
        writer.then("Div", _by_channel(front.std, front.shape))
    shape = front.shape
    if front.order is not None:
        writer.then("Transpose", perm=[0, *(axis + 1 for axis in front.order)])
        shape = tuple(shape[axis] for axis in front.order)
    if shape != old.inner or not old.batch_axis:
        writer.then("Reshape", np.array(_target(old), dtype=np.int64))
    if old.dtype != np.float32:
        (kind,) = (number for number, dtype in OF_FILES.items() if dtype == old.dtype)
        writer.then("Cast", to=kind)
    batch = "batch" if old.free else 1
    pixels = helper.make_tensor_value_info(writer.first, TensorProto.FLOAT, [batch, *front.shape])
    for value in graph.input:
        if value.name == old.name:
            value.CopyFrom(pixels)
    writer.finish(old.name)
    return serialised(made, source)


def _by_channel(numbers: Array, shape: tuple[int, ...]) -> Array:
    """As ``1 x C x 1 x 1``: other tools' bounds of convolutions know constants of no other form."""
    channels = (shape[0], *[1] * (len(shape) - 1))
    return np.broadcast_to(numbers, channels)[np.newaxis]


def _target(item: FileInput) -> tuple[int, ...]:
    return (-1, *item.inner) if item.free else item.shape


class _Writer:
    """Nodes in front of a graph's own, each of which takes what the one before gives."""

    def __init__(self, graph: GraphProto, first: str) -> None:
        self._graph = graph
        self._taken = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
        self._taken |= {name for node in graph.node for name in (*node.input, *node.output)}
        self._nodes: list[tuple[str, list[str], dict[str, Any]]] = []
        self.first = self._free(first)

    def then(self, operator: str, constant: Array | None = None, **attributes: Any) -> None:
        """One more node, whose second input is a constant if there is one."""
        constants = []
        if constant is not None:
            name = self._free(f"pixels_{operator.lower()}")
            self._graph.initializer.append(numpy_helper.from_array(constant, name))
            constants.append(name)
        self._nodes.append((operator, constants, attributes))

    def finish(self, name: str) -> None:
        """Put the nodes before the others; the last one's output gets the name."""
        outputs = [self._free(f"pixels_{place}") for place in range(1, len(self._nodes))]
        values = [self.first, *outputs, name]
        made = [
            helper.make_node(
                operator, [values[place], *constants], [values[place + 1]], **attributes
            )
            for place, (operator, constants, attributes) in enumerate(self._nodes)
        ]
        others = list(self._graph.node)
        del self._graph.node[:]
        self._graph.node.extend([*made, *others])

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

"""Values of an ONNX file while it is read: constants, and activations that are graph nodes.

The file is read as it runs on *one* network input, so every shape is known, and shape arithmetic
folds away. The graph, though, works on batches. An activation of shape ``(1, *V)`` in the file,
whose first axis is the batch, is the graph node of shape ``*V`` (``batched``). Where an operator
touches that first axis, or it is not 1, the node has the file's whole shape instead: since the
graph's own batch axis is apart from it, the reading stays exact for any batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verify_pipeline.errors import NetworkError
from verify_pipeline.network.affine_error import EXACT, AffineError
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.limits import AtLeast
from verify_pipeline.network.ops import Constant, Input, Op, Reshape, Scale, Transpose
from verify_pipeline.onnx.model_file import LARGEST_VALUE, Array


@dataclass(frozen=True)
class Activation:
    """A value that depends on the network's input.

    Attributes:
        place: of its node in the graph.
        shape: in the file, at one network input.
        batched: whether ``shape[0]``, which is 1 then, is left out of the node's shape.
        dtype: that the file holds it in: float64, float32 or a half precision.
    """

    place: int
    shape: tuple[int, ...]
    batched: bool
    dtype: np.dtype[Any]

    @property
    def inner(self) -> tuple[int, ...]:
        """``*V``, the shape of its node."""
        return self.shape[1:] if self.batched else self.shape

    @property
    def rank(self) -> int:
        """Number of axes in the file."""
        return len(self.shape)

    def axis(self, axis: int) -> int:
        """A possibly negative axis as one from 0 to rank - 1."""
        if not -self.rank <= axis < self.rank:
            raise ValueError(f"axis {axis} of a value of shape {self.shape}")
        return axis % self.rank


Value = Array | Activation


def tensor(array: Array) -> Tensor:
    """A float64 tensor with the array's values; a file's float32 and float64 ones fit in it."""
    if array.ndim and array.size and not any(array.strides):  # one number, repeated
        return torch.full((), float(array.flat[0]), dtype=torch.float64).expand(array.shape)
    return torch.tensor(np.asarray(array, dtype=np.float64))


class Trace:
    """Writes a graph while an ONNX file is read; the only place where axes are renumbered.

    Args:
        input_shape: ``*X``.
        name: of the input.
        builder: what collects the nodes; None: one for networks in float64.
        inputs: network inputs at which the file is read.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        name: str,
        builder: GraphBuilder | None = None,
        inputs: int = 1,
    ) -> None:
        self._inputs = inputs
        self.masked: set[str] = set()
        self._builder = builder or GraphBuilder(input_shape, name, torch.float64)
        self._ops: list[Op] = [Input()]
        self._names = {name}
        self._place_names = [name]
        self._label = name

    def label(self, name: str) -> None:
        """Nodes added from now on are named after ``name``."""
        self._label = name

    def build(self, output: Activation) -> Graph:
        """The graph that ends in ``output``."""
        return self._builder.build(output.place)

    def emit(self, op: Op, *inputs: Activation) -> Activation:
        """Apply an operation; inputs are all batched, or none is, and so is the result."""
        place = self._add(op, *inputs)
        inner = self._builder.shape(place)
        batched = inputs[0].batched
        return replace(inputs[0], place=place, shape=(1, *inner) if batched else inner)

    def _add(self, op: Op, *inputs: Activation) -> int:
        name, number = self._label, 1
        while name in self._names:
            number += 1
            name = f"{self._label}#{number}"
        self._names.add(name)
        self._place_names.append(name)
        self._ops.append(op)
        place = self._builder.add(op, *(item.place for item in inputs), name=name)
        self.refuse_huge(self._builder.shape(place))
        return place

    def refuse_huge(self, shape: tuple[int, ...]) -> None:
        """Raise NetworkError for a shape, in the file, that no sound file's values have."""
        refuse_huge(math.prod(shape) // self._inputs)

    def never(self, x: Activation) -> None:
        """Remember that some elements of ``x`` stand for ``-inf``; see ``masks.py``."""
        self.masked.add(self._place_names[x.place])

    def op(self, x: Activation) -> Op:
        """The operation that computed an activation."""
        return self._ops[x.place]

    def _view(self, x: Activation, shape: tuple[int, ...], batched: bool) -> Activation:
        """``x`` as a value of ``shape``, reordering nothing."""
        inner = shape[1:] if batched else shape
        place = x.place if inner == x.inner else self._add(Reshape(inner), x)
        return replace(x, place=place, shape=shape, batched=batched)

    def reshape(self, x: Activation, shape: tuple[int, ...]) -> Activation:
        """``x`` in another shape of the file; a first axis of 1 is the batch."""
        if math.prod(shape) != math.prod(x.shape):
            raise ValueError(f"cannot reshape {x.shape} to {shape}")
        return self._view(x, shape, batched=len(shape) > 1 and shape[0] == 1)

    def whole(self, x: Activation) -> Activation:
        """``x`` as a node that has all axes of the file."""
        return self._view(x, x.shape, batched=False)

    def batch_first(self, x: Activation) -> Activation:
        """``x`` as a node without the file's first axis.

        Raises:
            ValueError: that axis is not 1.
        """
        if x.rank < 2 or x.shape[0] != 1:
            raise ValueError(f"the first axis of shape {x.shape} is no batch axis")
        return self._view(x, x.shape, batched=True)

    def along(self, x: Activation, *axes: int) -> tuple[Activation, tuple[int, ...]]:
        """``x`` and its node's axes for axes of the file, so that an operation can work on them."""
        places = tuple(x.axis(axis) for axis in axes)
        if not x.batched:
            return x, places
        if 0 in places:
            return self.whole(x), places
        return x, tuple(place - 1 for place in places)

    def transpose(self, x: Activation, order: tuple[int, ...]) -> Activation:
        """New axis i is old axis ``order[i]``."""
        order = tuple(x.axis(axis) for axis in order)
        shape = tuple(x.shape[axis] for axis in order)
        moved = [axis for axis in order if x.shape[axis] != 1]
        if moved == sorted(moved):
            return self.reshape(x, shape)
        if x.batched and order[0] == 0:
            return self.emit(Transpose(tuple(axis - 1 for axis in order[1:])), x)
        return self.emit(Transpose(order), self.whole(x))

    def alike(self, *values: Activation, ranks: bool = True) -> list[Activation]:
        """The values, all batched or all whole, and of one rank so that they broadcast."""
        rank = max(x.rank for x in values) if ranks else 0
        if not all(x.batched for x in values):
            values = tuple(self.whole(x) for x in values)
        return [
            self._view(x, (1,) * (rank - x.rank) + x.shape, x.batched) if x.rank < rank else x
            for x in values
        ]

    def affine(
        self,
        x: Activation,
        scale: Array | float,
        shift: Array | float,
        error: AffineError = EXACT,
    ) -> Activation:
        """``x * scale + shift`` with constants that broadcast as ONNX says.

        Args:
            x: what is scaled.
            scale: the factor.
            shift: the summand.
            error: how far they may be from the file's, if they were computed from its constants.
        """
        factor, offset = np.asarray(scale), np.asarray(shift)
        rank = max(factor.ndim, offset.ndim)
        first_axis_stays = all(c.ndim < x.rank or c.shape[0] == 1 for c in (factor, offset))
        if not x.batched or rank > x.rank or not first_axis_stays:
            shape = (1,) * (rank - x.rank) + x.shape
            return self.emit(
                Scale(tensor(factor), tensor(offset), error), self._view(x, shape, batched=False)
            )
        factor, offset = (c[0] if c.ndim == x.rank else c for c in (factor, offset))
        return self.emit(Scale(tensor(factor), tensor(offset), error), x)

    def at_least(self, x: Activation, limit: Array) -> Activation:
        """``max(x, limit)`` with a constant that broadcasts as ONNX says."""
        x = self.spread(x, np.broadcast_shapes(x.shape, limit.shape))
        held = limit[0] if x.batched and limit.ndim == x.rank else limit
        return self.emit(AtLeast(tensor(held)), x)

    def spread(self, x: Activation, shape: tuple[int, ...]) -> Activation:
        """``x`` repeated along axes of one, so that it has the shape it broadcasts to."""
        return x if shape == x.shape else self.affine(x, np.ones(shape), 0.0)

    def activation(self, value: Value, like: Activation) -> Activation:
        """A constant as an activation of at least the rank of ``like``; an activation as it is."""
        if isinstance(value, Activation):
            return value
        value = value.reshape((1,) * (like.rank - value.ndim) + value.shape)
        batched = like.batched and value.ndim > 1 and value.shape[0] == 1
        held = tensor(value[0] if batched else value)
        place = self._add(Constant(held), like)
        return Activation(place, tuple(value.shape), batched, like.dtype)


def refuse_huge(elements: int) -> None:
    """Raise NetworkError for a value that no valid file has."""
    if elements > LARGEST_VALUE:
        raise NetworkError(
            "a value of the network",
            expected=f"at most {LARGEST_VALUE} elements",
            got=str(elements),
            remedy="The file may be damaged.",
        )

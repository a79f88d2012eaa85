"""Determines, by structure alone, which input of a batch each number of a network depends on.

A number's *owner* is the place in the batch of the input that it depends on; a constant has none.
A value's owners are a tensor ``2 x *V`` of the owner and its negative, ``-inf`` where there is
none: of several numbers the greatest in both rows are the last and the first owner, and they mix
where these differ. So every operation that mixes numbers takes maxima here, and one that moves them
moves owners alike.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.limits import AtLeast, Maximum, Rounded
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Constant,
    Conv2d,
    Div,
    Elementwise,
    LeakyRelu,
    Linear,
    LinearOp,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Normalisation,
    Op,
    Pad,
    Relu,
    Scale,
    Softmax,
    Sub,
    Sum,
)


class MixingError(Exception):
    """An operation whose result depends on several inputs of a batch."""


class OwnerBuilder(GraphBuilder):
    """Collects nodes as a graph's builder does, with their owners instead of their values.

    Args:
        owners: of the input, ``*X``.
        name: of the input's node.

    Raises:
        MixingError: on ``add``, where an operation mixes inputs of a batch.
    """

    def __init__(self, owners: Tensor, name: str) -> None:
        super().__init__(tuple(owners.shape), name)
        self._values[0] = torch.stack([owners, -owners])

    def owners(self, place: int) -> Tensor:
        """``*V``; ``-inf`` where a number is constant."""
        return self._values[place][0]

    def _run(self, op: Op, *values: Tensor) -> Tensor:
        found = owners_of(op, *values)
        if bool((found[0] + found[1] > 0).any()):
            raise MixingError
        return found


@singledispatch
def owners_of(op: Op, *owners: Tensor) -> Tensor:
    """Last and negative first owner of each number of the operation's value, ``2 x *V``."""
    raise NotImplementedError(f"no owners for {type(op).__name__}")


@owners_of.register
def _(op: LinearOp, *owners: Tensor) -> Tensor:
    return op.linear(owners[0])  # it moves numbers; what else there is stands below


@owners_of.register(Relu)
@owners_of.register(LeakyRelu)
@owners_of.register(Elementwise)
@owners_of.register(Rounded)
@owners_of.register(AtLeast)
def _one_by_one(op: Op, *owners: Tensor) -> Tensor:
    return owners[0]


@owners_of.register(Add)
@owners_of.register(Sub)
@owners_of.register(Mul)
@owners_of.register(Div)
@owners_of.register(Maximum)
def _pair_by_pair(op: Op, *owners: Tensor) -> Tensor:
    return torch.maximum(*owners)


@owners_of.register(Concat)
@owners_of.register(MaxPool2d)
def _greatest(op: Op, *owners: Tensor) -> Tensor:
    return op(*owners)


@owners_of.register
def _(op: Constant, *owners: Tensor) -> Tensor:
    return owners[0].new_full((2, *op.value.shape), -torch.inf)


@owners_of.register(Scale)
@owners_of.register(Normalisation)
def _scaled(op: Scale, *owners: Tensor) -> Tensor:
    shape = np.broadcast_shapes(owners[0].shape[1:], op.scale.shape, op.shift.shape)
    return owners[0].expand(2, *shape)


@owners_of.register
def _(op: Linear, *owners: Tensor) -> Tensor:
    found = owners[0].amax(-1, keepdim=True)
    return found.expand(*found.shape[:-1], op.weight.shape[0])


@owners_of.register
def _(op: Conv2d, *owners: Tensor) -> Tensor:
    planes = _padded(owners[0].amax(1, keepdim=True), op.padding)
    height, width = op.weight.shape[2:]
    found = F.max_pool2d(planes, (height, width), op.stride, 0, op.dilation)
    return found.expand(-1, op.weight.shape[0], -1, -1)


@owners_of.register
def _(op: AvgPool2d, *owners: Tensor) -> Tensor:
    return F.max_pool2d(owners[0], op.kernel, op.stride, op.padding, 1, op.ceil_mode)


@owners_of.register
def _(op: Pad, *owners: Tensor) -> Tensor:
    return F.pad(owners[0], op.widths, value=-torch.inf)


@owners_of.register(Mean)
@owners_of.register(Sum)
def _over_axes(op: Mean | Sum, *owners: Tensor) -> Tensor:
    return owners[0].amax([axis + 1 for axis in op.axes], keepdim=op.keepdim)


@owners_of.register
def _(op: MatMul, *owners: Tensor) -> Tensor:
    left, right = owners
    return torch.maximum(left.amax(-1, keepdim=True), right.amax(-2, keepdim=True))


@owners_of.register
def _(op: Softmax, *owners: Tensor) -> Tensor:
    return owners[0].amax(op.axis + 1, keepdim=True).expand_as(owners[0])


def _padded(planes: Tensor, padding: tuple[int, int]) -> Tensor:
    height, width = padding
    return F.pad(planes, (width, width, height, height), value=-torch.inf)

"""Linear lower and upper bounds of nonlinear operations over the bounds of their inputs.

A relaxation knows how a functional ``A · y`` of the operation's value is bounded from below by
functionals of its inputs: where a coefficient is positive the value's lower line counts, where it
is negative the upper line. Lines of ReLU: Zhang et al. 2018 (CROWN, arXiv:1811.00866), with the
lower line's slope free: Xu et al. 2021 (α-CROWN, arXiv:2011.13824), eq. 8.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, singledispatch
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.bounds.contract import NodeBounds
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import (
    Add,
    Concat,
    Constant,
    Input,
    LeakyRelu,
    LinearOp,
    MaxPool2d,
    Op,
    Relu,
    Sub,
)


@dataclass(frozen=True, eq=False)
class Relaxation(ABC):
    """How functionals of one nonlinear node's value are bounded by functionals of its inputs.

    Every tensor attribute has the batch axis ``N`` first.
    """

    @abstractmethod
    def pull_back(
        self, coefficients: Tensor, alpha: Tensor | None, beta: Tensor | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Functionals of the inputs, and constants, whose sum is a lower bound.

        Args:
            coefficients: ``N x S x *V``, of the node's value.
            alpha: as in ``Multipliers``; None: the relaxation's own choice.
            beta: as in ``Multipliers``; None: none.

        Returns:
            For each input ``N x S x *V_in`` (None: it has no part), and ``N x S`` constants.
        """

    @abstractmethod
    def follow(
        self, coefficients: Tensor, alpha: Tensor | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The value of the lines that :meth:`pull_back` chose, ``N x S x *V``.

        Args:
            coefficients: ``N x S x *V``, whose signs chose them.
            alpha: as there.
            inputs: values ``N x S x *V_in`` of the inputs (None: those that have no part).
        """

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The relaxation with each of its tensors changed."""
        changed = {
            f.name: change(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **changed)

    def __getitem__(self, index: Tensor | slice) -> Self:
        """The relaxation of some instances."""
        return self.map(lambda value: value[index])


@dataclass(frozen=True, eq=False)
class Lines(Relaxation):
    """Of a (leaky) ReLU ``y``: ``below z <= y <= up z + offset``; one line where it is linear.

    A neuron is unstable where ``offset > 0``. There ``below = slope + α (1 - slope)`` is free
    between the function's two slopes; elsewhere ``y = up z``. (Written without ``torch.where``,
    which costs as much as twenty other operations on a processor.)

    Attributes:
        slope: of the function below 0; a number in [0, 1].
        up: slope of the upper line, ``N x *V``.
        offset: the upper line at 0, ``N x *V``; >= 0.
        split: s of the splits ``s z >= 0``, ``N x *V`` in {-1, 0, 1}; None: no splits.
    """

    slope: float
    up: Tensor
    offset: Tensor
    split: Tensor | None

    @cached_property
    def _unstable(self) -> Tensor:
        """1 where α counts, else 0, ``N x *V``."""
        return self.offset.sign()

    @property
    def has_choice(self) -> bool:
        """Whether α counts anywhere."""
        return bool((self.offset > 0).any())

    @cached_property
    def adaptive(self) -> Tensor:
        """The α of the least area between the lines, ``N x *V``: 1 where upper > -lower, else 0."""
        return (self.up - (1 + self.slope) / 2).sign().clamp(min=0)

    @cached_property
    def _least(self) -> Tensor:
        """``below`` at α = 0, ``N x 1 x *V``."""
        return (self.up + self._unstable * (self.slope - self.up)).unsqueeze(1)

    @cached_property
    def _span(self) -> Tensor:
        """What α = 1 adds to it, ``N x 1 x *V``."""
        return ((1 - self.slope) * self._unstable).unsqueeze(1)

    @cached_property
    def _adaptive_below(self) -> Tensor:
        return self._below(self.adaptive.unsqueeze(1))

    def _below(self, alpha: Tensor | None) -> Tensor:
        """Slope of the lower line, ``N x S x *V`` or ``N x 1 x *V``."""
        return self._adaptive_below if alpha is None else self._least + alpha * self._span

    def pull_back(
        self, coefficients: Tensor, alpha: Tensor | None, beta: Tensor | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        negative = coefficients.clamp(max=0)
        pulled = coefficients.clamp(min=0).mul_(self._below(alpha))
        pulled = pulled.addcmul_(negative, self.up.unsqueeze(1))
        if beta is not None and self.split is not None:
            pulled = pulled.addcmul_(beta, self.split.unsqueeze(1), value=-1)
        return (pulled,), _inner(negative, self.offset)

    def follow(
        self, coefficients: Tensor, alpha: Tensor | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        (z,) = inputs
        assert z is not None
        above = (self.up.unsqueeze(1) * z).add_(self.offset.unsqueeze(1))
        return above.lerp_(self._below(alpha) * z, coefficients.sign().clamp_(min=0))

    def alpha_gradient(self, coefficients: Tensor, z: Tensor) -> Tensor:
        """Of the bound with respect to α, ``N x S x *V``, at the input's value ``z``."""
        return coefficients.clamp(min=0).mul_(z).mul_(self._span)

    def beta_gradient(self, z: Tensor) -> Tensor:
        """Of the bound with respect to β, ``N x S x *V``, at the input's value ``z``."""
        assert self.split is not None
        return -self.split.unsqueeze(1) * z


@dataclass(frozen=True, eq=False)
class Constants(Relaxation):
    """Of any operation: its value lies between two constants, whatever its inputs do.

    Attributes:
        lower: ``N x *V``.
        upper: ``N x *V``.
        inputs: how many the operation has.
    """

    lower: Tensor
    upper: Tensor
    inputs: int

    def pull_back(
        self, coefficients: Tensor, alpha: Tensor | None, beta: Tensor | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        least = _inner(coefficients.clamp(min=0), self.lower)
        return (None,) * self.inputs, least + _inner(coefficients.clamp(max=0), self.upper)

    def follow(
        self, coefficients: Tensor, alpha: Tensor | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        return torch.where(coefficients > 0, self.lower.unsqueeze(1), self.upper.unsqueeze(1))


@dataclass(frozen=True, eq=False)
class Selection(Relaxation):
    """Of max pooling: at least one element of the window, at most that element or a constant.

    The element j is the one of greatest lower bound. Where no other can exceed it the value is
    that element; elsewhere it is at most the greatest upper bound of the window.

    Attributes:
        element: place of j in the flattened plane, ``N x C x P`` for P windows.
        decided: 1 where the value is element j, else 0, ``N x C x P``.
        upper: greatest upper bound of the window where not decided, else 0, ``N x C x P``.
        plane: height and width of the input.
    """

    element: Tensor
    decided: Tensor
    upper: Tensor
    plane: tuple[int, int]

    def pull_back(
        self, coefficients: Tensor, alpha: Tensor | None, beta: Tensor | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        flat = coefficients.flatten(3)
        negative = flat.clamp(max=0)
        kept = flat.clamp(min=0) + negative * self.decided.unsqueeze(1)
        height, width = self.plane
        pulled = kept.new_zeros(*kept.shape[:3], height * width)
        pulled = pulled.scatter_add(3, self.element.unsqueeze(1).expand_as(kept), kept)
        return (pulled.unflatten(3, (height, width)),), _inner(negative, self.upper)

    def follow(
        self, coefficients: Tensor, alpha: Tensor | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        (z,) = inputs
        assert z is not None
        flat = coefficients.flatten(3)
        element = z.flatten(3).gather(3, self.element.unsqueeze(1).expand_as(flat))
        kept = torch.where(flat < 0, self.decided.unsqueeze(1), 1.0)
        constant = torch.where(flat < 0, self.upper.unsqueeze(1), 0.0)
        return (kept * element + constant).view(coefficients.shape)


def _inner(coefficients: Tensor, values: Tensor) -> Tensor:
    """``N x S`` inner products of ``N x S x *V`` with ``N x *V``."""
    row = values.unsqueeze(1).flatten(1).unsqueeze(1)
    return torch.linalg.vecdot(coefficients.unsqueeze(2).flatten(2), row)


@singledispatch
def reads(op: Op, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    """Places whose bounds the relaxation of the node at ``place`` is made of."""
    return (place,)


@reads.register(Input)
@reads.register(LinearOp)
@reads.register(Add)
@reads.register(Sub)
@reads.register(Concat)
@reads.register(Constant)
def _(op: Op, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    return ()


@reads.register(Relu)
@reads.register(LeakyRelu)
@reads.register(MaxPool2d)
def _(op: Op, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    return inputs


def is_affine(op: Op) -> bool:
    """Whether the operation is affine in all its inputs together, so needs no relaxation."""
    return isinstance(op, (Input, LinearOp, Add, Sub, Concat, Constant))


def relax_node(graph: Graph, place: int, bounds: NodeBounds, split: Tensor | None) -> Relaxation:
    """The relaxation of the nonlinear node at ``place``.

    Args:
        graph: the network.
        place: of the node.
        bounds: of the places that :func:`reads` names.
        split: ``N x *V`` splits of the node's input; None: none.
    """
    node = graph.nodes[place]
    read = reads(node.op, place, node.inputs)
    missing = [graph.nodes[i].name for i in read if i not in bounds.lower]
    if missing:
        raise KeyError(f"no bounds of {', '.join(missing)}, which {node.name} needs")
    lower, upper = bounds.lower[read[0]], bounds.upper[read[0]]
    return relax(node.op, lower, upper, split, len(node.inputs))


@singledispatch
def relax(op: Op, lower: Tensor, upper: Tensor, split: Tensor | None, inputs: int) -> Relaxation:
    """The relaxation of ``op`` from bounds ``N x *V`` of the place that it reads."""
    return Constants(lower, upper, inputs)


@relax.register
def _(op: Relu, lower: Tensor, upper: Tensor, split: Tensor | None, inputs: int) -> Relaxation:
    return _lines(0.0, lower, upper, split)


@relax.register
def _(op: LeakyRelu, lower: Tensor, upper: Tensor, split: Tensor | None, inputs: int) -> Relaxation:
    return _lines(op.slope, lower, upper, split)


def _lines(slope: float, lower: Tensor, upper: Tensor, split: Tensor | None) -> Lines:
    """Lines of a function of slope ``slope`` below 0 and 1 above, exact where one half is left."""
    # cut at 0, the chord of a neuron of one sign is the line of that sign
    below, above = lower.clamp(max=0), upper.clamp(min=0)
    width = (above - below).clamp(min=torch.finfo(lower.dtype).tiny)
    chord = (above - slope * below) / width
    return Lines(
        slope=slope,
        up=chord,
        offset=((slope - chord) * below).clamp(min=0),
        split=None if split is None else split.to(lower),
    )


@relax.register
def _(op: MaxPool2d, lower: Tensor, upper: Tensor, split: Tensor | None, inputs: int) -> Relaxation:
    greatest, element = F.max_pool2d(
        lower, op.kernel, op.stride, op.padding, op.dilation, op.ceil_mode, return_indices=True
    )
    element = element.flatten(2)
    windows = _windows(op, lower.shape[2:], greatest.shape[2:]).to(lower.device)
    outside = upper.new_full((*upper.shape[:2], 1), -torch.inf)
    uppers = torch.cat([upper.flatten(2), outside], 2)[:, :, windows]
    others = uppers.masked_fill(windows == element.unsqueeze(3), -torch.inf)
    decided = others.amax(3) <= greatest.flatten(2)
    constant = uppers.amax(3).masked_fill(decided, 0.0)
    height, width = lower.shape[2:]
    return Selection(element, decided.to(lower), constant, (height, width))


def _windows(op: MaxPool2d, plane: torch.Size, windows: torch.Size) -> Tensor:
    """Places in the flattened plane of each window's elements, ``P x k``; -1: in the padding."""
    widths = []
    for axis in (1, 0):
        spanned = (windows[axis] - 1) * op.stride[axis] + op.dilation[axis] * (op.kernel[axis] - 1)
        before = op.padding[axis]
        widths += [before, max(spanned + 1 - plane[axis] - before, 0)]
    places = torch.arange(plane.numel(), dtype=torch.float64).view(1, 1, *plane)
    padded = F.pad(places, widths, value=-1.0)
    columns = F.unfold(padded, op.kernel, op.dilation, 0, op.stride)
    kernel = op.kernel[0] * op.kernel[1]
    rows, width = (
        (padded.shape[axis + 2] - op.dilation[axis] * (op.kernel[axis] - 1) - 1) // op.stride[axis]
        + 1
        for axis in (0, 1)
    )
    columns = columns.view(kernel, rows, width)[:, : windows[0], : windows[1]]
    return columns.reshape(kernel, -1).T.long()

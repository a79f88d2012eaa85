"""Chains of affine operations, any neighbours of which may be merged before they are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tests.soundness.building import FileBuilder
from tests.soundness.contract import Array
from tests.soundness.evaluations import Number, Way


@dataclass(frozen=True, eq=False)
class Constants:
    """The numbers of ``x W^T + b`` that an evaluation uses.

    Attributes:
        weight: ``O x I``; None: the identity.
        bias: ``O``; None: zero.
    """

    weight: Tensor | None = None
    bias: Tensor | None = None

    def value(self, way: Way, x: Tensor) -> Tensor:
        """``N x O`` of ``N x I``."""
        if self.weight is not None:
            return way.affine(self.weight, x, self.bias)
        return x if self.bias is None else way.result(way.round(x + self.bias))

    def then(self, way: Way, after: Constants) -> Constants:
        """Those of one operation instead of two: ``W' W`` and ``W' b + b'``."""
        return Constants(self._weight_then(way, after), self._bias_then(way, after))

    def _weight_then(self, way: Way, after: Constants) -> Tensor | None:
        if self.weight is None or after.weight is None:
            return after.weight if self.weight is None else self.weight
        return way.result(_product(way, after.weight, self.weight.T))

    def _bias_then(self, way: Way, after: Constants) -> Tensor | None:
        bias = self.bias
        if bias is not None and after.weight is not None:
            bias = way.result(_product(way, after.weight, bias.unsqueeze(0)).squeeze(1))
        if bias is None or after.bias is None:
            return after.bias if bias is None else bias
        return way.result(way.round(bias + after.bias))


def _product(way: Way, rows: Tensor, columns: Tensor) -> Tensor:
    """``O x J`` of rows ``O x I`` and columns ``J x I``."""
    return way.sums(way.round(rows.unsqueeze(1) * columns))


class Link(Protocol):
    """An affine operation of a file."""

    def write(self, net: FileBuilder, x: str) -> str:
        """One node."""
        ...

    def constants(self, way: Way, inputs: int) -> Constants:
        """Its numbers in an evaluation."""
        ...

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        ...

    def rounded(self, number: Number) -> Link:
        """With constants that are numbers of a type."""
        ...


@dataclass(frozen=True, eq=False)
class Linear:
    """A Gemm.

    Attributes:
        weight: ``O x I``.
        bias: ``O``; None: none.
    """

    weight: Array
    bias: Array | None = None

    def write(self, net: FileBuilder, x: str) -> str:
        """With two inputs or with three."""
        return net.linear(x, self.weight, self.bias)

    def constants(self, way: Way, inputs: int) -> Constants:
        """Both."""
        del inputs
        return Constants(
            _held(way, self.weight), None if self.bias is None else _held(way, self.bias)
        )

    def native(self, x: Tensor) -> Tensor:
        """A linear layer."""
        bias = None if self.bias is None else torch.from_numpy(self.bias).to(x)
        return torch.nn.functional.linear(x, torch.from_numpy(self.weight).to(x), bias)

    def rounded(self, number: Number) -> Linear:
        """Both."""
        return Linear(number(self.weight), None if self.bias is None else number(self.bias))


@dataclass(frozen=True, eq=False)
class Scale:
    """A Mul with ``I`` constants."""

    factors: Array

    def write(self, net: FileBuilder, x: str) -> str:
        """One node."""
        return net.add("Mul", x, self.factors)

    def constants(self, way: Way, inputs: int) -> Constants:
        """A diagonal."""
        del inputs
        return Constants(torch.diag(_held(way, self.factors)))

    def native(self, x: Tensor) -> Tensor:
        """A product."""
        return x * torch.from_numpy(self.factors).to(x)

    def rounded(self, number: Number) -> Scale:
        """Rounded."""
        return Scale(number(self.factors))


@dataclass(frozen=True, eq=False)
class Shift:
    """An Add of ``I`` constants."""

    amounts: Array

    def write(self, net: FileBuilder, x: str) -> str:
        """One node."""
        return net.add("Add", x, self.amounts)

    def constants(self, way: Way, inputs: int) -> Constants:
        """A bias."""
        del inputs
        return Constants(bias=_held(way, self.amounts))

    def native(self, x: Tensor) -> Tensor:
        """A sum."""
        return x + torch.from_numpy(self.amounts).to(x)

    def rounded(self, number: Number) -> Shift:
        """Rounded."""
        return Shift(number(self.amounts))


@dataclass(frozen=True)
class Mean:
    """A ReduceMean over all elements."""

    def write(self, net: FileBuilder, x: str) -> str:
        """One node."""
        return net.add("ReduceMean", x, axes=[1], keepdims=1)

    def constants(self, way: Way, inputs: int) -> Constants:
        """One row of 1/I."""
        share = torch.full((1, inputs), 1 / inputs, dtype=torch.float64)
        return Constants(way.result(way.round(share)))

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        return x.mean(1, keepdim=True)

    def rounded(self, number: Number) -> Mean:
        """Without constants."""
        del number
        return self


def _held(way: Way, numbers: Array) -> Tensor:
    return way.constant(torch.from_numpy(numbers).double())


@dataclass(frozen=True, eq=False)
class Chain:
    """Affine operations, one after the other."""

    links: Sequence[Link]

    def write(self, net: FileBuilder, x: str) -> str:
        """Their nodes."""
        for link in self.links:
            x = link.write(net, x)
        return x

    def value(self, way: Way, x: Tensor) -> Tensor:
        """Any neighbours may become one operation, first ones and last ones."""
        found: list[Constants] = []
        width = x.shape[1]
        for link in self.links:
            found.append(link.constants(way, width))
            weight = found[-1].weight
            width = width if weight is None else len(weight)
        while way.merged and len(found) > 1 and way.rng.random() < 0.8:
            at = int(way.rng.integers(len(found) - 1))
            found[at : at + 2] = [found[at].then(way, found[at + 1])]
        for one in found:
            x = one.value(way, x)
        return x

    def native(self, x: Tensor) -> Tensor:
        """Torch's, one by one."""
        for link in self.links:
            x = link.native(x)
        return x

    def rounded(self, number: Number) -> Chain:
        """Link by link."""
        return Chain([link.rounded(number) for link in self.links])

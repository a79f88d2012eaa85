"""Evaluations of small networks in an arithmetic: orders of sums, fused or not, flushed or not.

A network is a list of steps (``steps.py``). Each step writes itself into an ONNX file, and computes
its value in any :class:`Way`, rounding by rounding. Numbers are held in float64, in which sums and
products of the arithmetic's numbers are exact enough to be rounded once. Shape letters: ``N``
points, ``I`` and ``O`` elements of a step's input and value, which are flat vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from tests.soundness.building import FileBuilder
from tests.soundness.contract import Array

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MIXED = "mixed-"
"""Begins the names of arithmetics with sums in float32 and results in a half precision."""

Number = Callable[[Array], Array]
"""Rounds weights to numbers of a type."""

STORED = ("always", "sometimes", "never")
ORDERS = ("written", "random", "falling", "rising", "blocks")


@dataclass(frozen=True, eq=False)
class Way:
    """One way to evaluate a network.

    Attributes:
        dtype: of sums; float64: as exact as can be.
        rng: draws orders, and the errors of functions.
        order: of a sum's terms, one of :data:`ORDERS`.
        fused: whether a product and a sum are rounded once.
        flushed: whether numbers below the normal range become zero.
        merged: whether affine operations are multiplied into those before them.
        centred: whether a variance is the mean of squares of differences.
        narrow: type in which results are stored; None: that of sums.
        stored: when they are, one of :data:`STORED`.
    """

    dtype: torch.dtype
    rng: Generator
    order: str = "written"
    fused: bool = False
    flushed: bool = False
    merged: bool = False
    centred: bool = True
    narrow: torch.dtype | None = None
    stored: str = "always"

    def round(self, exact: Tensor) -> Tensor:
        """The numbers of sums nearest to float64 ones."""
        return self._rounded(exact, self.dtype)

    def _rounded(self, exact: Tensor, dtype: torch.dtype) -> Tensor:
        rounded = exact.to(dtype).double()
        if self.flushed:
            rounded = rounded.masked_fill(rounded.abs() < torch.finfo(dtype).tiny, 0.0)
        return rounded

    def constant(self, numbers: Tensor) -> Tensor:
        """Constants of the file, which may be flushed."""
        return self._rounded(numbers, self.narrow or self.dtype)

    def result(self, value: Tensor) -> Tensor:
        """What an operation hands on: stored in the narrow type, or not."""
        stays = self.stored == "never" or (self.stored == "sometimes" and self.rng.random() < 0.5)
        return value if self.narrow is None or stays else self._rounded(value, self.narrow)

    def sums(self, terms: Tensor) -> Tensor:
        """Sums of terms ``… x J`` over the last axis, a rounding after each; ``…``."""
        terms = self._ordered(terms)
        if self.order == "blocks" and terms.shape[-1] > 3:
            middle = int(self.rng.integers(1, terms.shape[-1]))
            halves = terms[..., :middle], terms[..., middle:]
            one, other = (replace(self, order="written").sums(half) for half in halves)
            return self.round(one + other)
        total = torch.zeros(terms.shape[:-1], dtype=torch.float64)
        for place in range(terms.shape[-1]):
            total = self.round(total + terms[..., place])
        return total

    def _ordered(self, terms: Tensor) -> Tensor:
        if self.order == "random":
            keys = torch.from_numpy(self.rng.random(terms.shape))
        elif self.order in ("falling", "rising"):
            keys = terms.abs() if self.order == "rising" else -terms.abs()
        else:
            return terms
        return terms.gather(-1, keys.argsort(-1))

    def products(self, weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x W^T + b`` of constants ``O x I`` or ``N x O x I`` and ``O``; ``N x O``."""
        return self.affine(self.constant(weight), x, None if bias is None else self.constant(bias))

    def affine(self, weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The same with the numbers as they are."""
        terms = weight * self.round(x).unsqueeze(1)
        terms = terms if self.fused else self.round(terms)
        if bias is not None and self.narrow is not None and self.order == "blocks":
            return self.result(self.round(self.result(self.sums(terms)) + bias))
        if bias is not None:
            terms = torch.cat([terms, bias.expand(len(x), -1).unsqueeze(2)], 2)
        return self.result(self.sums(terms))

    def function(self, exact: Tensor, argument: Tensor) -> Tensor:
        """Values of a library's function, which may be a few roundings off."""
        unit = torch.finfo(self.dtype).eps / 2
        off = torch.from_numpy(self.rng.uniform(-3, 3, exact.shape)) * unit
        return self.result(self.round(exact * (1 + off)))


class Step(Protocol):
    """A part of a network."""

    def write(self, net: FileBuilder, x: str) -> str:
        """Its nodes; gives the name of its value."""
        ...

    def value(self, way: Way, x: Tensor) -> Tensor:
        """``N x O`` of ``N x I``, float64 that hold the arithmetic's numbers."""
        ...

    def native(self, x: Tensor) -> Tensor:
        """The same by torch, in the type of ``x``."""
        ...

    def rounded(self, number: Number) -> Step:
        """With constants that are numbers of a type."""
        ...


def value(steps: Sequence[Step], way: Way, points: Array) -> Tensor:
    """Outputs ``N x K`` at points ``N x I``, which are rounded on their way in."""
    found = way.result(way.round(torch.from_numpy(points.astype(np.float64))))
    for step in steps:
        found = step.value(way, found)
    return found


def native(steps: Sequence[Step], dtype: torch.dtype, points: Array) -> Tensor:
    """Outputs ``N x K`` by torch, as float64."""
    found = torch.from_numpy(points).to(dtype)
    for step in steps:
        found = step.native(found)
    return found.double()


def ways(name: str, rng: Generator) -> list[Way]:
    """Ways of all orders, fused and not, flushed and not, merged and not, stored and not."""
    half = DTYPES[name.removeprefix(MIXED)]
    dtype, narrow = (torch.float32, half) if name.startswith(MIXED) else (half, None)
    return [
        Way(
            *(dtype, rng, order, bool(n % 2), n % 3 == 1, n % 3 != 0, n % 2 == 0),
            narrow=narrow,
            stored=STORED[n // 2 % 3],
        )
        for n, order in enumerate((*ORDERS, "random", "falling", "blocks"))
    ]

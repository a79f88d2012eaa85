"""VNN-LIB properties as value objects.

A property describes its **counterexamples**: an input of one of its boxes whose output meets one of
that box's conjunctions of linear constraints. It is ``unsat`` iff there is none: at every point of
each box, every conjunction has a broken constraint. Shape letters: ``N`` points, ``*X`` the
network's input shape, ``K`` outputs, ``R`` constraints of a conjunction. Inputs are flat here, in
row-major order, ``I`` of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.errors import DataError
from verify_pipeline.interop.max_of_rows import AnyOf
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size
from verify_pipeline.problem import Box
from verify_pipeline.rounding import next_down, next_up


@dataclass(frozen=True, eq=False)
class Conjunction:
    """Constraints ``A y <= b`` on an output, all of which a counterexample meets.

    Attributes:
        rows: ``R x K`` float64, the matrix A.
        bounds: ``R`` float64, the vector b.
        strict: ``R`` booleans, where ``<`` is meant.
    """

    rows: Tensor
    bounds: Tensor
    strict: Tensor

    def __len__(self) -> int:
        return self.rows.shape[0]

    def excess(self, outputs: Tensor) -> Tensor:
        """``A y - b`` in float64, ``N x R``, of outputs ``N x K``; positive where a row breaks."""
        return outputs.double() @ self.rows.T - self.bounds

    def is_met(self, outputs: Tensor, tolerance: float = 0.0) -> Tensor:
        """Whether outputs ``N x K`` meet every row, or break it by ``tolerance`` at most; ``N``.

        Without a tolerance a tie breaks a strict row.
        """
        excess = self.excess(outputs)
        met = excess <= tolerance
        if tolerance == 0:
            met &= (excess < 0) | ~self.strict
        return met.all(1)

    @property
    def compares(self) -> bool:
        """Whether each row compares two outputs with each other, and nothing else."""
        two = (self.rows != 0).sum(1) == 2
        return bool((two & (self.rows.sum(1) == 0) & (self.bounds == 0)).all())

    @property
    def denial(self) -> AnyOf:
        """The negation: some row is broken. If it holds everywhere, there is no counterexample.

        A tie already breaks a strict row; the negation asks for more, which is sound.
        """
        return AnyOf(self.rows, -self.bounds)


@dataclass(frozen=True, eq=False)
class Case:
    """One box of inputs, and the outputs that are counterexamples over it.

    Attributes:
        lower: ``I`` float64, finite.
        upper: ``I`` float64, finite, nowhere below ``lower``.
        lower_open: ``I`` booleans, where a counterexample must lie above ``lower``.
        upper_open: ``I`` booleans, where it must lie below ``upper``.
        conjunctions: one of which its output meets; at least one.
    """

    lower: Tensor
    upper: Tensor
    lower_open: Tensor
    upper_open: Tensor
    conjunctions: tuple[Conjunction, ...]

    def box(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Box:
        """The closed box, float64 ``1 x *X``; sound where limits are open.

        Most networks take float32 numbers. Many properties fix an input to a number that is no
        float32, and whoever runs the network rounds it. So limits without a float32 number between
        them are widened to the nearest one: a proof covers both numbers, and a counterexample has
        the rounded one.

        Args:
            shape: ``*X``.
            dtype: of the network's input; in float64 nothing is rounded.
        """
        lower, upper = self._reached(dtype)
        return Box(lower.reshape(1, *shape), upper.reshape(1, *shape))

    def has_input(self, dtype: torch.dtype = torch.float32) -> bool:
        """Whether an input of that dtype lies in it; strict limits may leave no room for one."""
        lower, upper = self._reached(dtype)
        least = inner_box(Box(lower, upper), dtype).lower.to(dtype)
        on_limit = self.lower_open & (least.double() == self.lower)
        least = torch.where(on_limit, next_up(least), least).double()
        below = (least < upper) | ((least == upper) & ~self.upper_open)
        return bool(((least >= lower) & below).all())

    @property
    def free_inputs(self) -> int:
        """The number of inputs that have more than one float32 value."""
        inner = inner_box(Box(self.lower, self.upper))
        return int((inner.lower < inner.upper).sum())

    def _reached(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The limits of :meth:`box`, ``I``."""
        nearest = inner_box(Box(self.lower, self.upper), dtype).lower.double()
        without = (nearest < self.lower) | (nearest > self.upper)
        without &= ~(self.lower_open | self.upper_open)
        return (
            torch.where(without, torch.minimum(self.lower, nearest), self.lower),
            torch.where(without, torch.maximum(self.upper, nearest), self.upper),
        )

    def contains(self, points: Tensor, tolerance: float = 0.0) -> Tensor:
        """Whether points ``N x *X`` lie in :meth:`box`, or ``tolerance`` outside at most; ``N``.

        The box is that of networks that take numbers of the points' dtype.
        """
        flat, (lower, upper) = points.double().flatten(1), self._reached(points.dtype)
        inside = (flat >= lower - tolerance) & (flat <= upper + tolerance)
        if tolerance == 0:
            inside &= ~(self.lower_open & (flat == self.lower))
            inside &= ~(self.upper_open & (flat == self.upper))
        return inside.all(1)

    def off_open_limits(self, point: Tensor) -> Tensor:
        """A point ``*X`` of the closed box, a step of its dtype inward from open limits."""
        flat = point.flatten()
        on_lower = self.lower_open & (flat.double() == self.lower)
        on_upper = self.upper_open & (flat.double() == self.upper)
        moved = torch.where(on_lower, next_up(flat), flat)
        return torch.where(on_upper, next_down(moved), moved).reshape(point.shape)

    @property
    def one_exceeds_all(self) -> bool:
        """Whether there is no counterexample iff one output exceeds each of the others."""
        if any(len(one) != 1 or not one.compares for one in self.conjunctions):
            return False
        rows = torch.cat([one.rows for one in self.conjunctions])
        greatest = (rows == 1).all(0)
        others = (rows == -1).any(0)
        return int(greatest.sum()) == 1 and bool((greatest | others).all())

    @property
    def denials(self) -> tuple[AnyOf, ...]:
        """The negated conjunctions; if all hold over the box, it contains no counterexample."""
        return tuple(conjunction.denial for conjunction in self.conjunctions)


@dataclass(frozen=True, eq=False)
class VnnlibProperty:
    """Counterexamples of a network, case by case.

    Attributes:
        inputs: I.
        outputs: K.
        cases: each with a box of its own; at least one.
        source: the file's name, for messages.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]
    source: str = "property"

    def check_fits(self, graph: Graph) -> None:
        """Refuse a network that this property does not fit.

        Raises:
            DataError: another number of inputs or outputs.
        """
        for what, own, network in (
            ("inputs", self.inputs, size(graph.input_shape)),
            ("outputs", self.outputs, graph.outputs),
        ):
            if own != network:
                raise DataError(
                    f"{what} of {self.source}",
                    expected=f"the network's {network}",
                    got=str(own),
                    remedy="Check that the property and the network belong together.",
                )

    def is_counterexample(self, points: Tensor, outputs: Tensor, tolerance: float = 0.0) -> Tensor:
        """Whether inputs ``N x *X`` with outputs ``N x K`` are counterexamples; ``N`` booleans.

        Args:
            points: the inputs, in the dtype that the network takes.
            outputs: the network's, at these inputs.
            tolerance: by which each limit and each constraint may be overstepped.
        """
        found = torch.zeros(len(points), dtype=torch.bool)
        for case in self.cases:
            inside = case.contains(points, tolerance)
            for conjunction in case.conjunctions:
                found |= inside & conjunction.is_met(outputs, tolerance)
        return found

"""LP leaves: a domain in which every activation is decided is a linear program.

In such a domain the network is affine. A row of the specification is ``c x + c0`` over a polytope:
the box and the half-spaces ``A x + b >= 0`` of the splits. The answer of the LP solver is no
evidence, since it holds only within the solver's tolerances. Its multipliers ``λ`` give the dual
bound

    c x + c0  >=  c x + c0 - λ (A x + b)  >=  min over the box of (c - λ A) x  +  c0 - λ b.

By weak duality it holds for every ``λ >= 0``. The multipliers of the half-spaces are those of the
splits (β), so that ``crown_margins`` evaluates this bound, with its allowance for rounding. With
``c = c0 = 0``, a bound above zero shows that the polytope is empty (Farkas).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import highspy
import numpy as np
import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, NodeBounds, Splits, crown_margins
from verify_pipeline.branching.exact.affine import Affine, propagate
from verify_pipeline.branching.tree.splittable import activations
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification

COLUMNS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Polytope:
    """``lower <= x <= upper`` and ``matrix x + offset >= 0``.

    Attributes:
        lower: ``I``, float64; I is the number of inputs.
        upper: ``I``.
        matrix: ``M x I``, one row per half-space.
        offset: ``M``.
    """

    lower: Tensor
    upper: Tensor
    matrix: Tensor
    offset: Tensor


@dataclass(frozen=True, eq=False)
class Leaf:
    """The solution of a domain in which every activation is decided.

    Attributes:
        lower: ``S``, float64 lower bounds of the rows; infinite if the domain is empty.
        points: ``S x *X``, the solver's minimisers, clamped to the box; they are no evidence. None
            if the domain is empty.
    """

    lower: Tensor
    points: Tensor | None


@torch.no_grad()
def lp_leaf(
    graph: Graph, box: Box, spec: Specification, bounds: NodeBounds, splits: Splits
) -> Leaf:
    """Bounds of every row over a domain in which each activation is decided.

    Args:
        graph: in float64, piecewise linear.
        box: one box, ``1 x *X``.
        spec: one specification, ``1 x S x K``.
        bounds: bounds of the instance without splits; they show which activations are stable.
        splits: splits of the domain, ``1 x *V``; every activation that is not stable must be split.

    Raises:
        UnsupportedOperatorError: the graph is not piecewise linear.
        ValueError: an activation is not decided.
    """
    domain = _Domain.of(graph, box, bounds, splits)
    polytope, rows = _affine_domain(graph, box, spec, domain.phases)
    if len(polytope.offset) and domain.emptiness(_of_emptiness(polytope)) > 0:
        return Leaf(torch.full_like(spec.offsets[0], math.inf), None)
    solutions = [_minimise(polytope, row) for row in rows]
    lower = domain.proved(spec, torch.stack([multipliers for _, multipliers in solutions]))
    points = torch.stack([point for point, _ in solutions])
    points = points.clamp(polytope.lower, polytope.upper)
    return Leaf(lower, points.reshape(-1, *graph.input_shape))


@torch.no_grad()
def leaf_multipliers(
    graph: Graph, box: Box, spec: Specification, bounds: NodeBounds, splits: Splits
) -> dict[int, Tensor]:
    """Multipliers of a domain's half-spaces that bound its one row as well as the solver can.

    In an empty domain, they make the bound positive: those that prove it empty, times a factor.
    Arguments are those of :func:`lp_leaf`, with one row.

    Returns:
        For each activation ``*V``, numbers >= 0; 0 where it is not split.
    """
    domain = _Domain.of(graph, box, bounds, splits)
    polytope, rows = _affine_domain(graph, box, spec, domain.phases)
    multipliers = _minimise(polytope, rows[0])[1].clamp(min=0)
    lower = float(domain.proved(spec, multipliers.unsqueeze(0)))
    if lower <= 0 and len(polytope.offset):
        empty = _of_emptiness(polytope).clamp(min=0)
        gain = domain.emptiness(empty)
        multipliers = multipliers + (1 - lower) / gain * empty if gain > 0 else multipliers
    beta = domain.of_splits(multipliers.unsqueeze(0))
    return {place: values[0, 0] for place, values in beta.items()}


@dataclass(frozen=True, eq=False)
class _Phase:
    """The signs of an activation's inputs in a domain.

    Attributes:
        active: ``*V`` booleans, neurons whose input is at least 0.
        split: ``*V`` booleans, neurons that are split.
    """

    active: Tensor
    split: Tensor


@dataclass(frozen=True, eq=False)
class _Domain:
    """A domain in which every activation is decided, and what multipliers prove of it."""

    graph: Graph
    box: Box
    bounds: NodeBounds
    splits: Splits
    phases: dict[int, _Phase]

    @staticmethod
    def of(graph: Graph, box: Box, bounds: NodeBounds, splits: Splits) -> _Domain:
        phases = {place: _phase(graph, place, bounds, splits) for place in activations(graph)}
        return _Domain(graph, box, bounds, splits, phases)

    def proved(self, spec: Specification, multipliers: Tensor) -> Tensor:
        """The bounds ``S`` of rows, with multipliers ``S x M`` of the half-spaces."""
        found = Multipliers({}, self.of_splits(multipliers))
        return crown_margins(self.graph, self.box, spec, self.bounds, found, self.splits).lower[0]

    def emptiness(self, multipliers: Tensor) -> float:
        """Above zero if the multipliers ``M`` prove that no point of the box is in the domain."""
        outputs = self.graph.nodes[-1].shape[-1]
        rows = self.box.lower.new_zeros(1, 1, outputs)
        return float(self.proved(Specification(rows, rows[:, :, 0]), multipliers.unsqueeze(0)))

    def of_splits(self, multipliers: Tensor) -> dict[int, Tensor]:
        """Multipliers of half-spaces, ``S x M``, as β of the activations, ``1 x S x *V``."""
        counts = [int(phase.split.sum()) for phase in self.phases.values()]
        beta = {}
        parts = multipliers.split(counts, 1)
        for part, (place, phase) in zip(parts, self.phases.items(), strict=True):
            beta[place] = part.new_zeros(1, len(part), *phase.split.shape)
            beta[place][:, :, phase.split] = part.clamp(min=0)
        return beta


def _phase(graph: Graph, place: int, bounds: NodeBounds, splits: Splits) -> _Phase:
    source = graph.nodes[place].inputs[0]
    lower, upper = bounds.lower[source][0], bounds.upper[source][0]
    split = splits[place][0] if place in splits else torch.zeros_like(lower, dtype=torch.int8)
    if bool(((split == 0) & (lower < 0) & (upper > 0)).any()):
        raise ValueError(f"activation {place} is not decided everywhere")
    return _Phase((split > 0) | ((split == 0) & (lower >= 0)), split != 0)


def _affine_domain(
    graph: Graph, box: Box, spec: Specification, phases: dict[int, _Phase]
) -> tuple[Polytope, Tensor]:
    """A domain's polytope, and the specification's rows ``S x I`` on it; rounded."""
    inputs = math.prod(graph.input_shape)
    eye = torch.eye(inputs, dtype=box.lower.dtype, device=box.lower.device)
    parts = [
        _columns(graph, part.reshape(-1, *graph.input_shape), phases)
        for part in eye.split(COLUMNS_AT_ONCE)
    ]
    matrix = torch.cat([part[0].coefficients for part in parts]).T
    output = torch.cat([part[1].coefficients for part in parts])
    polytope = Polytope(
        box.lower.flatten(), box.upper.flatten(), matrix, parts[0][0].constant.flatten()
    )
    return polytope, spec.rows[0] @ output.T


def _columns(graph: Graph, columns: Tensor, phases: dict[int, _Phase]) -> tuple[Affine, Affine]:
    """Expressions of the half-spaces, ``J x M``, and of the output, ``J x K``, in J inputs."""
    zero = torch.zeros_like(columns[:1])
    coefficients, constants = [columns.new_zeros(len(columns), 0)], [columns.new_zeros(1, 0)]

    def decided(place: int, slope: float, value: Affine) -> Affine:
        phase = phases[place]
        side = torch.where(phase.active[phase.split], 1.0, -1.0).to(columns.dtype)
        coefficients.append(value.coefficients[:, phase.split] * side)
        constants.append(value.constant[:, phase.split] * side)
        # torch.where of two Python numbers would round the slope to float32
        gain = torch.full_like(value.constant[0], slope).masked_fill(phase.active, 1.0)
        return Affine(value.coefficients * gain, value.constant * gain)

    output = propagate(graph, Affine(columns, zero), decided)
    return Affine(torch.cat(coefficients, 1), torch.cat(constants, 1)), output


def _of_emptiness(polytope: Polytope) -> Tensor:
    """Multipliers ``M`` that may prove that no point of the box lies in all half-spaces.

    They are those of the program that minimises the largest violation of a half-space: the least
    ``t`` with ``A x + b + t >= 0``.
    """
    scale = polytope.matrix.abs().sum(1) + polytope.offset.abs()
    scale = torch.where(scale > 0, scale, 1)
    matrix, offset = polytope.matrix / scale.unsqueeze(1), polytope.offset / scale
    program = Polytope(
        torch.cat([polytope.lower, polytope.lower.new_tensor([-2.0])]),
        torch.cat([polytope.upper, polytope.upper.new_tensor([1e9])]),
        torch.cat([matrix, torch.ones_like(offset).unsqueeze(1)], 1),
        offset,
    )
    least_violation = torch.zeros_like(program.lower)
    least_violation[-1] = 1
    _, multipliers = _minimise(program, least_violation)
    return multipliers / scale


def _minimise(polytope: Polytope, row: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise ``row x`` with HiGHS: a point ``I``, and multipliers ``M`` of the half-spaces.

    They are no evidence. If the solver has no answer, the point is the middle of the box, and the
    multipliers are zeros.
    """
    solver = highspy.Highs()
    solver.silent()
    solver.passModel(_program(polytope, row))
    solver.run()
    solution = solver.getSolution()
    point, multipliers = np.asarray(solution.col_value), np.asarray(solution.row_dual)
    halves, inputs = polytope.matrix.shape
    if len(multipliers) != halves or not np.isfinite(multipliers).all():
        multipliers = np.zeros(halves)
    if len(point) != inputs or not np.isfinite(point).all():
        point = ((polytope.lower + polytope.upper) / 2).cpu().numpy()
    like = polytope.lower
    return (
        torch.as_tensor(point, dtype=like.dtype, device=like.device),
        torch.as_tensor(multipliers, dtype=like.dtype, device=like.device),
    )


def _program(polytope: Polytope, row: Tensor) -> highspy.HighsLp:
    matrix = polytope.matrix.cpu().numpy()
    program = highspy.HighsLp()
    program.num_row_, program.num_col_ = matrix.shape
    program.col_cost_ = row.cpu().numpy()
    program.col_lower_ = polytope.lower.cpu().numpy()
    program.col_upper_ = polytope.upper.cpu().numpy()
    program.row_lower_ = -polytope.offset.cpu().numpy()
    program.row_upper_ = np.full(len(matrix), highspy.kHighsInf)
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    row_of, column_of = np.nonzero(matrix)
    program.a_matrix_.start_ = np.searchsorted(row_of, np.arange(len(matrix) + 1))
    program.a_matrix_.index_ = column_of
    program.a_matrix_.value_ = matrix[row_of, column_of]
    return program

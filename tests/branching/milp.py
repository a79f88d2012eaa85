"""Exact least margins of small piecewise-linear networks by mixed-integer programming.

The encoding of Tjeng et al. 2019 (arXiv:1711.07356, equations 5 to 7): an unstable ReLU
``y = max(z, 0)`` with ``l <= z <= u`` becomes, with a binary ``δ``,

    y >= 0,   y >= z,   y <= u δ,   y <= z - l (1 - δ).

It shares no bound with the search: the big-M constants come from the expressions' own columns.
That makes it the oracle that the search is tested against.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import highspy
import numpy as np
import torch
from torch import Tensor

from verify_pipeline.branching.exact.affine import Affine, propagate
from verify_pipeline.branching.tree.splittable import activations
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


@dataclass(frozen=True, eq=False)
class ExactMargin:
    """The solver's answer for each row; it holds within about 1e-6 and is no verdict by itself.

    Attributes:
        lower: ``S``, the solver's bound of the row's least value, proven within its tolerances.
        points: ``S x *X``, where the solver found each row least, clipped into the box.
        value: ``S``, the row's value there, by the network itself.
    """

    lower: Tensor
    points: Tensor
    value: Tensor


@torch.no_grad()
def milp_margin(
    graph: Graph, box: Box, spec: Specification, n: int, gap: float = 0.0
) -> ExactMargin:
    """The exact least value of every row of instance ``n``.

    Args:
        graph: in float64; linear operations, ReLU and leaky ReLU.
        box: ``N x *X``.
        spec: ``N x S x K``.
        n: which instance.
        gap: relative distance of ``lower`` and ``value`` at which the solver may stop; 0.99 is
            enough for the sign.

    Raises:
        UnsupportedOperatorError: the graph is not piecewise linear.
    """
    graph, box, spec = graph.to("cpu"), box.to("cpu"), spec.to("cpu")
    encoding = _Encoding(graph, box[n : n + 1])
    rows = spec.rows[n] @ encoding.output.coefficients.T
    constants = spec.rows[n] @ encoding.output.constant[0] + spec.offsets[n]
    inputs = math.prod(graph.input_shape)
    lower, points = [], []
    for row, constant in zip(rows, constants, strict=True):
        bound, columns = encoding.minimise(row.numpy(), gap)
        lower.append(bound + float(constant))
        points.append(torch.as_tensor(columns[:inputs], dtype=box.lower.dtype))
    found = torch.stack(points).reshape(-1, *graph.input_shape)
    found = found.clamp(box.lower[n], box.upper[n])
    reached = (graph(found) * spec.rows[n]).sum(1) + spec.offsets[n]
    return ExactMargin(torch.tensor(lower, dtype=box.lower.dtype), found, reached)


class _Encoding:
    """A network over one box as a mixed-integer program without an objective.

    Columns: the inputs; one for each activation's element (``y``, fixed to 0 where it is stable);
    then one binary for each unstable one.
    """

    def __init__(self, graph: Graph, box: Box) -> None:
        inputs = math.prod(graph.input_shape)
        elements = sum(math.prod(graph.nodes[place].shape) for place in activations(graph))
        self._lower = np.concatenate([box.lower.flatten().numpy(), np.zeros(elements)])
        self._upper = np.concatenate([box.upper.flatten().numpy(), np.zeros(elements)])
        self._unstable: list[tuple[int, np.ndarray, float, float, float]] = []
        self._next = inputs
        eye = torch.eye(inputs + elements, inputs, dtype=box.lower.dtype)
        columns = Affine(eye.reshape(-1, *graph.input_shape), torch.zeros_like(box.lower))
        self.output = propagate(graph, columns, self._activation)

    def _activation(self, place: int, slope: float, value: Affine) -> Affine:
        """``slope * z + (1 - slope) * y`` with ``y = max(z, 0)``."""
        rows = value.coefficients.flatten(1).T.numpy()
        constants = value.constant.flatten().numpy()
        positive, negative = rows.clip(min=0), rows.clip(max=0)
        lower = positive @ self._lower + negative @ self._upper + constants
        upper = positive @ self._upper + negative @ self._lower + constants
        relu_rows, relu_constants = np.zeros_like(rows), np.zeros_like(constants)
        for element in range(len(rows)):
            column, self._next = self._next, self._next + 1
            low, high = float(lower[element]), float(upper[element])
            if low >= 0:
                relu_rows[element], relu_constants[element] = rows[element], constants[element]
            elif high > 0:
                relu_rows[element, column] = 1.0
                self._upper[column] = high
                self._unstable.append((column, rows[element], constants[element], low, high))
        relu = Affine(
            torch.as_tensor(relu_rows.T).reshape(value.coefficients.shape),
            torch.as_tensor(relu_constants).reshape(value.constant.shape),
        )
        return Affine(
            slope * value.coefficients + (1 - slope) * relu.coefficients,
            slope * value.constant + (1 - slope) * relu.constant,
        )

    def minimise(self, cost: np.ndarray, gap: float) -> tuple[float, np.ndarray]:
        """Bound of ``cost`` times the columns, and the columns that were found least."""
        solver = highspy.Highs()
        solver.silent()
        solver.setOptionValue("mip_rel_gap", gap)
        solver.setOptionValue("mip_abs_gap", 0.0)
        # HiGHS 1.15's presolve has cut off the optimum of such a program and called it optimal
        solver.setOptionValue("presolve", "off")
        solver.passModel(self._program(cost))
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise ArithmeticError(f"HiGHS: {solver.modelStatusToString(solver.getModelStatus())}")
        info = solver.getInfo()
        bound = info.mip_dual_bound if self._unstable else info.objective_function_value
        return bound, np.asarray(solver.getSolution().col_value)

    def _program(self, cost: np.ndarray) -> highspy.HighsLp:
        reals, binaries = len(self._lower), len(self._unstable)
        rows = np.zeros((3 * binaries, reals + binaries))
        lower = np.empty(3 * binaries)
        for i, (column, row, constant, low, high) in enumerate(self._unstable):
            above, on, off = rows[3 * i : 3 * i + 3]  # each written as rows @ columns >= lower
            above[:reals] = -row
            above[column] += 1.0
            lower[3 * i] = constant
            on[column], on[reals + i] = -1.0, high
            lower[3 * i + 1] = 0.0
            off[:reals], off[reals + i] = row, low
            off[column] -= 1.0
            lower[3 * i + 2] = low - constant
        program = highspy.HighsLp()
        program.num_row_, program.num_col_ = rows.shape
        program.col_cost_ = np.concatenate([cost, np.zeros(binaries)])
        program.col_lower_ = np.concatenate([self._lower, np.zeros(binaries)])
        program.col_upper_ = np.concatenate([self._upper, np.ones(binaries)])
        program.row_lower_, program.row_upper_ = lower, np.full(len(rows), highspy.kHighsInf)
        program.integrality_ = [highspy.HighsVarType.kContinuous] * reals + [
            highspy.HighsVarType.kInteger
        ] * binaries
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        row_of, column_of = np.nonzero(rows)
        program.a_matrix_.start_ = np.searchsorted(row_of, np.arange(len(rows) + 1))
        program.a_matrix_.index_, program.a_matrix_.value_ = column_of, rows[row_of, column_of]
        return program

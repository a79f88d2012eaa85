"""A graph's values as affine expressions of some columns, once its activations are replaced.

The columns are the variables of a linear or integer program. An expression carries its columns
where a value carries its batch, so that an operation's linear part maps all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from verify_pipeline.branching.tree.splittable import slope
from verify_pipeline.errors import UnsupportedOperatorError
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Add, Concat, Constant, LeakyRelu, LinearOp, Relu, Sub


@dataclass(frozen=True, eq=False)
class Affine:
    """``constant + Σ_j column_j * coefficients_j``.

    Attributes:
        coefficients: ``J x *V``, one per column.
        constant: ``1 x *V``.
    """

    coefficients: Tensor
    constant: Tensor


Rule = Callable[[int, float, Affine], Affine]
"""Replaces the activation at a place, ``max(x, slope * x)``, of its input's expression."""


def propagate(graph: Graph, columns: Affine, activation: Rule) -> Affine:
    """The output's expression, from the input's, with every activation replaced by the rule.

    Args:
        graph: of linear operations, ReLU and leaky ReLU.
        columns: the input's expression, ``J x *X`` and ``1 x *X``.
        activation: called at each activation with its place, its slope and its input's expression.

    Raises:
        UnsupportedOperatorError: the graph has an operation that is not piecewise linear, or none
            that this encoding knows.
    """
    values = [columns]
    for place, node in enumerate(graph.nodes[1:], 1):
        inputs = [values[i] for i in node.inputs]
        if isinstance(node.op, Relu | LeakyRelu):
            values.append(activation(place, slope(node), inputs[0]))
        else:
            values.append(_linear(node, inputs))
    return values[-1]


def _linear(node: Node, inputs: list[Affine]) -> Affine:
    constants = [i.constant for i in inputs]
    coefficients = [i.coefficients for i in inputs]
    if isinstance(node.op, LinearOp):
        return Affine(node.op.linear(coefficients[0]), node.op(constants[0]))
    if isinstance(node.op, Add | Sub | Concat):
        return Affine(node.op(*coefficients), node.op(*constants))
    if isinstance(node.op, Constant):
        return Affine(node.op(coefficients[0]) * 0, node.op(constants[0]))
    raise UnsupportedOperatorError(
        f"node {node.name}",
        expected="a linear operation, ReLU or leaky ReLU",
        got=type(node.op).__name__,
        remedy="Exact bounds exist for piecewise-linear networks only.",
    )

"""The values of a graph as affine expressions of variables, after its activations are replaced.

The columns are the variables of a linear or integer program. They take the place of the batch axis,
so that the linear part of an operation maps all columns at once.
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
        coefficients: ``J x *V``, one for each column.
        constant: ``1 x *V``.
    """

    coefficients: Tensor
    constant: Tensor


Rule = Callable[[int, float, Affine], Affine]
"""Replaces an activation ``max(x, slope * x)``: (node index, slope, expression of x) -> its
expression."""


def propagate(graph: Graph, columns: Affine, activation: Rule) -> Affine:
    """The expression of the output from that of the input; the rule replaces every activation.

    Args:
        graph: a graph of linear operations, ReLU and leaky ReLU.
        columns: the expression of the input, ``J x *X`` and ``1 x *X``.
        activation: called with the node index, slope and input expression of each activation.

    Raises:
        UnsupportedOperatorError: an operation is not piecewise linear, or this encoding does not
            know it.
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

"""Which operations of a file round as the operations of its graph do, and what its constants are.

The reader writes some operators in several operations, such as a layer normalisation, of which
runtimes have algorithms of their own. The roundings of these do not follow from the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto

from verify_pipeline.network.arithmetic import ARITHMETICS
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Elementwise
from verify_pipeline.network.written import Written
from verify_pipeline.onnx.half import is_half, is_real
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators import node_name
from verify_pipeline.onnx.trace import Activation, Value


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MOVING = _names("""
    Cast CastLike Concat Constant ConstantOfShape DepthToSpace Dropout Expand Flatten Gather
    GatherND Identity If Pad Reshape Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose
    Trilu Unsqueeze Where
""")
"""Operators that only move, pick or repeat elements."""

FOLLOWED = MOVING | _names("""
    Abs Add Atan AveragePool BatchNormalization Celu Clip Conv ConvTranspose Cos Div Einsum Elu Erf
    Exp Gelu Gemm GlobalAveragePool HardSigmoid HardSwish LeakyRelu Log MatMul Max MaxPool Mean Min
    Mish Mul Neg PRelu ReduceL1 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Reciprocal
    Relu Selu Sigmoid Sin Softmax Softplus Sqrt Sub Sum Swish Tanh LayerNormalization
""")
"""Operators whose roundings follow from the graph's operations. Not among them: other
normalisations by statistics of the value itself, which runtimes replace by algorithms of their own.
Layer normalisation may be written by one operator or by several
(``bounds/forward_error/normalisations.py``)."""

POWERS = _names("Pow")
"""Operators that are followed if they are nothing but a square."""

DETERMINED = MOVING | _names("Abs Add Div Mul Neg Range Sqrt Sub")
"""Operators that IEEE 754 rounds in one way only: constants that they compute of constants are the
same in every evaluation."""


PRODUCTS = _names("Abs Div Mul Neg Sqrt")
"""Operators of constants that are exact if no number has more than :data:`DIGITS` digits."""

DIGITS = 4
"""Products, quotients and roots of numbers with so few digits that have so few themselves are exact
in all types: others differ from them by more than any type rounds."""


def _has_few_digits(numbers: Array) -> bool:
    """Whether all are 0, or normal numbers of all types with :data:`DIGITS` digits."""
    sizes = np.abs(numbers.astype(np.float64))
    normal = (sizes == 0) | ((sizes >= 2.0**-14) & (sizes < 2.0**15))
    return bool((normal & ((np.frexp(sizes)[0] * 2.0**DIGITS) % 1 == 0)).all())


def _multiplies_its_constant(node: NodeProto) -> bool:
    """Whether a Gemm's ``beta * C`` does not tell if C may be flushed to zero or overflow."""
    betas = [item.f for item in node.attribute if item.name == "beta"]
    return node.op_type == "Gemm" and any(beta not in (0.0, 1.0) for beta in betas)


class Writing:
    """What a reading notes about the file's operations and constants.

    Attributes:
        foreign: the first operation whose roundings do not follow from the graph; empty: none.
        held_by: names of the arithmetics that hold all constants so far.
        rounded_to: names of the half precisions that activations are in.
        computed: whether computing a constant of constants may round in some half precision.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.foreign = ""
        self.rounded_to: set[str] = set()
        self.computed = False
        self._powers: dict[str, NodeProto] = {}
        self.held_by = frozenset(ARITHMETICS)
        for array in weights.values():
            self._hold(array)

    def activation(self, node: NodeProto) -> None:
        """A node that computes with activations."""
        if node.op_type in POWERS:
            self._powers[node.output[0]] = node
        elif node.op_type not in FOLLOWED or _multiplies_its_constant(node):
            self._refuse(node)

    def results(self, values: tuple[Value, ...]) -> None:
        """Values of inputs or nodes."""
        for value in values:
            if isinstance(value, Activation) and is_half(value.dtype):
                self.rounded_to.add(value.dtype.name)

    def constants(
        self, node: NodeProto, inputs: Sequence[Array | None], values: tuple[Array, ...]
    ) -> None:
        """A node that computes constants of constants."""
        real = [value for value in values if is_real(value)]
        given = [value for value in inputs if value is not None and is_real(value)]
        if real and node.op_type not in DETERMINED:
            self._refuse(node)
        if real and node.op_type not in MOVING:
            exact = all(_has_few_digits(value) for value in (*given, *real))
            self.computed |= not (exact and node.op_type in PRODUCTS)
        for value in real:
            self._hold(value)

    def written(self, graph: Graph) -> Written:
        """The graph, before it is simplified, with these notes."""
        squares = {
            node.name
            for node in graph.nodes
            if isinstance(node.op, Elementwise) and node.op.function == "square"
        }
        for output, node in self._powers.items():
            made = [each.name for each in graph.nodes if each.name.partition("#")[0] == output]
            if len(made) != 1 or made[0] not in squares:
                self._refuse(node)
        return Written(graph, self.held_by, self.foreign, frozenset(self.rounded_to), self.computed)

    def _hold(self, array: Array) -> None:
        if is_real(array):
            held = (name for name in self.held_by if ARITHMETICS[name].holds(array))
            self.held_by = frozenset(held)

    def _refuse(self, node: NodeProto) -> None:
        self.foreign = self.foreign or node_name(node)

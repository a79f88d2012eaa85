"""What a file is read into computes what the file says, whatever the size of its constants.

Small networks with constants from 1e-30 to 1e30 are evaluated exactly, in fractions, with what each
number may be rounded by: of a sum its terms, of a maximum the greater one alone. A rewriting that
adds a number and takes it away again is seen, also where onnxruntime's float32 would hide it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper

from tests.onnx_networks import onnx_file, operator_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.network.graph import Graph
from verify_pipeline.onnx import network_from_bytes

Array = NDArray[Any]
WIDTH = 3
PRECISION = Fraction(1, 2**40)
"""Of a number's size: a few hundred roundings of float64."""


@dataclass(frozen=True)
class Number:
    """A value, and the size that its rounding is relative to."""

    value: Fraction
    size: Fraction

    def __add__(self, other: Number) -> Number:
        return Number(self.value + other.value, self.size + other.size)

    def times(self, factor: Fraction) -> Number:
        return Number(self.value * factor, self.size * abs(factor))

    def greater(self, other: Number) -> Number:
        """The size of the greater; of both where rounding may exchange them."""
        high, low = (self, other) if self.value >= other.value else (other, self)
        near = high.value - low.value <= PRECISION * (high.size + low.size)
        return Number(high.value, max(high.size, low.size) if near else high.size)


Row = list[Number]
Step = Callable[[Row], Row]


def constant(value: float) -> Number:
    return Number(Fraction(value), abs(Fraction(value)))


ZERO = constant(0.0)


def lesser(a: Number, b: Number) -> Number:
    return a.times(Fraction(-1)).greater(b.times(Fraction(-1))).times(Fraction(-1))


def root(square: Fraction) -> Fraction:
    """The square root to a hundred digits."""
    digits = 10**100
    return Fraction(math.isqrt(square.numerator * digits**2 // square.denominator), digits)


def relu(row: Row) -> Row:
    return [x.greater(ZERO) for x in row]


class Drawn:
    """A random network: its nodes and weights, and the same in fractions."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.steps: list[Step] = []

    def number(self, *shape: int) -> Array:
        """Float32 numbers of any size, some of them ordinary."""
        ordinary = self.random.random() < 0.4
        power = 0.0 if ordinary else self.random.uniform(-30, 30)
        return np.asarray(self.random.normal(size=shape) * 10.0**power, dtype=np.float32)

    def node(self, op: str, *weights: Array, **attributes: Any) -> None:
        place = len(self.nodes)
        names = [f"w{place}_{i}" for i in range(len(weights))]
        self.weights.update(zip(names, weights, strict=True))
        name = f"{op.lower()}{place}"
        before = self.nodes[-1].output[0] if self.nodes else "x"
        self.nodes.append(helper.make_node(op, [before, *names], [name], **attributes))

    def extreme(self, op: str, pick: Callable[[Number, Number], Number]) -> None:
        limit = self.number(WIDTH) if self.random.random() < 0.5 else self.number()
        self.node(op, limit)
        limits = [constant(float(v)) for v in np.broadcast_to(limit, WIDTH)]
        self.steps.append(lambda row: [pick(x, c) for x, c in zip(row, limits, strict=True)])

    def clip(self) -> None:
        low, high = np.sort(self.number(2))
        self.node("Clip", low, high)
        ends = constant(float(low)), constant(float(high))
        self.steps.append(lambda row: [lesser(x.greater(ends[0]), ends[1]) for x in row])

    def scale(self) -> None:
        factor, shift = self.number(WIDTH), self.number(WIDTH)
        self.node("Mul", factor)
        self.node("Add", shift)
        pairs = [
            (Fraction(float(f)), constant(float(s))) for f, s in zip(factor, shift, strict=True)
        ]
        self.steps.append(
            lambda row: [x.times(f) + s for x, (f, s) in zip(row, pairs, strict=True)]
        )

    def linear(self) -> None:
        matrix = self.number(WIDTH, WIDTH)
        self.node("MatMul", matrix)
        columns = [[Fraction(float(m)) for m in column] for column in matrix.T]

        def step(row: Row) -> Row:
            return [
                sum((x.times(m) for x, m in zip(row, column, strict=True)), ZERO)
                for column in columns
            ]

        self.steps.append(step)

    def divided(self) -> None:
        divisor = self.number(WIDTH)
        self.node("Div", divisor)
        factors = [1 / Fraction(float(d)) for d in divisor]
        self.steps.append(lambda row: [x.times(f) for x, f in zip(row, factors, strict=True)])

    def normalised(self) -> None:
        weight, bias, mean = (self.number(WIDTH) for _ in range(3))
        variance = np.abs(self.number(WIDTH))
        self.node("BatchNormalization", weight, bias, mean, variance, epsilon=2.0**-17)
        factors = [
            Fraction(float(w)) / root(Fraction(float(v)) + Fraction(1, 2**17))
            for w, v in zip(weight, variance, strict=True)
        ]

        def step(row: Row) -> Row:
            constants = zip(factors, mean, bias, strict=True)
            return [
                (x + constant(-float(m))).times(f) + constant(float(b))
                for x, (f, m, b) in zip(row, constants, strict=True)
            ]

        self.steps.append(step)

    def slopes(self) -> None:
        slope = self.number(WIDTH)
        self.node("PRelu", slope)
        factors = [Fraction(float(s)) for s in slope]
        self.steps.append(
            lambda row: [
                x if x.value >= 0 else x.times(f) for x, f in zip(row, factors, strict=True)
            ]
        )

    def shrink(self) -> None:
        width = float(abs(self.number()))
        self.node("Shrink", lambd=width, bias=width)
        w = constant(float(np.float32(width)))

        def step(row: Row) -> Row:
            minus = w.times(Fraction(-1))
            above = relu([x + minus for x in row])
            below = relu([x.times(Fraction(-1)) + minus for x in row])
            return [a + b.times(Fraction(-1)) for a, b in zip(above, below, strict=True)]

        self.steps.append(step)

    def padded(self) -> None:
        fill = self.number()
        self.node("Pad", np.array([0, 1, 0, 0], np.int64), fill)
        self.node("Slice", *(np.array([v], np.int64) for v in (0, WIDTH, 1)))
        first = constant(float(fill))
        self.steps.append(lambda row: [first, *row[:-1]])

    def chosen(self) -> None:
        mask, other = self.random.random(WIDTH) < 0.5, self.number(WIDTH)
        place = len(self.nodes)
        self.weights |= {f"m{place}": mask, f"o{place}": other}
        before = self.nodes[-1].output[0] if self.nodes else "x"
        names = [f"m{place}", before, f"o{place}"]
        self.nodes.append(helper.make_node("Where", names, [f"where{place}"]))
        others = [constant(float(o)) for o in other]
        self.steps.append(
            lambda row: [x if m else o for x, m, o in zip(row, mask, others, strict=True)]
        )

    def pair(self) -> None:
        """The greater or the lesser of two activations."""
        factor, op = self.number(WIDTH), self.random.choice(["Max", "Min"])
        place, before = len(self.nodes), self.nodes[-1].output[0] if self.nodes else "x"
        self.node("Mul", factor)
        names = [before, self.nodes[-1].output[0]]
        self.nodes.append(helper.make_node(str(op), names, [f"pair{place}"]))
        factors = [Fraction(float(f)) for f in factor]
        pick = Number.greater if op == "Max" else lesser
        self.steps.append(
            lambda row: [pick(x, x.times(f)) for x, f in zip(row, factors, strict=True)]
        )

    def draw(self, steps: int) -> None:
        choices: list[Callable[[], None]] = [
            lambda: self.extreme("Max", Number.greater),
            lambda: self.extreme("Min", lesser),
            *(self.clip, self.scale, self.linear, self.slopes, self.shrink),
            *(self.padded, self.chosen, self.pair, self.divided, self.normalised),
        ]
        for _ in range(steps):
            choices[self.random.integers(len(choices))]()
        self.node("Identity")
        self.nodes[-1].output[0] = "y"

    def exactly(self, x: Array) -> Row:
        row = [constant(float(v)) for v in x]
        for step in self.steps:
            row = step(row)
        return row


def read(drawn: Drawn) -> Graph | str:
    """The graph, or why the file is refused."""
    data = onnx_file(drawn.nodes, (1, WIDTH), drawn.weights)
    try:
        return network_from_bytes(data, check_parity=False).graph
    except NetworkError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(150))
def test_no_rewriting_loses_a_number_beside_a_larger_one(seed: int) -> None:
    drawn = Drawn(seed)
    drawn.draw(1 + seed % 5)
    graph = read(drawn)
    if isinstance(graph, str):  # a product of constants that float32 does not hold
        assert "weights finite in float32" in graph
        assert any(repr(node.output[0]) in graph for node in drawn.nodes)
        return
    for x in np.concatenate([drawn.number(1, WIDTH) for _ in range(8)]):
        found = graph(torch.tensor(x).double()[None])[0].tolist()
        for value, number in zip(found, drawn.exactly(x), strict=True):
            assert abs(Fraction(value) - number.value) <= PRECISION * number.size


def test_most_of_these_networks_are_read() -> None:
    refused = 0
    for seed in range(150):
        drawn = Drawn(seed)
        drawn.draw(1 + seed % 5)
        refused += isinstance(read(drawn), str)
    assert refused < 30


ELU_ALPHAS = (0.5, 1e-30, 1e30)


@pytest.mark.parametrize("alpha", ELU_ALPHAS)
@pytest.mark.parametrize("op", ["Elu", "Selu", "Celu"])
def test_exponentials_keep_numbers_near_zero(op: str, alpha: float) -> None:
    """``exp(x) - 1`` of x = -1e-20 would be 0."""
    alpha = float(np.float32(alpha))
    attributes: dict[str, Any] = {"alpha": alpha} | ({"gamma": 1.0} if op == "Selu" else {})
    graph = network_from_bytes(operator_file(op, (1, 3), **attributes), check_parity=False).graph
    x = torch.tensor([[-1e-20, -1e-3, 1e-20]], dtype=torch.float64)
    below = alpha * (x / (alpha if op == "Celu" else 1)).expm1()
    assert torch.allclose(graph(x), torch.where(x < 0, below, x), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("operator", "default"), [("LeakyRelu", 0.01), ("HardSigmoid", 0.2)])
def test_attributes_left_out_are_float32_numbers(operator: str, default: float) -> None:
    """As those that are written. LeakyRelu's 0.01 is 2.2e-10 less, which onnxruntime computes."""
    point = torch.full((1, 1), -1.0, dtype=torch.float64)
    written = operator_file(operator, (1, 1), alpha=float(np.float32(default)))
    left_out = operator_file(operator, (1, 1))
    first, second = (network_from_bytes(data).graph(point) for data in (written, left_out))
    assert torch.equal(first, second)

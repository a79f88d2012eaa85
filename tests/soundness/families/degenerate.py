"""Ties, constants, dead layers, ±0, denormal and huge numbers, undefined values, bad weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from tests.onnx_networks import layers_file, node, onnx_file
from tests.soundness.asking import BoxTrial, Truth, boxes_around
from tests.soundness.building import FileBuilder, choice, normal
from tests.soundness.contract import Answer, Array, Family, Judged, Trial
from tests.soundness.exact import ExactNetwork
from tests.soundness.least import least_of_cells
from tests.soundness.replaying import outputs_of
from tests.soundness.ways import drawn, usual

BOXES, SECONDS = 16, 0.1


def _exact_trial(
    rng: Generator,
    name: str,
    model: bytes,
    limits: tuple[Array, Array],
    rows: Array,
    offsets: Array,
) -> BoxTrial:
    """Boxes of one or two free inputs of a piecewise-linear network, with exact least values."""
    lower, upper = limits
    exact = ExactNetwork(model)
    found = [least_of_cells(exact, *case) for case in zip(lower, upper, rows, offsets, strict=True)]
    truths = [Truth(least.value, least.point) for least in found]
    settings = drawn(rng, SECONDS)
    return BoxTrial(name, model, lower, upper, rows, offsets, truths, settings, ("ibp", "crown"))


def _limits(rng: Generator, inputs: int, size: float = 1.0) -> tuple[Array, Array]:
    middle = rng.uniform(-1, 1, (BOXES, inputs)) * size
    return boxes_around(middle, size * 10.0 ** rng.uniform(-3, 0, (BOXES, 1)))


def _differences(outputs: int) -> Array:
    """``f_0 - f_j`` for all boxes."""
    rows = np.concatenate([np.ones((outputs - 1, 1)), -np.eye(outputs - 1)], axis=1)
    return np.tile(rows, (BOXES, 1, 1))


def _ties(rng: Generator) -> BoxTrial:
    """Outputs of which two are the same, or two rows of weights are."""
    weight, bias = normal(rng, 3, 4), normal(rng, 3)
    weight[1], bias[1] = weight[0], bias[0]
    first = normal(rng, 4, 2), normal(rng, 4)
    model = layers_file(("n", 2), first, "Relu", (weight, bias))
    rows = _differences(3)[:, :1]
    return _exact_trial(rng, "repeated logits", model, _limits(rng, 2), rows, np.zeros((BOXES, 1)))


def _constant(rng: Generator) -> BoxTrial:
    """Weights of ±0: the margin is the bias, which is zero, tiny or far from zero."""
    zeros = np.zeros((2, 3), np.float32) * choice(rng, (1.0, -1.0))
    bias = np.array([choice(rng, (0.0, 1e-45, 1e-20, 1.0)), choice(rng, (0.0, -0.0))])
    model = layers_file(("n", 2), (normal(rng, 3, 2), normal(rng, 3)), "Relu", (zeros, bias))
    offsets = rng.choice([0.0, -0.0, 1e-300, -1e-300, -1e-20], (BOXES, 1))
    return _exact_trial(rng, "constant", model, _limits(rng, 2), _differences(2), offsets)


def _dead(rng: Generator) -> BoxTrial:
    """A layer of ReLUs that are never active, or just touch zero at a corner."""
    low, high = _limits(rng, 2)
    reach = np.abs(np.stack([low, high])).max()
    first = np.abs(normal(rng, 4, 2))
    bias = -first.sum(1) * reach * choice(rng, (1.0, 2.0))
    last = normal(rng, 2, 4), np.zeros(2)
    model = layers_file(("n", 2), (first, bias), "Relu", last)
    offsets = rng.choice([0.0, 1e-30, -1e-30], (BOXES, 1))
    return _exact_trial(rng, "dead layers", model, (low, high), _differences(2), offsets)


def _zeros(rng: Generator) -> BoxTrial:
    """Limits of +0 and -0; the margin is |x|, -x or x there."""
    low, high = np.zeros((BOXES, 1)), rng.choice([0.0, -0.0, 1.0, 1e-45], (BOXES, 1))
    low[::2] = -0.0
    model = layers_file(("n", 1), "Abs", (np.array([[1.0], [-0.0]]), np.array([-0.0, 0.0])))
    offsets = rng.choice([0.0, -0.0], (BOXES, 1))
    return _exact_trial(rng, "±0", model, (low, high), _differences(2), offsets)


def _sized(rng: Generator, name: str, size: float, gain: float) -> BoxTrial:
    """Inputs and weights of a size; offsets as far from zero as the margins, or zero."""
    inner = min(max(1 / (gain * size), 1e-37), 1e37)
    first = normal(rng, 4, 2, gain=gain), normal(rng, 4, gain=gain * size)
    last = normal(rng, 2, 4, gain=inner), normal(rng, 2)
    model = layers_file(("n", 2), first, "Relu", last)
    offsets = rng.normal(size=(BOXES, 1)) * choice(rng, (0.0, 1.0))
    return _exact_trial(rng, name, model, _limits(rng, 2, size), _differences(2), offsets)


def _denormal(rng: Generator) -> BoxTrial:
    """Weights or inputs of 1e-40, which some processors flush to zero."""
    size, gain = choice(rng, ((1.0, 1e-40), (1e-40, 1.0), (1e-40, 1e30)))
    return _sized(rng, "denormal numbers", size, gain)


def _huge(rng: Generator) -> BoxTrial:
    size, gain = choice(rng, ((1e30, 1e-30), (1e-30, 1e30), (1.0, 1e30), (1e30, 1.0)))
    return _sized(rng, "numbers of 1e±30", size, gain)


def _points(rng: Generator) -> BoxTrial:
    """Boxes of no width, and boxes with one free input of six."""
    lower, upper = boxes_around(rng.uniform(-1, 1, (BOXES, 6)), np.zeros((BOXES, 1)))
    free = rng.integers(0, 6, BOXES)
    if one_free := rng.random() < 0.5:
        upper[np.arange(BOXES), free] += rng.choice([2.0**-20, 0.25, 2.0], BOXES)
    first, last = (normal(rng, 5, 6), normal(rng, 5)), (normal(rng, 2, 5), normal(rng, 2))
    model = layers_file(("n", 6), first, "Relu", last)
    name = "one free input" if one_free else "boxes of no width"
    offsets = rng.normal(size=(BOXES, 1)) * 0.3
    return _exact_trial(rng, name, model, (lower, upper), _differences(2), offsets)


def _rows(rng: Generator) -> BoxTrial:
    """Rows of zeros, whose value is the offset; among others that hold."""
    rows = np.zeros((BOXES, 2, 2))
    rows[:, 1, 0] = rng.choice([0.0, 1e-300, 1.0], BOXES)
    offsets = np.stack([rng.choice([0.0, 1e-300, -1e-300, 1.0], BOXES), np.full(BOXES, 50.0)], 1)
    model = layers_file(("n", 2), (normal(rng, 4, 2), normal(rng, 4)), "Relu", (normal(rng, 2, 4),))
    return _exact_trial(rng, "rows of zeros", model, _limits(rng, 2), rows, offsets)


def _defaults(rng: Generator) -> BoxTrial:
    """Attributes that a file leaves out: their defaults are float32 numbers, as all attributes.

    ``-leaky_relu(x)`` is least at -1 in [-1.001, -1]: 0.01 as float32, 2.2e-10 below 0.01.
    """
    lower, upper = boxes_around(np.full((BOXES, 1), -1.0), np.zeros((BOXES, 1)))
    lower -= 10.0 ** rng.uniform(-4, -1, (BOXES, 1)).astype(np.float32)
    model = onnx_file([node("LeakyRelu", "x", "y")], ("n", 1), opset=17)
    slope = float(np.float32(0.01))
    offsets = -slope + rng.choice([-1e-10, -1e-12, 1e-10], (BOXES, 1))
    rows = np.full((BOXES, 1, 1), -1.0)
    lower = lower.astype(np.float32).astype(np.float64)
    return _exact_trial(rng, "default attributes", model, (lower, upper), rows, offsets)


UNDEFINED: tuple[tuple[str, ...], ...] = (
    ("Log", "Sigmoid"),
    ("Sqrt", "Tanh"),
    ("Sqrt", "Relu"),
    ("Log", "Clip"),
    ("Exp", "Exp", "Difference", "Sigmoid"),
    ("Reciprocal", "Quotient", "Tanh"),
    ("Log", "Max"),
    ("Sqrt", "Softmax"),
    ("Huge", "Difference", "Sigmoid"),
    ("Huge", "Relu", "Difference", "Tanh"),
    ("Huge", "Softmax"),
    ("Huge", "Neg", "Exp", "Huge", "Clip"),
)
"""Functions that are undefined or overflow in a part of every box; then some that hide it."""


def _undefined(rng: Generator) -> BoxTrial:
    """A margin of ``y + 3``, which every defined output keeps positive; NaN does not."""
    functions = choice(rng, UNDEFINED)
    net = FileBuilder((2,), 17)
    last = net.linear("x", np.array([[100.0, 0.0], [0.0, 100.0]]))
    for function in functions:
        if function == "Difference":
            last = net.add("Sub", last, last)
        elif function == "Quotient":
            last = net.add("Div", net.add("Mul", "x", np.zeros(2)), "x")
        elif function == "Clip":
            last = net.add("Clip", last, np.array(-1.0), np.array(1.0))
        elif function == "Huge":
            last = net.add("Mul", last, np.array(1e37))
        elif function == "Max":
            last = net.add("Max", last, np.array(-1.0))
        else:
            last = net.add(function, last)
    model = net.data(last)
    lower, upper = boxes_around(np.ones((BOXES, 2)), np.full((BOXES, 2), 0.25))
    lower[:, 0] = rng.choice([-1.0, 0.0], BOXES) if functions[0] == "Reciprocal" else -1.0
    points = np.stack([np.array([-1.0, 1.0]), np.array([0.0, 1.0]), np.array([1.0, 1.0])])
    outputs = outputs_of(model, points).reshape(len(points), -1)
    broken = [point for point, out in zip(points, outputs, strict=True) if np.isnan(out).any()]
    inside = [p for p in broken if all(p >= lower.max(0)) and all(p <= upper.min(0))]
    truth = Truth(point=inside[0].astype(np.float32)) if inside else Truth()
    rows, offsets = np.tile(np.eye(2), (BOXES, 1, 1)), np.full((BOXES, 2), 3.0)
    name = f"undefined: {', '.join(functions)}"
    truths = [truth] * BOXES
    return BoxTrial(name, model, lower, upper, rows, offsets, truths, drawn(rng, SECONDS))


@dataclass(frozen=True, eq=False)
class _Refusal:
    """A trial whose network has to be refused."""

    trial: BoxTrial

    @property
    def name(self) -> str:
        return self.trial.name

    def judged(self) -> list[Judged]:
        """Any verdict but UNKNOWN is false."""
        return [
            Judged(one.answer, "a decision about a network with NaN or infinite weights", one.tags)
            if one.answer in (Answer.VERIFIED, Answer.FALSIFIED)
            else one
            for one in self.trial.judged()
        ]


def _bad_weights(rng: Generator) -> _Refusal:
    weight = normal(rng, 4, 2)
    weight[0, 0] = choice(rng, (np.nan, np.inf, -np.inf))
    last = normal(rng, 2, 4) * choice(rng, (0.0, 1.0))
    model = layers_file(("n", 2), (weight, normal(rng, 4)), "Relu", (last, np.array([1.0, 0.0])))
    lower, upper = _limits(rng, 2)
    none = [Truth()] * BOXES
    rows, offsets = _differences(2), np.zeros((BOXES, 1))
    return _Refusal(
        BoxTrial(
            "NaN or infinite weights", model, lower, upper, rows, offsets, none, usual(SECONDS)
        )
    )


KINDS: tuple[Callable[[Generator], Trial], ...] = (
    *(_ties, _constant, _dead, _zeros, _denormal, _huge, _points, _rows, _undefined, _bad_weights),
    *(_defaults, _undefined),
)


def _trial(rng: Generator, number: int) -> Trial:
    return KINDS[number % len(KINDS)](rng)


FAMILY = Family("degenerate", _trial, share=2, least=5 * len(KINDS), small=len(KINDS))

"""Boxes whose exact least margin is zero, or as near to it as a float64 number can be.

The networks cancel on purpose: what one layer computes a later one takes away, and what is left is
rounding, of weights that are near 1, 1e4, 1e8 or 1e15. Offsets then move the exact least value to a
wanted number. Evaluated in floating point, it is some noise around zero, of either sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
from numpy.random import Generator

from tests.soundness.asking import BoxTrial, Truth, boxes_around
from tests.soundness.building import FileBuilder, choice, normal
from tests.soundness.contract import Array, Family
from tests.soundness.exact import ExactNetwork
from tests.soundness.least import AffineFunction, Least, expansion, least_of_cells
from tests.soundness.ways import drawn

SCALES = (1.0, 1e4, 1e8, 1e15)
TERMS = 6
"""Float64 numbers that move a least value: an offset, and coefficients of outputs that are 1."""

AFFINE_BOXES, CELL_BOXES = 160, 48
SECONDS = 0.02
"""For each box: nothing proves a tie, so a search of one only ends with its time."""

Builder = Callable[[FileBuilder, Generator, float], str]
"""Writes a network of one output, with weights of a size."""


def _weights(rng: Generator, outputs: int, inputs: int, scale: float) -> Array:
    """Of that size; half of the time small whole numbers of it, whose products are exact."""
    if rng.random() < 0.5:
        return (rng.integers(-4, 5, (outputs, inputs)) * scale).astype(np.float32)
    return normal(rng, outputs, inputs, gain=scale)


def _rectified(net: FileBuilder, rng: Generator, z: str, size: int, scale: float) -> str:
    """``relu(z + b) - relu(-z - b) - b``, which is z; b makes most neurons stable."""
    eye = np.eye(size, dtype=np.float32)
    reach = choice(rng, (0.0, 4.0, 64.0)) * scale
    bias = (reach * choice(rng, (1.0, -1.0)) * np.ones(size)).astype(np.float32)
    both = net.linear(z, np.concatenate([eye, -eye]), np.concatenate([bias, -bias]))
    rectified = net.add("Relu", both)
    return net.linear(rectified, np.concatenate([eye, -eye], axis=1), -bias)


def _undone(net: FileBuilder, x: str, last: str, weight: Array) -> str:
    """``last - weight x``, weight rounded to float32."""
    return net.add("Add", last, net.linear(x, -weight))


def _pairs(net: FileBuilder, rng: Generator, scale: float) -> str:
    """Layers of pairs of ReLUs, the product of their weights taken away in the end."""
    size = net.shape[0]
    hidden = int(rng.integers(2, 6))
    total = np.eye(size)
    last = "x"
    for depth in range(int(rng.integers(1, 4))):
        weight = _weights(rng, hidden, total.shape[0], scale if depth == 0 else 1.0)
        last = _rectified(net, rng, net.linear(last, weight), hidden, scale)
        total = weight.astype(np.float64) @ total
    weight = _weights(rng, 1, hidden, 1.0)
    return _undone(net, "x", net.linear(last, weight), weight.astype(np.float64) @ total)


def _products(net: FileBuilder, rng: Generator, scale: float) -> str:
    """Linear layers that follow each other, which a reader may multiply into one."""
    total: Array = np.eye(net.shape[0])
    last = "x"
    for depth in range(int(rng.integers(2, 5))):
        weight = _weights(rng, 3, total.shape[0], scale if depth == 0 else 1.0)
        last = net.add("MatMul", last, weight.T)
        total = weight.astype(np.float64) @ total
    weight = _weights(rng, 1, 3, 1.0)
    return _undone(net, "x", net.add("MatMul", last, weight.T), weight.astype(np.float64) @ total)


def _residual(net: FileBuilder, rng: Generator, scale: float) -> str:
    """Sums of a value and what a branch makes of it."""
    size = net.shape[0]
    total, last = np.eye(size), "x"
    for depth in range(int(rng.integers(1, 4))):
        weight = _weights(rng, size, size, scale if depth == 0 else 1.0)
        branch = _rectified(net, rng, net.linear(last, weight), size, scale)
        last = net.add("Add", last, branch)
        total = total + weight.astype(np.float64) @ total
    weight = _weights(rng, 1, size, 1.0)
    return _undone(net, "x", net.linear(last, weight), weight.astype(np.float64) @ total)


def _normalised(net: FileBuilder, rng: Generator, scale: float) -> str:
    """Batch normalisation with roots that are exact: variance and ε add up to 4 or 1/4."""
    size, hidden = net.shape[0], 3
    weight = _weights(rng, hidden, size, scale)
    square, epsilon = choice(rng, ((4.0, 2.0**-10), (0.25, 2.0**-16), (1.0, 0.5)))
    gamma, mean = normal(rng, hidden), normal(rng, hidden, gain=scale)
    variance = np.full(hidden, square - epsilon, np.float32)
    last = net.add(
        "BatchNormalization",
        *(net.linear("x", weight), gamma, normal(rng, hidden), mean, variance),
        epsilon=epsilon,
    )
    last = _rectified(net, rng, last, hidden, scale)
    end = _weights(rng, 1, hidden, 1.0)
    total = (end.astype(np.float64) * gamma / math.sqrt(square)) @ weight.astype(np.float64)
    return _undone(net, "x", net.linear(last, end), total)


def _convolved(net: FileBuilder, rng: Generator, scale: float) -> str:
    """A convolution and average pooling of a 1 x 4 x 4 image, undone by a matrix."""
    image = net.add("Reshape", "x", np.array([-1, 1, 4, 4]))
    kernel = _weights(rng, 2, 9, scale).reshape(2, 1, 3, 3)
    seen = net.add("Conv", image, kernel, pads=[1, 1, 1, 1])
    pooled = net.add("AveragePool", seen, kernel_shape=[2, 2], strides=[2, 2])
    flat = net.add("Flatten", pooled)
    last = _rectified(net, rng, flat, 8, scale)
    end = _weights(rng, 1, 8, 1.0)
    basis = np.eye(16, dtype=np.float32)
    small = FileBuilder((16,))
    inner = small.add("Reshape", "x", np.array([-1, 1, 4, 4]))
    inner = small.add("Conv", inner, (kernel / np.float32(scale)), pads=[1, 1, 1, 1])
    inner = small.add("AveragePool", inner, kernel_shape=[2, 2], strides=[2, 2])
    matrix = small.value(small.add("Flatten", inner), basis).T.astype(np.float64) * scale
    return _undone(net, "x", net.linear(last, end), end.astype(np.float64) @ matrix)


def _constants(net: FileBuilder, rng: Generator, scale: float) -> str:
    """Quotients, means and multiples that a reader may turn into other constants."""
    size = net.shape[0]
    last = net.add("Gemm", "x", _weights(rng, size, 3, scale), normal(rng, 3), alpha=0.1, beta=0.3)
    last = net.add("Div", last, rng.uniform(0.1, 7, 3))
    last = net.add("Mul", net.add("Mul", last, rng.uniform(-3, 3, 3)), rng.uniform(-3, 3, 3))
    other = net.linear("x", _weights(rng, 3, size, scale))
    last = net.add("Mean", last, other, net.linear("x", normal(rng, 3, size)))
    return net.linear(last, _weights(rng, 1, 3, 1.0))


AFFINE: Mapping[str, tuple[int, Builder]] = {
    "pairs of ReLUs": (3, _pairs),
    "products of weights": (4, _products),
    "residual sums": (3, _residual),
    "batch normalisation": (3, _normalised),
    "average pooling": (16, _convolved),
    "pairs of ReLUs, many inputs": (12, _pairs),
    "constants": (3, _constants),
}
"""Names with numbers of inputs."""

SINGLE = frozenset({"average pooling", "constants"})
"""Kinds with an operator that onnxruntime does not compute in float64."""


def _kinked(net: FileBuilder, rng: Generator, scale: float) -> str:
    """ReLUs that cancel in part: a random network, plus itself with other roundings, negated."""
    inputs, hidden = net.shape[0], int(rng.integers(2, 5))
    first, bias = normal(rng, hidden, inputs, gain=scale), normal(rng, hidden, gain=scale)
    one = net.add(choice(rng, ("Relu", "Abs")), net.linear("x", first, bias))
    if rng.random() < 0.5:
        second = normal(rng, hidden, hidden)
        one = net.add("LeakyRelu", net.linear(one, second), alpha=0.125)
    other = net.add("Relu", net.linear("x", first * np.float32(1 + 2**-20), bias))
    end = normal(rng, 1, hidden)
    return net.add("Sub", net.linear(one, np.abs(end)), net.linear(other, end))


def _wanted(rng: Generator) -> Fraction:
    """Where the exact least value is to be."""
    kind = rng.random()
    if kind < 0.25:
        return Fraction(0)
    size = (
        Fraction(10.0 ** rng.uniform(-300, -3))
        if kind < 0.6
        else Fraction(10.0 ** rng.uniform(-30, -3))
    )
    return size if rng.random() < 0.45 else -size


def _moved(rng: Generator, least: Fraction) -> tuple[list[float], float, Fraction]:
    """Coefficients of the outputs that are 1, an offset, and the least value with them.

    Half of the time a single offset, as somebody would write it; its rounding then decides.
    """
    target = _wanted(rng)
    if rng.random() < 0.5:
        offset = float(target - least)
        return [0.0] * (TERMS - 1), offset, least + Fraction(offset)
    for aim in (target, Fraction(0)):
        try:
            offset, *others = expansion(aim - least, TERMS)
        except ValueError:
            continue
        return others, offset, aim
    offset = float(-least)
    return [0.0] * (TERMS - 1), offset, least + Fraction(offset)


def _with_ones(net: FileBuilder, last: str, double: bool) -> bytes:
    """The file, in float32 or float64, whose outputs are that value and ones."""
    spread = np.eye(TERMS, 1, dtype=np.float32)
    ones = np.ones(TERMS, np.float32)
    ones[0] = 0.0
    return net.data(net.linear(last, spread, ones), double)


def _trial(rng: Generator, number: int) -> BoxTrial:
    """Affine networks in seven of nine trials, those with kinks in the others."""
    kinds = [*AFFINE, "one input", "two inputs"]
    scale = SCALES[number // len(kinds) % len(SCALES)]
    kind = kinds[number % len(kinds)]
    inputs, build = AFFINE.get(kind, (1 if kind == "one input" else 2, _kinked))
    net = FileBuilder((inputs,))
    double = rng.random() < 0.2 and kind not in SINGLE
    model = _with_ones(net, build(net, rng, scale), double)
    exact = ExactNetwork(model)
    count = AFFINE_BOXES if kind in AFFINE else CELL_BOXES
    middle = rng.uniform(-1, 1, (count, inputs))
    lower, upper = boxes_around(middle, 10.0 ** rng.uniform(-4, 0, (count, 1)), double)
    first, none = np.eye(1, TERMS), np.zeros(1)
    if kind in AFFINE:
        affine = AffineFunction(exact, (inputs,))
        leasts = [
            affine.least(low, high, first, none) for low, high in zip(lower, upper, strict=True)
        ]
    else:
        leasts = [
            least_of_cells(exact, low, high, first, none)
            for low, high in zip(lower, upper, strict=True)
        ]
    rows, offsets = np.zeros((count, 1, TERMS)), np.zeros((count, 1))
    truths = [_asked(rng, least, rows[n], offsets[n]) for n, least in enumerate(leasts)]
    settings = drawn(rng, SECONDS)
    name = f"{kind}, weights near {scale:.0e}{', float64' if double else ''}"
    return BoxTrial(name, model, lower, upper, rows, offsets, truths, settings)


def _asked(rng: Generator, least: Least, rows: Array, offsets: Array) -> Truth:
    """Write rows and offsets of a case; gives its truth."""
    others, offsets[0], value = _moved(rng, least.value)
    rows[0] = [1.0, *others]
    return Truth(value, least.point)


FAMILY = Family("near-ties", _trial, share=7, least=180, small=5)

"""Small piecewise-linear networks whose least margins are known exactly.

With one or two inputs the exact least value comes from cells in rational arithmetic; layers have
weights from 1e-30 to 1e30. With more inputs a mixed-integer program finds an input, at which the
margin is then computed in rational arithmetic. Offsets put the least value a little above or below
zero, but never within float64's noise: that is the family of near ties.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from numpy.random import Generator

from tests.branching.milp import milp_margin
from tests.exact_arrays import rational
from tests.soundness.asking import BoxTrial, Truth, boxes_around
from tests.soundness.building import FileBuilder, choice, normal
from tests.soundness.contract import Family
from tests.soundness.exact import ExactNetwork
from tests.soundness.least import least_of_cells
from tests.soundness.ways import drawn, relus_only
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.problem import Box, Specification

BOXES, SECONDS = 16, 0.2
NEAR = (1.0, 1e-2, 1e-4, 1e-6)
"""Distances of least values from zero, relative to the outputs."""

MILP_TOLERANCE = 1e-4
"""What the solver's bounds are trusted to, of outputs near 1."""


def _dense(net: FileBuilder, rng: Generator, extreme: bool) -> str:
    """Layers of ReLUs and their kin; if extreme, of sizes that are far from 1 and nearly cancel."""
    last, width, size = "x", net.shape[0], 1.0
    for _ in range(int(rng.integers(1, 4))):
        more = int(rng.integers(2, 6 if net.shape[0] <= 2 else 8))
        gain = 10.0 ** rng.uniform(-30, 30) if extreme else 1.5
        gain = min(max(gain, 1e-30 / size), 1e30 / size)
        bias = normal(rng, more, gain=gain * size)
        last = net.linear(last, normal(rng, more, width, gain=gain), bias)
        operator = choice(rng, ("Relu", "Relu", "LeakyRelu", "Abs"))
        last = net.add(operator, last, **({"alpha": 0.1} if operator == "LeakyRelu" else {}))
        width, size = more, size * gain if extreme else 1.0
    gain = min(max(10.0 ** rng.uniform(-3, 3) / size, 1e-30), 1e30) if extreme else 1.5
    return net.linear(last, normal(rng, 3, width, gain=gain), normal(rng, 3, gain=gain * size))


def _wide(net: FileBuilder, rng: Generator) -> str:
    """Two layers of ReLUs, most of them unstable."""
    last, width = "x", net.shape[0]
    for more in (12, 8):
        bias = normal(rng, more, gain=0.3)
        last = net.add("Relu", net.linear(last, normal(rng, more, width, gain=1.5), bias))
        width = more
    return net.linear(last, normal(rng, 3, width, gain=1.5), normal(rng, 3))


def _mixed(net: FileBuilder, rng: Generator) -> str:
    """A convolution, pooling, a shortcut and a maximum, of an image that two numbers make."""
    spread = net.linear("x", normal(rng, 9, net.shape[0]), normal(rng, 9))
    image = net.add("Reshape", spread, np.array([-1, 1, 3, 3]))
    seen = net.add("Conv", image, normal(rng, 2, 1, 2, 2), normal(rng, 2), strides=[1, 1])
    seen = net.add("Relu", seen)
    pooled = net.add(choice(rng, ("MaxPool", "AveragePool")), seen, kernel_shape=[2, 1])
    flat = net.add("Flatten", pooled)
    last = net.add("Add", net.linear(flat, normal(rng, 4, 4)), flat)
    last = net.add("Max", last, net.linear("x", normal(rng, 4, net.shape[0]), normal(rng, 4)))
    return net.linear(last, normal(rng, 3, 4), normal(rng, 3))


def _shifts(rng: Generator, least: Fraction, reach: float) -> tuple[float, Fraction]:
    """An offset for all rows, and the least value with it."""
    distance = choice(rng, NEAR) * max(reach, 1e-300) * rng.uniform(0.3, 1)
    offset = float(Fraction(choice(rng, (1.0, -1.0)) * distance) - least)
    return offset, least + Fraction(offset)


def _by_cells(rng: Generator, number: int) -> BoxTrial:
    inputs, kind = ((1, "one input"), (2, "two inputs"), (2, "layers of all kinds"))[number % 3]
    net = FileBuilder((inputs,))
    extreme = rng.random() < 0.6 and number % 3 < 2
    double = rng.random() < 0.25 and number % 3 < 2
    last = _mixed(net, rng) if number % 3 == 2 else _dense(net, rng, extreme)
    model = net.data(last, double)
    exact = ExactNetwork(model)
    lower, upper = boxes_around(
        rng.uniform(-1, 1, (BOXES, inputs)), 10.0 ** rng.uniform(-3, 0.3, (BOXES, 1)), double
    )
    rows = rng.normal(size=(BOXES, int(rng.integers(1, 4)), 3))
    offsets = np.zeros(rows.shape[:2])
    truths = []
    for n in range(BOXES):
        least = least_of_cells(exact, lower[n], upper[n], rows[n], offsets[n])
        reach = float(max(abs(exact(rational(lower[n : n + 1])) @ rational(rows[n]).T).flat))
        offset, value = _shifts(rng, least.value, reach)
        offsets[n] = offset
        truths.append(Truth(value, least.point))
    name = f"cells, {kind}" + (", weights from 1e-30 to 1e30" if extreme else "")
    name += ", float64" if double else ""
    settings = drawn(rng, SECONDS)
    return BoxTrial(name, model, lower, upper, rows, offsets, truths, settings, ("crown",))


def _by_milp(rng: Generator, number: int) -> BoxTrial:
    """Small networks; or wider ones, whose ReLUs are split without a look for counterexamples."""
    inputs, wide = int(rng.integers(3, 7)), number % 2 == 0
    boxes, most = (6, 1) if wide else (BOXES, 3)
    while True:  # the program knows ReLU and leaky ReLU
        net = FileBuilder((inputs,))
        model = net.data(_wide(net, rng) if wide else _dense(net, rng, False))
        if b"Abs" not in model:
            break
    exact, graph = ExactNetwork(model), network_from_bytes(model).graph
    middle = rng.uniform(-1, 1, (boxes, inputs))
    radius = np.full((boxes, 1), 0.7) if wide else 10.0 ** rng.uniform(-2, 0, (boxes, 1))
    lower, upper = boxes_around(middle, radius)
    rows = rng.normal(size=(boxes, int(rng.integers(1, most + 1)), 3))
    offsets = np.zeros(rows.shape[:2])
    box = Box(torch.from_numpy(lower), torch.from_numpy(upper))
    spec = Specification(torch.from_numpy(rows), torch.from_numpy(offsets))
    truths = []
    for n in range(boxes):
        found = milp_margin(graph, box, spec, n)
        row = int(found.value.argmin())
        point = np.asarray(found.points[row].numpy())
        value = min((exact(rational(point[None])) @ rational(rows[n]).T)[0])
        offset, value = _shifts(rng, value, 1.0)
        offsets[n] = offset
        holds_by = float(found.lower.min()) + offset
        if value <= 0:
            truths.append(Truth(point=point))
        else:
            truths.append(Truth(holds_by=holds_by if holds_by > MILP_TOLERANCE else None))
    settings = relus_only(3 * SECONDS) if wide else drawn(rng, SECONDS)
    name = f"MILP, {inputs} inputs{', splits of ReLUs' if wide else ''}"
    return BoxTrial(name, model, lower, upper, rows, offsets, truths, settings)


def _trial(rng: Generator, number: int) -> BoxTrial:
    return _by_milp(rng, number // 4) if number % 4 == 3 else _by_cells(rng, number - number // 4)


FAMILY = Family("exact", _trial, share=4, least=60, small=6)

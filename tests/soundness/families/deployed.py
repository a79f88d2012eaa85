"""Verdicts about the file as it is deployed, against evaluations in every order.

Networks lose digits: their sums are long, or take away what they have added. Offsets put the least
margin of a box at some multiple of the difference between evaluations. The truth is a sampler: if
one evaluation at one input of the box breaks a row, VERIFIED is false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import onnxruntime
import torch
from numpy.random import Generator

from tests.half_files import converted
from tests.soundness.asking import BoxTrial, Truth, boxes_around
from tests.soundness.building import FileBuilder, choice, normal
from tests.soundness.chains import Chain, Linear, Link, Mean, Scale, Shift
from tests.soundness.contract import Array, Family
from tests.soundness.elementwise import Function, LeakyRelu, Quotient
from tests.soundness.evaluations import DTYPES, MIXED, Step, Way, native, value, ways
from tests.soundness.replaying import exact_margins, runner_of
from tests.soundness.steps import Attention, Convolved, Dense, LayerNorm, Residual
from tests.soundness.ways import PROOFS, usual
from verify_pipeline.certify.settings import ArithmeticName

NAMES = (*DTYPES, "mixed-float16", "mixed-bfloat16")
BOXES, POINTS, SECONDS = 12, 10, 0.1
OUTPUTS = 3

DISTANCES = (-1.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
"""Least margins, in differences between evaluations at sampled inputs."""

Builder = Callable[[Generator, int], list[Step]]
"""Steps of a network of so many inputs, before its last layer."""


def _dense(rng: Generator, outputs: int, inputs: int, gain: float = 1.5) -> Dense:
    return Dense(normal(rng, outputs, inputs, gain=gain), normal(rng, outputs, gain=0.3))


def _cancelling(rng: Generator, inputs: int) -> list[Step]:
    """A constant is added and taken away again."""
    reach = np.float32(choice(rng, (8.0, 256.0, 2.0**16)))
    eye, hidden = np.eye(inputs, dtype=np.float32), normal(rng, inputs, inputs)
    away = np.full(inputs, reach, np.float32)
    return [Dense(hidden, away), Function("Relu"), Dense(eye, -away)]


def _deep(rng: Generator, inputs: int) -> list[Step]:
    steps: list[Step] = []
    for _ in range(int(rng.integers(2, 5))):
        steps += [_dense(rng, inputs, inputs), Function("Relu")]
    return steps


def _wide(rng: Generator, inputs: int) -> list[Step]:
    """Sums of many terms."""
    more = int(rng.integers(60, 200))
    return [_dense(rng, more, inputs, 3.0), Function("Relu"), _dense(rng, inputs, more, 3.0)]


def _residual(rng: Generator, inputs: int) -> list[Step]:
    def branch() -> Residual:
        wide = inputs + 3
        return Residual(
            (_dense(rng, wide, inputs), Function("Relu"), _dense(rng, inputs, wide, -1.0))
        )

    return [branch(), Function("Relu"), branch()]


def _normalised(rng: Generator, inputs: int) -> list[Step]:
    steps: list[Step] = []
    for _ in range(2):
        variance = rng.uniform(1e-4, 4.0, inputs)
        norm = np.stack([normal(rng, inputs), normal(rng, inputs), 3 * normal(rng, inputs)])
        norm = np.concatenate([norm, variance[None]]).astype(np.float32)
        steps += [replace(_dense(rng, inputs, inputs), norm=norm), Function("Relu")]
    return steps


def _smooth(rng: Generator, inputs: int) -> list[Step]:
    functions = (*map(Function, ("Sigmoid", "Tanh", "Exp", "Softplus")), LeakyRelu())
    gain = choice(rng, (1.0, 6.0))
    steps: list[Step] = [_dense(rng, inputs, inputs, gain), choice(rng, functions)]
    return [*steps, _dense(rng, inputs, inputs), choice(rng, functions)]


def _saturating(rng: Generator, inputs: int) -> list[Step]:
    return [_dense(rng, inputs, inputs, 40.0), Function(choice(rng, ("Sigmoid", "Tanh")))]


def _convolved(rng: Generator, inputs: int) -> list[Step]:
    del inputs  # sixteen pixels
    return [Convolved(normal(rng, 2, 1, 3, 3, gain=2.0), 4), Function("Relu")]


def _layer_norm(rng: Generator, inputs: int) -> list[Step]:
    """A variance that is small or large beside the mean."""
    dense = _dense(rng, 6, inputs)
    far = choice(rng, (0.0, 1.0, 30.0))
    norm = LayerNorm(normal(rng, 6), normal(rng, 6), bool(rng.integers(2)))
    return [replace(dense, bias=dense.bias + np.float32(far)), norm, Function("Relu")]


def _attention(rng: Generator, inputs: int) -> list[Step]:
    gain = choice(rng, (0.5, 2.0))
    query, key, values = (_dense(rng, 6, inputs, gain) for _ in range(3))
    return [Attention((query, key, values), 3), _dense(rng, inputs, 6), Function("Relu")]


SIZES = (1.0, 1.0, 30.0, 1e-2, 1e-4, 3e-5)
"""Of constants; the last ones are below float16's normal range, or become so in products."""


def _sized(rng: Generator, *shape: int) -> Array:
    """Constants of one size, some of which are smaller."""
    sizes = choice(rng, SIZES) * rng.choice([1.0, 1.0, 0.03], shape)
    return np.asarray(rng.normal(size=shape) * sizes, np.float32)


def _tiny(least: float, enlarging: Sequence[float]) -> Builder:
    """Slopes, divisors and factors near a least normal number, and what undoes their size."""

    def steps(rng: Generator, inputs: int) -> list[Step]:
        small = (least * rng.uniform(0.3, 0.9, inputs)).astype(np.float32)
        half, wide = np.full(inputs, least**0.5, np.float32), np.ones(inputs, np.float32)
        enlarged = [Scale(wide * np.float32(factor)) for factor in enlarging]
        relu, dense = Function("Relu"), _dense(rng, inputs, inputs, 30.0)
        below = replace(dense, bias=dense.bias - np.float32(90))  # a slope counts below zero
        divisor = small * choice(rng, (1.0, 4.0))  # the latter is not flushed
        parts: tuple[list[Step], ...] = (
            [below, LeakyRelu(float(small[0])), Chain(enlarged)],
            [dense, Chain([Scale(half)]), Quotient(divisor), Chain([Scale(half)])],
            [dense, relu, Chain([Scale(small)]), relu, Chain(enlarged)],
            [dense, Chain([Scale(small), *enlarged])],
        )
        return list(choice(rng, parts))

    return steps


def _link(rng: Generator, inputs: int) -> Link:
    outputs = int(rng.integers(1, 4))
    links: tuple[Callable[[], Link], ...] = (
        lambda: Linear(_sized(rng, outputs, inputs)),
        lambda: Linear(_sized(rng, outputs, inputs), _sized(rng, outputs)),
        lambda: Scale(_sized(rng, inputs)),
        lambda: Shift(_sized(rng, inputs)),
        Mean,
    )
    made: Callable[[], Link] = choice(rng, links)
    return made()


def _chained(rng: Generator, inputs: int) -> list[Step]:
    """Affine operations that may be merged."""
    links: list[Link] = []
    width = inputs
    for _ in range(int(rng.integers(2, 5))):
        links.append(_link(rng, width))
        width = links[-1].native(torch.zeros(1, width)).shape[1]
    return [Chain(links), Function("Relu")] if rng.integers(2) else [Chain(links)]


KINDS: Mapping[str, Builder] = {
    "cancelling": _cancelling,
    "deep": _deep,
    "wide": _wide,
    "residual": _residual,
    "batch normalisation": _normalised,
    "smooth": _smooth,
    "saturating": _saturating,
    "convolution": _convolved,
    "layer normalisation": _layer_norm,
    "attention": _attention,
    "tiny float16 constants": _tiny(2.0**-14, (32.0,)),
    "tiny float32 constants": _tiny(2.0**-126, (2.0**60, 2.0**50)),
    "merged chain": _chained,
}


def _type(name: str) -> torch.dtype:
    """Of an arithmetic's weights and results."""
    return DTYPES[name.removeprefix(MIXED)]


def _rounded(steps: Sequence[Step], name: str) -> list[Step]:
    """The steps with weights that are numbers of the arithmetic."""

    def number(array: Array) -> Array:
        kept = torch.from_numpy(array).to(_type(name)).float().numpy()
        return np.where(np.isfinite(kept), kept, 1.0).astype(np.float32)

    return [step.rounded(number) for step in steps]


def _sessions(model: bytes) -> list[onnxruntime.InferenceSession]:
    """onnxruntime with and without optimisations, of one thread each."""
    found = []
    levels = onnxruntime.GraphOptimizationLevel
    for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = level
        found.append(onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"]))
    return found


def evaluated(
    steps: Sequence[Step], model: bytes, name: str, rng: Generator, points: Array
) -> dict[str, Array]:
    """Outputs ``N x K`` at points ``N x I`` by every evaluation, with its name."""
    found: dict[str, Array] = {}
    for n, way in enumerate(ways(name, rng)):
        words = [f"{n}", way.order, *(w for w in ("fused", "flushed", "merged") if getattr(way, w))]
        words += [f"{way.stored} stored"] if way.narrow else []
        found[f"{name}, {' '.join(words)}"] = value(steps, way, points).numpy()
    found[f"torch, {name}"] = native(steps, _type(name), points).numpy()
    if _type(name) == torch.float16:
        runs = runner_of(converted(model, "float16"))
        found["onnxruntime, float16"] = np.asarray(runs(points), np.float64)
    for level, session in zip(("plain", "optimised"), _sessions(model), strict=True):
        found[f"onnxruntime, {level}"] = np.asarray(session.run(None, {"x": points})[0], np.float64)
    return found


def _points(rng: Generator, lower: Array, upper: Array, steps: Sequence[Step], row: Array) -> Array:
    """Float32 inputs ``POINTS x I`` of a box: its middle, corners, and what descends to."""
    middle = torch.from_numpy((lower + upper) / 2)[None].requires_grad_()
    found = middle
    for step in steps:
        found = step.native(found)
    (gradient,) = torch.autograd.grad((found @ torch.from_numpy(row)).sum(), middle)
    descended = np.where(gradient[0].numpy() > 0, lower, upper)
    corners = np.where(rng.random((POINTS - 3, len(lower))) < 0.5, lower, upper)
    inner = rng.uniform(lower, upper)
    some = np.stack([(lower + upper) / 2, descended, inner, *corners]).astype(np.float32)
    return np.clip(some, lower.astype(np.float32), upper.astype(np.float32))


def _truth(
    steps: Sequence[Step],
    model: bytes,
    name: str,
    rng: Generator,
    case: tuple[Array, Array, Array, Array],
) -> Truth:
    """Writes the offsets of a case ``(lower, upper, rows, offsets)``; what evaluations break."""
    lower, upper, rows, offsets = case
    points = _points(rng, lower, upper, steps, rows[0])
    found = evaluated(steps, model, name, rng, points)
    exact = value(steps, Way(torch.float64, rng), points).numpy() @ rows.T  # N x S
    margins = {way: outputs @ rows.T for way, outputs in found.items()}
    spread = max(float(np.abs(one - exact).max()) for one in margins.values())
    if not np.isfinite(spread):
        spread = float(np.abs(exact).max())
    offsets[:] = -exact.min(0) + choice(rng, DISTANCES) * max(spread, 1e-30)
    for way, margin in margins.items():
        for place, one in enumerate((margin + offsets).min(1)):
            if not np.isfinite(found[way][place]).all():
                return Truth(point=points[place], evaluated_by=way)
            near = one <= 1e-9 * np.abs(margin[place]).max()
            if near and min(exact_margins(found[way][place], rows, offsets)) <= 0:
                return Truth(point=points[place], evaluated_by=way)
    return Truth()


def _trial(rng: Generator, number: int) -> BoxTrial:
    kind = [*KINDS][number % len(KINDS)]
    name = NAMES[(number + number // len(KINDS)) % len(NAMES)]
    inputs = 16 if kind == "convolution" else int(rng.integers(2, 9))
    steps = KINDS[kind](rng, inputs)
    width = value(steps, Way(torch.float64, rng), np.zeros((1, inputs))).shape[1]
    end = normal(rng, OUTPUTS, width, gain=2.0)
    given = _rounded([*steps, Dense(end, normal(rng, OUTPUTS))], "float32")
    steps = _rounded(given, name)
    # in mixed precision, the file's weights may be rounded on their way
    unrounded = name.startswith(MIXED) and bool(rng.integers(2))
    net = FileBuilder((inputs,))
    last = "x"
    for step in given if unrounded else steps:
        last = step.write(net, last)
    model = net.data(last)
    middle = rng.uniform(-1, 1, (BOXES, inputs))
    lower, upper = boxes_around(middle, 10.0 ** rng.uniform(-6, -1, (BOXES, 1)))
    half = name != "float32" and not unrounded and bool(rng.integers(2))
    if half:  # the file itself takes numbers of the type
        lower, upper = (
            torch.from_numpy(side).to(_type(name)).double().numpy() for side in (lower, upper)
        )
    rows, offsets = np.zeros((BOXES, OUTPUTS - 1, OUTPUTS)), np.zeros((BOXES, OUTPUTS - 1))
    for place, label in enumerate(rng.integers(0, OUTPUTS, BOXES)):
        others = [k for k in range(OUTPUTS) if k != label]
        rows[place, :, label] = 1.0
        rows[place, range(OUTPUTS - 1), others] = -1.0
    cases = zip(lower, upper, rows, offsets, strict=True)
    truths = [_truth(steps, model, name, rng, case) for case in cases]
    settings = replace(usual(SECONDS, PROOFS), arithmetic=cast("ArithmeticName", name))
    file = ", of a half-precision file" if half else ", converted" if unrounded else ""
    title = f"{kind}, {name}{file}"
    if half:
        model = converted(model, name.removeprefix(MIXED))
    # the file itself computes something else than its graph, as far as it rounds
    return BoxTrial(title, model, lower, upper, rows, offsets, truths, settings, (), False)


FAMILY = Family("as-deployed", _trial, share=3, least=60, small=15)

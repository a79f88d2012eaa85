"""Counterexamples in spikes so narrow that no attack meets them.

A random trunk makes features of the input. A few of them are compared with their values at one
input of every box; the nearer they are, the higher the spike. The margin is ``1 + base - 2 spike``:
about 1 all over the box, and about -1 at the planted input. The attack stage is mostly left out, so
that proofs are tried. VERIFIED is false whatever it rests on.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from tests.soundness.architectures import (
    ACTIVATIONS,
    PIECEWISE,
    Trunk,
    attention,
    convolution,
    opset_of,
    perceptron,
    pooled,
    residual,
)
from tests.soundness.asking import BoxTrial, Truth
from tests.soundness.building import FileBuilder, choice, normal
from tests.soundness.contract import Array, Family
from tests.soundness.replaying import outputs_of
from tests.soundness.ways import drawn

PLANTED, CONTROLS = 20, 4
"""Boxes with the planted input, and boxes beside it, over which nothing is known."""

SECONDS = 0.15
DEPTH = -0.2
"""The margin at the planted input is at most this, in onnxruntime's float32."""

_SMOOTH = ("Tanh", "Sigmoid", "Gelu", "Mish", "Softplus")
_IMAGE, _TOKENS = (2, 4, 3), (3, 4)


def _architecture(rng: Generator, number: int) -> tuple[str, Trunk, tuple[int, ...], int]:
    """A name, a trunk, the input's shape and the operator set: every activation, every trunk."""
    half, odd = divmod(number, 2)
    if not odd:
        name = list(ACTIVATIONS)[half % len(ACTIVATIONS)]
        shape = (int(rng.integers(2, 6)),)
        return f"perceptron, {name}", perceptron(name), shape, opset_of(name)
    activation = choice(rng, PIECEWISE if rng.random() < 0.7 else _SMOOTH)
    opset = opset_of(activation)
    operator = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")[half // 6 % 4]
    return (
        (f"convolution, {activation}", convolution(activation), _IMAGE, opset),
        ("attention", attention, _TOKENS, 17),
        (f"residual, {activation}", residual(activation), _IMAGE, opset),
        ("MaxPool", pooled("MaxPool"), _IMAGE, 17),
        (operator, pooled(operator), _IMAGE, 17),
        (f"wide perceptron, {activation}", perceptron(activation), (9,), opset),
    )[half % 6]


def _spike(net: FileBuilder, rng: Generator, distances: str, count: int) -> str:
    """From differences of features, about 1 where all are 0, about 0 where one is 1 or more."""
    ones, steep = np.ones((1, count), np.float32), float(10.0 ** rng.uniform(0.7, 4.0))
    kind = choice(rng, ("hat", "pairs", "sigmoid", "exp"))
    if kind == "pairs":
        eye = np.eye(count, dtype=np.float32)
        both = net.add("Relu", net.linear(distances, np.concatenate([eye, -eye])))
        total = net.linear(both, np.ones((1, 2 * count)))
    elif kind == "hat":
        total = net.linear(net.add("Abs", distances), ones)
    else:
        total = net.linear(net.add("Mul", distances, distances), ones)
    low = net.linear(total, np.array([[-steep]]), np.array([4.0 if kind == "sigmoid" else 1.0]))
    if kind == "sigmoid":
        return net.add("Sigmoid", low)
    return (
        net.add("Relu", low) if kind != "exp" else net.add("Exp", net.add("Sub", low, np.ones(1)))
    )


def _with_spike(net: FileBuilder, rng: Generator, features: str, planted: Array) -> bytes:
    """One output, ``1 + base - 2 spike``, with the spike at an input ``*X``."""
    flat = net.add("Flatten", features)
    samples = rng.uniform(-1, 1, (256, *net.shape)).astype(np.float32)
    values = net.value(flat, np.concatenate([samples, planted[None]]))
    count = int(rng.integers(1, 4))
    mixing = normal(rng, count, values.shape[1])
    mixed = values.astype(np.float64) @ mixing.T.astype(np.float64)
    spread = 1 / np.maximum(mixed.std(axis=0), 1e-3)
    mixing = (mixing * spread[:, None]).astype(np.float32)
    centre = values[-1].astype(np.float64) @ mixing.T.astype(np.float64)
    spike = _spike(net, rng, net.linear(flat, mixing, -centre), count)
    base = normal(rng, 1, values.shape[1])
    low = values @ base.T
    base = base * np.float32(0.3 / max(float(np.ptp(low)), 1e-3))
    offset = 1 - float(np.mean(values @ base.T))
    even = net.linear(flat, base, np.array([offset]))
    return net.data(net.add("Sub", even, net.add("Mul", spike, np.array([2.0]))))


def _boxes(rng: Generator, planted: Array) -> tuple[Array, Array]:
    """Boxes around the planted input, which is somewhere in them, then boxes beside it."""
    exact, lower, upper = planted.astype(np.float64), [], []
    for place in range(PLANTED + CONTROLS):
        width = choice(rng, (0.003, 0.03, 0.2, 1.0))
        share = rng.uniform(0, 1, planted.shape)
        share[rng.random(planted.shape) < 0.15] = 0.0
        low, high = exact - width * share, exact + width * (1 - share)
        if place >= PLANTED:
            low, high = low + 1.1 * width, high + 1.1 * width
        lower.append(low.astype(np.float32))
        upper.append(high.astype(np.float32))
    low, high = np.stack(lower).astype(np.float64), np.stack(upper).astype(np.float64)
    low[:PLANTED], high[:PLANTED] = (
        np.minimum(low[:PLANTED], exact),
        np.maximum(high[:PLANTED], exact),
    )
    return low, high


def _trial(rng: Generator, number: int) -> BoxTrial:
    """Draws until the spike is deep enough in onnxruntime."""
    kind, trunk, shape, opset = _architecture(rng, number)
    for _ in range(20):
        net = FileBuilder(shape, opset)
        planted = rng.uniform(-1, 1, shape).astype(np.float32)
        model = _with_spike(net, rng, trunk(net, rng), planted)
        output = outputs_of(model, planted[None])[0]
        if output[0] <= DEPTH:
            break
    else:
        raise ArithmeticError(f"no deep spike behind {kind}")
    lower, upper = _boxes(rng, planted)
    count = len(lower)
    truths = [Truth(point=planted) if n < PLANTED else Truth() for n in range(count)]
    return BoxTrial(
        kind,
        model,
        *(lower, upper, np.ones((count, 1, 1)), np.zeros((count, 1)), truths),
        drawn(rng, SECONDS),
        ("ibp", "crown", "alpha-crown") if number % 4 == 0 else ("ibp", "crown"),
    )


FAMILY = Family("planted", _trial, share=8, least=104, small=4)

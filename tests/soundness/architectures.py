"""Random trunks of networks: dense layers, convolutions, shortcuts, pooling, attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.random import Generator

from tests.soundness.building import OPSETS, FileBuilder, choice, normal

Activation = Callable[[FileBuilder, Generator, str], str]
"""Writes a function of a vector or an image."""

Trunk = Callable[[FileBuilder, Generator], str]
"""Writes what makes features of the input ``x``; of any shape behind the batch axis."""


def _plain(operator: str, **attributes: float) -> Activation:
    return lambda net, rng, x: net.add(operator, x, **attributes)


def _alpha(operator: str, low: float, high: float) -> Activation:
    return lambda net, rng, x: net.add(operator, x, alpha=float(rng.uniform(low, high)))


def _positive(operator: str) -> Activation:
    """Of ``softplus(x) + 0.2``, which is where the function is defined."""

    def write(net: FileBuilder, rng: Generator, x: str) -> str:
        return net.add(operator, net.add("Add", net.add("Softplus", x), np.array(0.2)))

    return write


def _power(exponent: float) -> Activation:
    def write(net: FileBuilder, rng: Generator, x: str) -> str:
        if exponent % 1 or exponent < 0:
            x = net.add("Add", net.add("Exp", x), np.array(0.1))
        return net.add("Pow", x, np.array(exponent))

    return write


def _clip(net: FileBuilder, rng: Generator, x: str) -> str:
    return net.add("Clip", x, np.array(rng.uniform(-1, 0)), np.array(rng.uniform(0.1, 1)))


def _extreme(operator: str) -> Activation:
    return lambda net, rng, x: net.add(operator, x, np.array(rng.uniform(-0.5, 0.5)))


def _between(operator: str) -> Activation:
    """Of two activations."""
    return lambda net, rng, x: net.add(operator, net.add("Tanh", x), net.add("Sin", x))


def _quotient(net: FileBuilder, rng: Generator, x: str) -> str:
    return net.add("Div", net.add("Sin", x), net.add("Add", net.add("Exp", x), np.array(0.3)))


def _prelu(net: FileBuilder, rng: Generator, x: str) -> str:
    return net.add("PRelu", x, np.array([choice(rng, (-0.5, 0.3, 1.7))]))


ACTIVATIONS: Mapping[str, Activation] = {
    **{
        operator: _plain(operator)
        for operator in (
            *("Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Sin", "Cos", "Atan", "Abs"),
            *("Elu", "Selu", "Celu", "HardSigmoid", "HardSwish", "Mish", "Softsign", "Exp"),
            *("Gelu", "Softmax", "LogSoftmax"),
        )
    },
    "Gelu-tanh": lambda net, rng, x: net.add("Gelu", x, approximate="tanh"),
    "LeakyRelu": _alpha("LeakyRelu", 0.0, 1.5),
    "Elu-alpha": _alpha("Elu", 0.2, 2.0),
    "Selu-alpha": lambda net, rng, x: net.add("Selu", x, alpha=0.7, gamma=1.3),
    "Celu-alpha": _alpha("Celu", 0.3, 2.0),
    "Swish": _alpha("Swish", 0.3, 2.0),
    "Shrink": _plain("Shrink", lambd=0.3, bias=0.3),
    "PRelu": _prelu,
    "Clip": _clip,
    **{operator: _extreme(operator) for operator in ("Max", "Min")},
    **{f"{operator} of two": _between(operator) for operator in ("Max", "Min", "Mul")},
    "Div": _quotient,
    **{operator: _positive(operator) for operator in ("Sqrt", "Log", "Reciprocal")},
    **{f"Pow {exponent:g}": _power(exponent) for exponent in (2, 3, 0.5, -1, 1.3)},
}
"""Every activation operator of the reader, and forms of it."""

PIECEWISE = ("Relu", "LeakyRelu", "Abs", "PRelu")


def opset_of(activation: str) -> int:
    """The operator set that a file with it is written in."""
    return OPSETS.get(activation.partition("-")[0], 17)


def perceptron(activation: str) -> Trunk:
    """One to three dense layers."""

    def write(net: FileBuilder, rng: Generator) -> str:
        last, width = net.add("Flatten", "x"), int(np.prod(net.shape))
        for _ in range(int(rng.integers(1, 4))):
            more = int(rng.integers(4, 9))
            last = net.linear(last, normal(rng, more, width, gain=1.5), normal(rng, more))
            last, width = ACTIVATIONS[activation](net, rng, last), more
        return last

    return write


def convolution(activation: str) -> Trunk:
    """One or two convolutions with strides, padding, dilation and groups."""

    def write(net: FileBuilder, rng: Generator) -> str:
        last, channels = "x", net.shape[0]
        for depth in range(int(rng.integers(1, 3))):
            groups = choice(rng, (1, channels))
            more = groups * int(rng.integers(1, 4))
            kernel = int(rng.integers(1, 4)), int(rng.integers(2, 4))
            weight = normal(rng, more, channels // groups, *kernel, gain=1.5)
            last = net.add(
                "Conv",
                *(last, weight, normal(rng, more)),
                group=groups,
                strides=[int(rng.integers(1, 3)), 1],
                dilations=[1, int(rng.integers(1, 3))] if depth == 0 else [1, 1],
                pads=rng.integers(1, 3, 4).tolist(),
            )
            last, channels = ACTIVATIONS[activation](net, rng, last), more
        return last

    return write


def residual(activation: str) -> Trunk:
    """Convolutions with shortcuts, one of them through a 1 x 1 convolution."""

    def write(net: FileBuilder, rng: Generator) -> str:
        channels = net.shape[0]
        first = net.add("Conv", "x", normal(rng, 3, channels, 3, 3, gain=1.5), pads=[1, 1, 1, 1])
        first = ACTIVATIONS[activation](net, rng, first)
        again = net.add(
            "Conv", first, normal(rng, 3, 3, 3, 3, gain=1.5), normal(rng, 3), pads=[1, 1, 1, 1]
        )
        last = net.add("Add", again, first)
        last = ACTIVATIONS[activation](net, rng, last)
        return net.add("Add", last, net.add("Conv", "x", normal(rng, 3, channels, 1, 1)))

    return write


def pooled(operator: str) -> Trunk:
    """A convolution, a pooling of any form, another convolution."""

    def write(net: FileBuilder, rng: Generator) -> str:
        last = net.add("Conv", "x", normal(rng, 3, net.shape[0], 2, 2, gain=1.5), pads=[1, 0, 1, 1])
        last = net.add(choice(rng, ("Relu", "Tanh", "LeakyRelu")), last)
        if operator.startswith("Global"):
            return net.add(operator, last)
        form = choice(
            rng,
            (
                {"kernel_shape": [2, 2], "strides": [2, 2]},
                {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 0]},
                {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [0, 1, 1, 0]},
                {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1},
                {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 1]},
            ),
        )
        more = {"count_include_pad": 1} if operator == "AveragePool" and rng.random() < 0.5 else {}
        last = net.add(operator, last, **form, **more)
        end = net.add("Conv", last, normal(rng, 3, 3, 2, 2), normal(rng, 3), pads=[0, 0, 1, 1])
        return net.add("Relu", end)

    return write


def attention(net: FileBuilder, rng: Generator) -> str:
    """Scaled products of tokens, a softmax, a shortcut, a normalisation, a dense layer."""
    width, inner = net.shape[-1], 3
    query, key, value = (
        net.add("MatMul", "x", normal(rng, inner, width, gain=1.5).T) for _ in range(3)
    )
    scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 2, 1]))
    scores = net.add("Mul", scores, np.array(inner**-0.5))
    mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), value)
    mixed = net.add("MatMul", mixed, normal(rng, width, inner).T)
    last = net.add("Add", mixed, "x")
    if rng.random() < 0.5:
        ones = np.ones(width, np.float32)
        last = net.add("LayerNormalization", last, ones, normal(rng, width), epsilon=0.1)
    dense = net.add("Add", net.add("MatMul", last, normal(rng, 4, width).T), normal(rng, 4))
    return net.add(choice(rng, ("Relu", "Tanh", "Erf")), dense)

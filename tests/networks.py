"""Random small networks that tests share, drawn from a seed: float32 unless they say otherwise.

Networks whose values can be computed by hand are in ``tests/networks_by_hand.py``, ONNX files in
``tests/onnx_networks.py``. ``tests/test_networks.py`` checks what the docstrings claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    LeakyRelu,
    Linear,
    MatMul,
    Op,
    Relu,
    Reshape,
    Softmax,
    Transpose,
)

Draw = Callable[..., Tensor]
"""Draws normal numbers of a shape."""


def normal(seed: int) -> Draw:
    """A stream of normal numbers that depends on nothing but its seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)


def mlp(
    seed: int,
    inputs: int = 4,
    hidden: Sequence[int] = (8, 8),
    outputs: int = 3,
    activation: Op | Sequence[Op] | None = None,
    gain: float = 2**0.5,
    bias: float = 0.3,
) -> Graph:
    """Linear layers with an activation after each but the last.

    A neuron of a layer with ``n`` inputs of size 1 has a value of about ``gain``: at the default
    (He et al. 2015) many ReLUs are unstable over a box, and stay so in later layers.

    Nodes: 1 linear, 2 activation, 3 linear, ...; the last is linear.

    Args:
        seed: of the weights; each layer draws its weights, then its biases.
        inputs: length of the input vector.
        hidden: lengths of the hidden layers.
        outputs: K.
        activation: one for all layers, or one for each hidden layer; None: ReLU.
        gain: standard deviation of the weights, times the root of their number in a row.
        bias: standard deviation of the biases.
    """
    randn = normal(seed)
    if activation is None or isinstance(activation, Op):
        activation = [activation or Relu()] * len(hidden)
    builder, place, width = GraphBuilder((inputs,)), 0, inputs
    for size, op in zip((*hidden, outputs), (*activation, None), strict=True):
        weight = randn(size, width) * (gain / width**0.5)
        place = builder.add(Linear(weight, bias * randn(size)), place)
        place = place if op is None else builder.add(op, place)
        width = size
    return builder.build()


def convolutional(seed: int) -> Graph:
    """Stride, padding, a sum around a layer, leaky ReLU and average pooling: 1 x 4 x 4 to 3."""
    randn = normal(seed)
    builder = GraphBuilder((1, 4, 4))
    first = builder.add(Conv2d(randn(2, 1, 3, 3) / 3, randn(2) / 3, (2, 2), (1, 1)), 0)
    active = builder.add(Relu(), first)
    inner = builder.add(Conv2d(randn(2, 2, 3, 3) / 3, randn(2) / 3, padding=(1, 1)), active)
    joined = builder.add(LeakyRelu(0.1), builder.add(Add(), inner, first))
    pooled = builder.add(AvgPool2d((2, 2), (1, 1), (1, 1)), joined)
    flat = builder.add(Reshape((18,)), pooled)
    hidden = builder.add(Relu(), builder.add(Linear(randn(4, 18) / 2, randn(4) / 3), flat))
    builder.add(Linear(randn(3, 4), randn(3) / 3), hidden)
    return builder.build()


def conv_mlp(
    seed: int,
    input_shape: tuple[int, ...],
    convolutions: Sequence[tuple[int, int, int, int]],
    hidden: Sequence[int] = (),
    outputs: int = 3,
    activation: Op | None = None,
    bias: float = 0.3,
) -> Graph:
    """Convolutions, then linear layers, with an activation after each layer but the last.

    Args:
        seed: of the weights; each layer draws its weights, then its biases.
        input_shape: ``C x H x W``.
        convolutions: channels, kernel, stride and padding of each, which are square.
        hidden: lengths of the hidden linear layers.
        outputs: K.
        activation: None: ReLU.
        bias: standard deviation of the biases; weights are drawn as those of :func:`mlp`.
    """
    randn, activation = normal(seed), activation or Relu()
    builder, place = GraphBuilder(input_shape), 0
    for out, kernel, stride, padding in convolutions:
        channels = builder.shape(place)[0]
        weight = randn(out, channels, kernel, kernel) * (2 / (channels * kernel**2)) ** 0.5
        op = Conv2d(weight, bias * randn(out), (stride, stride), (padding, padding))
        place = builder.add(activation, builder.add(op, place))
    width = torch.Size(builder.shape(place)).numel()
    place = builder.add(Reshape((width,)), place)
    for size in hidden:
        layer = Linear(randn(size, width) * (2 / width) ** 0.5, bias * randn(size))
        place, width = builder.add(activation, builder.add(layer, place)), size
    last = Linear(randn(outputs, width) * (2 / width) ** 0.5, bias * randn(outputs))
    return builder.build(builder.add(last, place))


def residual_mlp(seed: int) -> Graph:
    """A sum around two linear layers, between ReLUs: 3 inputs to 2 outputs.

    Nodes: 1 linear, 2 ReLU, 3 linear, 4 ReLU, 5 linear, 6 the sum of 5 and 2, 7 linear, 8 ReLU,
    9 linear.
    """
    randn = normal(seed)
    b = GraphBuilder((3,))
    x = b.add(Relu(), b.add(Linear(randn(8, 3), randn(8) / 4), 0))
    y = b.add(Relu(), b.add(Linear(randn(8, 8) / 3, randn(8) / 4), x))
    y = b.add(Add(), b.add(Linear(randn(8, 8) / 3), y), x)
    y = b.add(Relu(), b.add(Linear(randn(6, 8) / 3, randn(6) / 4), y))
    return b.build(b.add(Linear(randn(2, 6)), y))


def residual_convolutional(seed: int) -> Graph:
    """A sum around a convolution, a concatenation and average pooling: 1 x 4 x 4 to 3."""
    randn = normal(seed)
    b = GraphBuilder((1, 4, 4))
    first = b.add(Conv2d(randn(2, 1, 3, 3), randn(2), padding=(1, 1)), 0)
    active = b.add(Relu(), first)
    second = b.add(Conv2d(randn(2, 2, 3, 3) / 3, None, padding=(1, 1)), active)
    joined = b.add(Relu(), b.add(Add(), first, second))
    pooled = b.add(AvgPool2d((2, 2), (2, 2)), b.add(Concat(0), joined, active))
    return b.build(b.add(Linear(randn(3, 16)), b.add(Reshape((16,)), pooled)))


def attention(seed: int = 0, axes: Sequence[int] = (1, 1), tokens: int = 3) -> Graph:
    """Blocks of attention without a shortcut, each with two linear layers behind: to 3 outputs.

    Every block multiplies ``tokens² x 4`` pairs of numbers for its scores, and as many for its
    mixture.

    Args:
        seed: of the weights, as :func:`mlp` draws them with a gain of 1; there are no biases.
        axes: that the softmax of each block is over: 1, its rows, or 0.
        tokens: the input is ``tokens x 4``.
    """
    linear = _linear(seed)
    b, x = GraphBuilder((tokens, 4)), 0
    for axis in axes:
        x = _after_relu(b, linear, _attend(b, linear, x, axis))
    return b.build(b.add(linear(3, 4 * tokens), b.add(Reshape((4 * tokens,)), x)))


def attention_between_relus(seed: int = 5) -> Graph:
    """Two linear layers, a block of attention, two linear layers: 3 tokens of 4 to one output."""
    linear = _linear(seed)
    b = GraphBuilder((3, 4))
    x = _after_relu(b, linear, 0)
    x = _after_relu(b, linear, _attend(b, linear, x, 1))
    return b.build(b.add(linear(1, 12), b.add(Reshape((12,)), x)))


def mixed(seed: int, function: str) -> Graph:
    """ReLU, the function, ReLU, the function, between linear layers: 2 inputs to 3 outputs."""
    activations = [Relu(), Elementwise(function)] * 2
    return mlp(seed, 2, (6,) * 4, activation=activations, bias=0.5)


def _linear(seed: int) -> Callable[[int, int], Linear]:
    randn = normal(seed)
    return lambda out, into: Linear(randn(out, into) / into**0.5, None)


def _attend(b: GraphBuilder, linear: Callable[[int, int], Linear], x: int, axis: int) -> int:
    queries, keys, values = (b.add(linear(4, 4), x) for _ in range(3))
    scores = b.add(MatMul(), queries, b.add(Transpose((1, 0)), keys))
    return b.add(MatMul(), b.add(Softmax(axis), scores), values)


def _after_relu(b: GraphBuilder, linear: Callable[[int, int], Linear], x: int) -> int:
    return b.add(linear(4, 6), b.add(Relu(), b.add(linear(6, 4), x)))

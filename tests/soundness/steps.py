"""Steps of small networks, each written into a file and computed rounding by rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.soundness.building import FileBuilder
from tests.soundness.contract import Array
from tests.soundness.evaluations import Number, Step, Way


@dataclass(frozen=True, eq=False)
class Dense:
    """``x W^T + b``, then batch normalisation where there are scales.

    Attributes:
        weight: ``O x I``.
        bias: ``O``.
        norm: scale, shift, mean and variance, ``4 x O``; None: no normalisation follows.
        epsilon: of it.
    """

    weight: Array
    bias: Array
    norm: Array | None = None
    epsilon: float = 1e-5

    def write(self, net: FileBuilder, x: str) -> str:
        """A Gemm, and a BatchNormalization."""
        found = net.linear(x, self.weight, self.bias)
        if self.norm is None:
            return found
        return net.add("BatchNormalization", found, *self.norm, epsilon=self.epsilon)

    def value(self, way: Way, x: Tensor) -> Tensor:
        """Merged or one after the other."""
        weight, bias = (torch.from_numpy(one).double() for one in (self.weight, self.bias))
        if self.norm is None:
            return way.products(weight, x, bias)
        gamma, beta, mean, variance = torch.from_numpy(self.norm).double()
        raised = way.result(way.round(variance + way.round(torch.tensor(self.epsilon))))
        root = way.result(way.round(raised.sqrt()))
        scale = way.result(way.round(gamma / root))
        if way.merged:
            weight = way.result(way.round(weight * scale.unsqueeze(1)))
            centred = way.result(way.round(way.constant(bias) - mean))
            bias = way.result(way.round(way.result(way.round(centred * scale)) + beta))
            return way.affine(weight, x, bias)
        found = way.products(weight, x, bias)
        scaled = way.result(way.round(way.result(way.round(found - mean)) * scale))
        return way.result(way.round(scaled + beta))

    def native(self, x: Tensor) -> Tensor:
        """A linear layer of torch's, then the formula."""
        weight, bias = (torch.from_numpy(one).to(x) for one in (self.weight, self.bias))
        found: Tensor = functional.linear(x, weight, bias)
        if self.norm is None:
            return found
        gamma, beta, mean, variance = torch.from_numpy(self.norm).to(x)
        normalised: Tensor = (found - mean) / (variance + self.epsilon).sqrt() * gamma + beta
        return normalised

    def rounded(self, number: Number) -> Dense:
        """The ε of a normalisation becomes a power of two, which no type flushes."""
        norm = None if self.norm is None else number(self.norm)
        return Dense(number(self.weight), number(self.bias), norm, 2.0**-10)


@dataclass(frozen=True, eq=False)
class Residual:
    """``x`` plus what steps make of it."""

    steps: tuple[Step, ...]

    def write(self, net: FileBuilder, x: str) -> str:
        """The steps, and an Add."""
        last = x
        for step in self.steps:
            last = step.write(net, last)
        return net.add("Add", x, last)

    def value(self, way: Way, x: Tensor) -> Tensor:
        """One more rounding."""
        last = x
        for step in self.steps:
            last = step.value(way, last)
        return way.result(way.round(x + last))

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        last = x
        for step in self.steps:
            last = step.native(last)
        return x + last

    def rounded(self, number: Number) -> Residual:
        """Step by step."""
        return Residual(tuple(step.rounded(number) for step in self.steps))


@dataclass(frozen=True, eq=False)
class Convolved:
    """A 3 x 3 convolution of a square of pixels, and average pooling of 2 x 2.

    Attributes:
        kernel: ``C x 1 x 3 x 3``.
        width: of the square, even.
    """

    kernel: Array
    width: int

    def write(self, net: FileBuilder, x: str) -> str:
        """Reshape, Conv, AveragePool, Flatten."""
        image = net.add("Reshape", x, np.array([-1, 1, self.width, self.width]))
        seen = net.add("Conv", image, self.kernel, pads=[1, 1, 1, 1])
        pooled = net.add("AveragePool", seen, kernel_shape=[2, 2], strides=[2, 2])
        return net.add("Flatten", pooled)

    def value(self, way: Way, x: Tensor) -> Tensor:
        """Windows of pixels are rows of a matrix."""
        image = x.reshape(-1, 1, self.width, self.width)
        windows = functional.unfold(image, 3, padding=1).transpose(1, 2)  # N x pixels x 9
        kernel = torch.from_numpy(self.kernel).double().flatten(1)
        seen = way.products(kernel, windows.flatten(0, 1))
        seen = seen.reshape(len(x), -1, len(kernel)).transpose(1, 2)
        planes = seen.reshape(len(x), len(kernel), self.width, self.width)
        quarters = functional.unfold(planes.flatten(0, 1).unsqueeze(1), 2, stride=2)
        means = way.round(way.sums(quarters.transpose(1, 2)) / 4)
        return way.result(means).reshape(len(x), -1)

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        image = x.reshape(-1, 1, self.width, self.width)
        seen = functional.conv2d(image, torch.from_numpy(self.kernel).to(x), padding=1)
        return functional.avg_pool2d(seen, 2).flatten(1)

    def rounded(self, number: Number) -> Convolved:
        """Rounded."""
        return replace(self, kernel=number(self.kernel))


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """Layer normalisation of a vector.

    Attributes:
        scale: ``I``.
        shift: ``I``.
        spelled: whether it is written by several operators.
    """

    scale: Array
    shift: Array
    spelled: bool
    epsilon = 2.0**-10

    def write(self, net: FileBuilder, x: str) -> str:
        """One node, or nine."""
        if not self.spelled:
            options = {"axis": -1, "epsilon": self.epsilon}
            return net.add("LayerNormalization", x, self.scale, self.shift, **options)
        mean = net.add("ReduceMean", x, axes=[-1], keepdims=1)
        centred = net.add("Sub", x, mean)
        squares = net.add("Pow", centred, np.array(2.0, np.float32))
        variance = net.add("ReduceMean", squares, axes=[-1], keepdims=1)
        raised = net.add("Add", variance, np.array(self.epsilon, np.float32))
        normal = net.add("Div", centred, net.add("Sqrt", raised))
        return net.add("Add", net.add("Mul", normal, self.scale), self.shift)

    def value(self, way: Way, x: Tensor) -> Tensor:
        """The variance in one pass or in two; factors merged or not.

        Where several operators are not fused, each stores its result.
        """
        if self.spelled and way.centred and not way.merged:
            return self._one_by_one(way, x)
        scale, shift = (torch.from_numpy(one).double() for one in (self.scale, self.shift))
        count = x.shape[1]
        mean = way.round(way.sums(x) / count).unsqueeze(1)
        centred = way.round(x - mean)
        of = centred if way.centred else x
        squares = way.round(way.sums(way.round(of.square())) / count).unsqueeze(1)
        variance = squares if way.centred else way.round(squares - way.round(mean.square()))
        root = way.round(way.round(variance + self.epsilon).clamp(min=0).sqrt())
        if way.merged:
            factor = way.round(scale * way.round(1 / root))
            constant = way.round(shift - way.round(mean * factor))
            return way.result(way.round(way.round(x * factor) + constant))
        return way.result(way.round(way.round(way.round(centred / root) * scale) + shift))

    def _one_by_one(self, way: Way, x: Tensor) -> Tensor:
        scale, shift = (torch.from_numpy(one).double() for one in (self.scale, self.shift))

        def stored(exact: Tensor) -> Tensor:
            return way.result(way.round(exact))

        count = x.shape[1]
        centred = stored(x - stored(way.sums(x) / count).unsqueeze(1))
        squares = stored(way.sums(stored(centred.square())) / count).unsqueeze(1)
        root = stored(stored(squares + self.epsilon).sqrt())
        return stored(stored(stored(centred / root) * scale) + shift)

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        scale, shift = (torch.from_numpy(one).to(x) for one in (self.scale, self.shift))
        return functional.layer_norm(x, (x.shape[1],), scale, shift, self.epsilon)

    def rounded(self, number: Number) -> LayerNorm:
        """Its ε is a power of two."""
        return replace(self, scale=number(self.scale), shift=number(self.shift))


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention of T tokens of d numbers, which dense layers make of the input.

    Attributes:
        layers: of queries, keys and values, ``I`` to ``T d`` each.
        tokens: T.
    """

    layers: tuple[Dense, Dense, Dense]
    tokens: int

    def write(self, net: FileBuilder, x: str) -> str:
        """MatMul, Softmax, MatMul."""
        shape = np.array([-1, self.tokens, len(self.layers[0].bias) // self.tokens])
        query, key, values = (
            net.add("Reshape", layer.write(net, x), shape) for layer in self.layers
        )
        turned = net.add("Transpose", key, perm=[0, 2, 1])
        shares = net.add("Softmax", net.add("MatMul", query, turned), axis=-1)
        return net.add("Flatten", net.add("MatMul", shares, values))

    def _made(self, found: Sequence[Tensor]) -> list[Tensor]:
        return [one.reshape(len(one), self.tokens, -1) for one in found]

    def value(self, way: Way, x: Tensor) -> Tensor:
        """Token by token."""
        query, key, values = self._made([layer.value(way, x) for layer in self.layers])
        found = []
        for token in range(self.tokens):
            scores = way.products(key, query[:, token])
            shifted = way.round(scores - scores.amax(1, keepdim=True))
            powers = way.function(shifted.exp(), shifted)
            shares = way.result(way.round(powers / way.sums(powers).unsqueeze(1)))
            found.append(way.products(values.mT, shares))
        return torch.cat(found, 1)

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        query, key, values = self._made([layer.native(x) for layer in self.layers])
        return ((query @ key.mT).softmax(2) @ values).flatten(1)

    def rounded(self, number: Number) -> Attention:
        """Layer by layer."""
        query, key, values = (layer.rounded(number) for layer in self.layers)
        return Attention((query, key, values), self.tokens)

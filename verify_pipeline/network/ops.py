"""The operations of a network's graph: what each one computes, and nothing about bounds.

An operation is a frozen value object that is called on the values of its inputs. The batch axis is
the first axis of a value. Shapes, axes and permutations in an operation's attributes do not count
the batch axis, so ``axis=0`` is the first axis after it. ``bounds/`` says how operations are
bounded, and ``onnx/`` how they are read from files.

Bounds distinguish these families:

* :class:`LinearOp`: affine in its one input. ``linear`` is the linear part without the constant,
  and ``linear_abs`` the same map with absolute coefficients, which propagates radii.
* :class:`Add`, :class:`Sub`, :class:`Concat`: linear in several inputs.
* :class:`Relu`, :class:`LeakyRelu`, :class:`MaxPool2d`: piecewise linear.
* :class:`Elementwise` (sigmoid, tanh, …), :class:`Mul`, :class:`Div`, :class:`MatMul`,
  :class:`Softmax`: other nonlinear operations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.network.affine_error import EXACT, AffineError


@dataclass(frozen=True, eq=False)
class Op(ABC):
    """An operation, which maps batched values to a batched value."""

    @abstractmethod
    def __call__(self, *inputs: Tensor) -> Tensor:
        """The value ``N x *V`` at the values of the inputs, ``N x *V_i`` each."""

    def to(self, target: torch.dtype | torch.device | str) -> Self:
        """The same operation with its tensors in another dtype or on another device."""
        moved = {
            f.name: value.to(target)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor) and value.is_floating_point()
        }
        return replace(self, **moved) if moved else self


@dataclass(frozen=True, eq=False)
class Input(Op):
    """The network's input. It has no inputs of its own and is never called."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        raise AssertionError("the input node holds the network's input and is not computed")


@dataclass(frozen=True, eq=False)
class LinearOp(Op):
    """An operation that is affine in its one input: ``op(x) = linear(x) + constant``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.linear(inputs[0])

    @abstractmethod
    def linear(self, x: Tensor) -> Tensor:
        """The linear part, without the constant."""

    def linear_abs(self, x: Tensor) -> Tensor:
        """The linear part with absolute coefficients.

        This default is for operations without negative coefficients.
        """
        return self.linear(x)


@dataclass(frozen=True, eq=False)
class Linear(LinearOp):
    """``x W^T + b`` over the last axis, with weight ``O x I`` and bias ``O`` or None."""

    weight: Tensor
    bias: Tensor | None = None
    error: AffineError = EXACT

    def __call__(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight, self.bias)

    def linear(self, x: Tensor) -> Tensor:
        """``x W^T``: ``N x … x I`` to ``N x … x O``."""
        return F.linear(x, self.weight)

    def linear_abs(self, x: Tensor) -> Tensor:
        """``x |W|^T``: ``N x … x I`` to ``N x … x O``."""
        return F.linear(x, self.weight.abs())


@dataclass(frozen=True, eq=False)
class Conv2d(LinearOp):
    """2-D convolution as in torch, with weight ``O x I/groups x kh x kw``.

    Zero padding is symmetric. Other padding is a separate :class:`Pad` before the convolution.
    """

    weight: Tensor
    bias: Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    error: AffineError = EXACT

    def _conv(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self._conv(inputs[0], self.weight, self.bias)

    def linear(self, x: Tensor) -> Tensor:
        """The convolution without bias: ``N x I x H x W`` to ``N x O x H' x W'``."""
        return self._conv(x, self.weight, None)

    def linear_abs(self, x: Tensor) -> Tensor:
        """The convolution with ``|weight|``: ``N x I x H x W`` to ``N x O x H' x W'``."""
        return self._conv(x, self.weight.abs(), None)


@dataclass(frozen=True, eq=False)
class Scale(LinearOp):
    """``x * scale + shift`` with constants that broadcast against ``*V`` (no batch axis).

    The value has the common shape to which the input and the constants broadcast.
    """

    scale: Tensor
    shift: Tensor
    error: AffineError = EXACT

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.scale + self.shift

    def linear(self, x: Tensor) -> Tensor:
        """``x * scale``, broadcast: ``N x *V_in`` to ``N x *V``."""
        return x * self.scale + torch.zeros_like(self.shift)

    def linear_abs(self, x: Tensor) -> Tensor:
        """``x * |scale|``, broadcast: ``N x *V_in`` to ``N x *V``."""
        return x * self.scale.abs() + torch.zeros_like(self.shift)


@dataclass(frozen=True, eq=False)
class Normalisation(Scale):
    """Batch normalisation, whose shift is ``bias - mean * scale``, one number for each channel."""

    mean: Tensor = field(kw_only=True)
    bias: Tensor = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class Reshape(LinearOp):
    """Reshape to ``shape``, which does not contain the batch axis or -1."""

    shape: tuple[int, ...]

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V_in`` to ``N x *shape``."""
        return x.reshape(x.shape[0], *self.shape)


@dataclass(frozen=True, eq=False)
class Transpose(LinearOp):
    """Permute the axes after the batch axis: new axis i is old axis ``axes[i]``."""

    axes: tuple[int, ...]

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V_in`` to ``N x *V``: axis i of ``*V`` is axis ``axes[i]`` of ``*V_in``."""
        return x.permute(0, *(axis + 1 for axis in self.axes))


@dataclass(frozen=True, eq=False)
class Pad(LinearOp):
    """Zero padding, with ``widths`` as in torch.nn.functional.pad (last axis first)."""

    widths: tuple[int, ...]

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V_in`` to ``N x *V``, larger by ``widths``."""
        return F.pad(x, self.widths)


@dataclass(frozen=True, eq=False)
class Slice(LinearOp):
    """Elements ``start:stop:step`` of one axis; step >= 1."""

    axis: int
    start: int
    stop: int
    step: int = 1

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V_in`` to ``N x *V``, shorter along ``axis``."""
        index = [slice(None)] * x.dim()
        index[self.axis + 1] = slice(self.start, self.stop, self.step)
        return x[tuple(index)]


@dataclass(frozen=True, eq=False)
class Gather(LinearOp):
    """Elements of one axis at constant integer ``indices`` of any shape; 0-d drops the axis."""

    axis: int
    indices: Tensor

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V_in`` to ``N x *V``: the shape of the indices replaces ``axis``."""
        picked = x.index_select(self.axis + 1, self.indices.reshape(-1).to(x.device))
        shape = x.shape[: self.axis + 1] + self.indices.shape + x.shape[self.axis + 2 :]
        return picked.reshape(shape)


@dataclass(frozen=True, eq=False)
class AvgPool2d(LinearOp):
    """Average pooling as in torch."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True

    def linear(self, x: Tensor) -> Tensor:
        """``N x C x H x W`` to ``N x C x H' x W'``."""
        return F.avg_pool2d(
            x, self.kernel, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


@dataclass(frozen=True, eq=False)
class Mean(LinearOp):
    """Mean over ``axes``."""

    axes: tuple[int, ...]
    keepdim: bool = True

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V_in`` to ``N x *V``: ``axes`` have length 1 if ``keepdim``, else are dropped."""
        return x.mean([axis + 1 for axis in self.axes], keepdim=self.keepdim)


@dataclass(frozen=True, eq=False)
class Sum(LinearOp):
    """Sum over ``axes``."""

    axes: tuple[int, ...]
    keepdim: bool = True

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V_in`` to ``N x *V``: ``axes`` have length 1 if ``keepdim``, else are dropped."""
        return x.sum([axis + 1 for axis in self.axes], keepdim=self.keepdim)


@dataclass(frozen=True, eq=False)
class Add(Op):
    """Sum of two inputs, with broadcasting."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1]


@dataclass(frozen=True, eq=False)
class Sub(Op):
    """Difference of two inputs, with broadcasting."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0] - inputs[1]


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Concatenation along one axis."""

    axis: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=self.axis + 1)


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """A constant ``*V``, expanded to the batch. Its one input only determines the batch size."""

    value: Tensor

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.value.expand(inputs[0].shape[0], *self.value.shape)


@dataclass(frozen=True, eq=False)
class Relu(Op):
    """``max(x, 0)``."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].relu()


@dataclass(frozen=True, eq=False)
class LeakyRelu(Op):
    """``x`` where x >= 0, otherwise ``slope * x``; 0 <= slope <= 1."""

    slope: float = 0.01

    def __call__(self, *inputs: Tensor) -> Tensor:
        return F.leaky_relu(inputs[0], self.slope)


@dataclass(frozen=True, eq=False)
class MaxPool2d(Op):
    """Max pooling as in torch."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    def __call__(self, *inputs: Tensor) -> Tensor:
        return F.max_pool2d(
            inputs[0], self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode
        )


@dataclass(frozen=True, eq=False)
class Elementwise(Op):
    """A function of each element, given by its name in :data:`FUNCTIONS`."""

    function: str

    def __call__(self, *inputs: Tensor) -> Tensor:
        return FUNCTIONS[self.function](inputs[0])


SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""SELU's constants in float32, as in ONNX (Klambauer et al. 2017, arXiv:1706.02515)."""


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "square": torch.square,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "selu": lambda x: F.elu(x, SELU_ALPHA),  # without its factor gamma
    "silu": F.silu,
    "mish": lambda x: x * F.softplus(x, threshold=50).tanh(),
    "hardswish": F.hardswish,
    "erf": torch.erf,
    # torch's default switch to the identity at 20 is a step down, so softplus would not be monotone
    "softplus": lambda x: F.softplus(x, threshold=50),
    "sin": torch.sin,
    "cos": torch.cos,
    "log": torch.log,
    "atan": torch.atan,
}


@dataclass(frozen=True, eq=False)
class Mul(Op):
    """Elementwise product of two inputs, with broadcasting."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * inputs[1]


@dataclass(frozen=True, eq=False)
class Div(Op):
    """Elementwise quotient of two inputs, with broadcasting."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0] / inputs[1]


@dataclass(frozen=True, eq=False)
class MatMul(Op):
    """Matrix product of two inputs over their last two axes; the batch axis is kept."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0] @ inputs[1]


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """Softmax over one axis."""

    axis: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].softmax(dim=self.axis + 1)


def size(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape without its batch axis."""
    return math.prod(shape)

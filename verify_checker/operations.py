"""Section 2: the operations of a network, and their exact meaning.

A value has a first axis for boxes or rows and then its own shape ``*V``. Affine operations compute
``W z + b``. Each knows its matrix through three products, ``W z``, ``|W| z`` and ``Wᵀ λ``, and how
many roundings a term of each may go through. Where the file's own constants give a weight that no
float64 number equals (a batch normalisation's, 1/9 of a pooling), the exact weight is within
``weight_roundings`` roundings of the one that is kept, and the exact bias within ``bias_spread``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verify_checker.rounding import Array

Shape = tuple[int, ...]
Places = NDArray[np.int64]
Window = tuple[int, int, int, int]
"""Rows ``first .. last - 1`` and columns ``first .. last - 1`` of a value ``C x H x W``."""


@dataclass(frozen=True)
class Frame:
    """Windows of height and width ``kernel`` on a padded value, and how many: ``spans``.

    ``pads`` are above, left, below and right.
    """

    kernel: Shape
    stride: Shape
    dilation: Shape
    pads: Shape
    spans: Shape

    def views(
        self, padded: NDArray[Any], height: int, width: int
    ) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """For each place in the kernel, what ``height x width`` windows meet there."""
        (sy, sx), (dy, dx) = self.stride, self.dilation
        for y, x in np.ndindex(*self.kernel):
            rows = slice(y * dy, y * dy + (height - 1) * sy + 1, sy)
            columns = slice(x * dx, x * dx + (width - 1) * sx + 1, sx)
            yield y, x, padded[..., rows, columns]


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(ABC):
    """``W z + b`` of one value; abstract."""

    bias: Array | float = 0.0
    bias_spread: Array | float = 0.0
    weight_roundings: int = 0

    mixes: bool = field(default=True, init=False)
    """Whether an output depends on more than one number of the input."""

    @property
    @abstractmethod
    def terms(self) -> tuple[int, int]:
        """Most terms of a sum of ``W z``, and of one of ``Wᵀ λ``."""

    @abstractmethod
    def forward(self, z: Array, absolute: bool = False) -> Array:
        """``W z``, or ``|W| z``."""

    @abstractmethod
    def backward(self, rows: Array) -> Array:
        """``Wᵀ λ`` for each row λ."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Affine):
    """``z W`` over the last axis, with ``weight`` ``I x O``."""

    weight: Array

    @property
    def terms(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    def forward(self, z: Array, absolute: bool = False) -> Array:
        return z @ (np.abs(self.weight) if absolute else self.weight)

    def backward(self, rows: Array) -> Array:
        return rows @ self.weight.T


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale(Affine):
    """``z * factor`` element by element; ``factor`` has the value's shape."""

    factor: Array
    mixes: bool = field(default=False, init=False)
    terms: tuple[int, int] = field(default=(1, 1), init=False)

    def forward(self, z: Array, absolute: bool = False) -> Array:
        return z * (np.abs(self.factor) if absolute else self.factor)

    def backward(self, rows: Array) -> Array:
        return rows * self.factor


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Affine):
    """A 2-D convolution; weight ``G x O/G x I/G·kh·kw``, of G groups."""

    weight: Array
    frame: Frame
    input_shape: Shape
    shape: Shape

    @property
    def terms(self) -> tuple[int, int]:
        return self.weight.shape[2], self.weight.shape[1] * math.prod(self.frame.kernel)

    def forward(self, z: Array, absolute: bool = False) -> Array:
        weight = np.abs(self.weight) if absolute else self.weight
        (channels, height, width), (top, left, bottom, right) = self.input_shape, self.frame.pads
        padded = np.zeros((len(z), channels, height + top + bottom, width + left + right))
        padded[:, :, top : top + height, left : left + width] = z
        groups, places = len(weight), math.prod(self.shape[1:])
        columns = np.empty((len(z), channels, *self.frame.kernel, *self.frame.spans))
        for y, x, window in self.frame.views(padded, *self.frame.spans):
            columns[:, :, y, x] = window
        product = weight @ columns.reshape(len(z), groups, -1, places)
        return product.reshape(len(z), *self.shape)

    def backward(self, rows: Array) -> Array:
        window = (0, self.shape[1], 0, self.shape[2])
        found, (top, bottom, left, right) = self.backward_window(rows, window)
        if found.shape[1:] == self.input_shape:
            return found
        whole = np.zeros((len(rows), *self.input_shape))  # inputs that no window reaches
        whole[:, :, top:bottom, left:right] = found
        return whole

    def backward_window(self, rows: Array, window: Window) -> tuple[Array, Window]:
        """``Wᵀ λ`` where λ is zero outside a window, and so is the result outside another."""
        groups, (_, _, height, width) = len(self.weight), rows.shape
        columns = rows.reshape(len(rows), groups, -1, height * width)
        columns = self.weight.transpose(0, 2, 1) @ columns
        channels, frame = self.input_shape[0], self.frame
        (sy, sx), (dy, dx) = frame.stride, frame.dilation
        columns = columns.reshape(len(rows), channels, *frame.kernel, height, width)
        tall = (height - 1) * sy + (frame.kernel[0] - 1) * dy + 1
        wide = (width - 1) * sx + (frame.kernel[1] - 1) * dx + 1
        padded = np.zeros((len(rows), channels, tall, wide))
        for y, x, view in frame.views(padded, height, width):
            view += columns[:, :, y, x]
        top, left = window[0] * sy - frame.pads[0], window[2] * sx - frame.pads[1]
        bottom, right = min(top + tall, self.input_shape[1]), min(left + wide, self.input_shape[2])
        first, begin = max(top, 0), max(left, 0)
        inner = padded[:, :, first - top : bottom - top, begin - left : right - left]
        return np.ascontiguousarray(inner), (first, bottom, begin, right)


@dataclass(frozen=True, eq=False, kw_only=True)
class Windows(Affine):
    """Weighted sums of windows: output p is ``Σ_k factor[p] · z[window[p, k]]``.

    ``window`` ``P x k`` holds places of the flattened input; -1 is a zero. No column of it names a
    place twice. Pooling, permutations, selections, padding and means over axes are of this form.
    """

    window: Places
    factor: Array
    input_shape: Shape
    shape: Shape

    @property
    def terms(self) -> tuple[int, int]:
        return self.window.shape[1], self.window.shape[1]

    def forward(self, z: Array, absolute: bool = False) -> Array:
        flat = z.reshape(len(z), -1)
        total = np.zeros((len(z), len(self.window)))
        for column in self.window.T:
            total += np.where(column >= 0, flat[:, column], 0.0)
        return (total * self.factor).reshape(len(z), *self.shape)

    def backward(self, rows: Array) -> Array:
        flat = rows.reshape(len(rows), -1) * self.factor
        total = np.zeros((len(rows), math.prod(self.input_shape)))
        for column in self.window.T:
            known = column >= 0
            total[:, column[known]] += flat[:, known]
        return total.reshape(len(rows), *self.input_shape)


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same numbers in another shape, or with the axes of ``*V`` in another order."""

    shape: Shape
    order: Shape | None = None

    def forward(self, z: Array) -> Array:
        """The numbers in their new places."""
        if self.order is None:
            return z.reshape(len(z), *self.shape)
        return z.transpose(0, *(axis + 1 for axis in self.order))

    def backward(self, rows: Array, shape: Shape) -> Array:
        """Coefficients of the numbers in their old places."""
        if self.order is None:
            return rows.reshape(len(rows), *shape)
        return rows.transpose(0, *(int(axis) + 1 for axis in np.argsort(self.order)))


@dataclass(frozen=True, eq=False)
class Join:
    """``left + sign · right`` of two values of one shape; the sign is 1 or -1."""

    sign: float = 1.0


@dataclass(frozen=True, eq=False)
class Concat:
    """Concatenation along ``axis`` of ``*V``."""

    axis: int


@dataclass(frozen=True, eq=False)
class Kink:
    """``z`` where z >= 0, else ``slope · z``, 0 <= slope < 1: ReLU has slope 0."""

    slope: float = 0.0


@dataclass(frozen=True, eq=False)
class Maximum:
    """Max pooling: output p is the greatest of ``z[window[p, k]]``; -1 is no number.

    No column of ``window`` names a place twice.
    """

    window: Places
    input_shape: Shape
    shape: Shape


@dataclass(frozen=True, eq=False)
class Smooth:
    """``sigmoid``, ``tanh``, ``exp`` or ``elu`` of each number."""

    function: str


@dataclass(frozen=True, eq=False)
class Product:
    """The matrix product of two values ``*B x I x K`` and ``*B x K x J``, both in the last axes."""


@dataclass(frozen=True, eq=False)
class Softmax:
    """``exp(z_i) / Σ_j exp(z_j)`` over the last axis."""


Operation = Affine | Reshape | Join | Concat | Kink | Maximum | Smooth | Product | Softmax
NONLINEAR = (Kink, Maximum, Smooth, Product, Softmax)


@dataclass(frozen=True, eq=False)
class Node:
    """One value of a network: ``operation`` of earlier values; node 0 is the input (None)."""

    name: str
    operation: Operation | None
    inputs: tuple[int, ...]
    shape: Shape

    @property
    def size(self) -> int:
        """How many numbers the value has."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Network:
    """The nodes in an order in which each follows its inputs; the last one is the output.

    With ``compares``, the file's own output is the softmax of it, whose numbers are in the same
    order: only claims that compare two outputs can be judged.
    """

    nodes: tuple[Node, ...]
    compares: bool = False

    @property
    def bounded_inputs(self) -> tuple[int, ...]:
        """The nodes that feed a nonlinear operation, in order: their bounds make its lines."""
        users = (n for n in self.nodes if isinstance(n.operation, NONLINEAR))
        return tuple(sorted({place for user in users for place in user.inputs}))

    def mixings(self) -> list[int]:
        """For each node, how many operations that mix or bend lie between the input and it."""
        counts = [0]
        for node in self.nodes[1:]:
            before = max(counts[i] for i in node.inputs)
            own = 2 if isinstance(node.operation, NONLINEAR) else 1
            plain = isinstance(node.operation, Reshape | Concat) or (
                isinstance(node.operation, Affine) and not node.operation.mixes
            )
            counts.append(before + (0 if plain else own))
        return counts

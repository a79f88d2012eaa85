"""Convolutions between some elements of their input and some of their output: sparse matrices."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.bounds.linear.adjoint import adjoint, constant
from verify_pipeline.network.ops import Conv2d, LinearOp, size

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sparse(LinearOp):
    """``x M + b`` of a flattened value.

    Attributes:
        matrix: M in compressed rows, ``I x O``.
        bias: b, ``O``; None: 0.
    """

    matrix: Tensor
    bias: Tensor | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        y = self.linear(inputs[0])
        return y if self.bias is None else y + self.bias

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V`` of ``I`` elements to ``N x O``."""
        product: Tensor = x.flatten(1) @ self.matrix
        return product


@adjoint.register
def _(op: Sparse, coefficients: Tensor, shape: Shape) -> Tensor:
    # functionals are last in memory from here on: sparse matrices are multiplied fastest so
    pulled: Tensor = (op.matrix @ coefficients.T).T
    return pulled if len(shape) == 1 else pulled.reshape(-1, *shape)


@constant.register
def _(op: Sparse, coefficients: Tensor) -> Tensor | None:
    return None if op.bias is None else coefficients @ op.bias


def fits_sparse(op: Conv2d) -> bool:
    """Whether :func:`sparse_convolution` is written for it, and this torch has fast products."""
    plain = op.groups == 1 and op.dilation == (1, 1)
    return plain and op.weight.device.type == "cpu" and torch.backends.mkl.is_available()


def sparse_convolution(
    op: Conv2d, shape: Shape, out: Shape, kept: Tensor | None, wanted: Tensor
) -> Sparse:
    """A convolution from some elements to some elements.

    Args:
        op: without groups or dilation.
        shape: ``C x H x W`` of its input.
        out: ``O x h x w`` of its output.
        kept: places of elements in the flattened input, in order, the others being zero; None: all.
        wanted: places of elements in the flattened output, in order.
    """
    if kept is None:
        kept = torch.arange(size(shape), device=wanted.device)
    pixels = out[1] * out[2]
    # the column of every element of the output, -1 where it is not wanted, by channel; none of a
    # pixel that is outside of the plane, which is counted as the last
    column = torch.full((size(out),), -1, dtype=torch.int32, device=wanted.device)
    column[wanted] = torch.arange(len(wanted), dtype=torch.int32, device=wanted.device)
    column = F.pad(column.view(out[0], pixels), (0, 1), value=-1)
    channels = (column >= 0).any(1).nonzero().flatten()

    position = _positions(kept, shape)
    pixel = _pixels(op, position, out)
    weights = _weights(op, position, channels)
    places = pixel.unsqueeze(1) + channels.unsqueeze(1) * (pixels + 1)
    columns = column.flatten().index_select(0, places.flatten())
    there = columns >= 0
    some = there.nonzero().flatten()
    ends = there.view(len(kept), channels.numel() * pixel.shape[1]).sum(1).cumsum(0)
    rows = F.pad(ends, (1, 0)).to(torch.int32)
    values = weights.flatten().index_select(0, some)
    with warnings.catch_warnings():
        # torch calls compressed rows a beta
        warnings.simplefilter("ignore", UserWarning)
        matrix = torch.sparse_csr_tensor(
            rows, columns.index_select(0, some), values, (len(kept), len(wanted))
        )
    return Sparse(matrix, None if op.bias is None else op.bias[_positions(wanted, out)[0]])


def _positions(places: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Channels, rows and columns of places in a flattened value ``C x H x W``."""
    height, width = shape[1:]
    rows = places.div(width, rounding_mode="floor")
    return rows.div(height, rounding_mode="floor"), rows % height, places % width


# In both below, J counts the taps of one phase of the strides, in both axes: element ``s q + r`` of
# an axis, padding counted, is read by output ``q - j`` with the kernel's element ``s j + r``. The
# greatest j comes first, so that pixels are in order.


def _pixels(op: Conv2d, position: tuple[Tensor, ...], out: Shape) -> Tensor:
    """Pixels of the output that read elements of the input, ``R x J``; ``h w`` where none does."""
    lines, inside = [], []
    for i, at in enumerate(position[1:]):
        kernel, stride = op.weight.shape[2 + i], op.stride[i]
        padded = (at + op.padding[i]).unsqueeze(1)
        j = torch.arange(-(-kernel // stride) - 1, -1, -1, device=at.device)
        line = padded.div(stride, rounding_mode="floor") - j
        inside.append((line >= 0) & (line < out[1 + i]) & (padded % stride + stride * j < kernel))
        lines.append(line)
    pixel = lines[0].unsqueeze(2) * out[2] + lines[1].unsqueeze(1)
    both = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)
    return pixel.where(both, out[1] * out[2]).flatten(1)


def _weights(op: Conv2d, position: tuple[Tensor, ...], channels: Tensor) -> Tensor:
    """The weights with which some channels read elements of the input, ``R x O x J``."""
    channel, *axes = position
    (stride_y, stride_x), kernels = op.stride, op.weight.shape[2:]
    taps_y, taps_x = (-(-k // s) for k, s in zip(kernels, op.stride, strict=True))
    missing = taps_x * stride_x - kernels[1], taps_y * stride_y - kernels[0]
    weight = F.pad(op.weight[channels], (0, missing[0], 0, missing[1]))
    weight = weight.view(*weight.shape[:2], taps_y, stride_y, taps_x, stride_x).flip(2, 4)
    # by input channel and phase
    table = weight.permute(1, 3, 5, 0, 2, 4).flatten(4, 5).flatten(0, 2)
    phase_y, phase_x = ((at + op.padding[i]) % op.stride[i] for i, at in enumerate(axes))
    return table.index_select(0, (channel * stride_y + phase_y) * stride_x + phase_x)

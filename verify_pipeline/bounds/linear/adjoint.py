"""How affine operations transform linear functionals.

If ``y = op(x)`` is affine, a functional ``A · y`` equals ``adjoint(A) · x + constant(A)``.
Everything here can be differentiated twice.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.bounds.broadcasting import Shape, sum_to
from verify_pipeline.network.ops import (
    Conv2d,
    Linear,
    LinearOp,
    Pad,
    Reshape,
    Scale,
    Transpose,
)

# With at most this many input channels, a matrix product followed by ``fold`` is faster than a
# transposed convolution.
_FEW_CHANNELS = 4


@singledispatch
def adjoint(op: LinearOp, coefficients: Tensor, shape: Shape) -> Tensor:
    """Transform functionals of the output into functionals of the input, ``B x *V_in``.

    Args:
        op: the operation.
        coefficients: functionals of its output, ``B x *V_out``.
        shape: the shape of its input, ``*V_in``.
    """
    with torch.enable_grad():
        x = coefficients.new_zeros(coefficients.shape[0], *shape, requires_grad=True)
        y = op.linear(x)
    wanted = torch.is_grad_enabled()
    return torch.autograd.grad(y, x, coefficients, create_graph=wanted)[0]


@adjoint.register
def _(op: Linear, coefficients: Tensor, shape: Shape) -> Tensor:
    return coefficients @ op.weight


@adjoint.register
def _(op: Conv2d, coefficients: Tensor, shape: Shape) -> Tensor:
    if shape[0] <= _FEW_CHANNELS and op.groups == 1:
        columns = op.weight.flatten(1).T @ coefficients.flatten(2)
        kernel = op.weight.shape[2:]
        return F.fold(columns, shape[1:], kernel, op.dilation, op.padding, op.stride)
    # rows and columns at the end of each axis that the kernel does not reach with this stride
    left_over = [
        shape[axis]
        - (coefficients.shape[axis + 1] - 1) * op.stride[axis - 1]
        + 2 * op.padding[axis - 1]
        - op.dilation[axis - 1] * (op.weight.shape[axis + 1] - 1)
        - 1
        for axis in (1, 2)
    ]
    return F.conv_transpose2d(
        coefficients, op.weight, None, op.stride, op.padding, left_over, op.groups, op.dilation
    )


@adjoint.register
def _(op: Scale, coefficients: Tensor, shape: Shape) -> Tensor:
    return sum_to(coefficients * op.scale, shape)


@adjoint.register
def _(op: Reshape, coefficients: Tensor, shape: Shape) -> Tensor:
    return coefficients.reshape(coefficients.shape[0], *shape)


@adjoint.register
def _(op: Transpose, coefficients: Tensor, shape: Shape) -> Tensor:
    order = sorted(range(len(op.axes)), key=op.axes.__getitem__)
    return coefficients.permute(0, *(axis + 1 for axis in order))


@adjoint.register
def _(op: Pad, coefficients: Tensor, shape: Shape) -> Tensor:
    return F.pad(coefficients, [-width for width in op.widths])


@singledispatch
def constant(op: LinearOp, coefficients: Tensor) -> Tensor | None:
    """``A · op(0)``, ``B``; None if the operation has no constant."""
    return None


@constant.register
def _(op: Linear, coefficients: Tensor) -> Tensor | None:
    return None if op.bias is None else (coefficients @ op.bias).unsqueeze(1).flatten(1).sum(1)


@constant.register
def _(op: Conv2d, coefficients: Tensor) -> Tensor | None:
    return None if op.bias is None else coefficients.sum((2, 3)) @ op.bias


@constant.register
def _(op: Scale, coefficients: Tensor) -> Tensor | None:
    return (coefficients * op.shift).unsqueeze(1).flatten(1).sum(1)


@singledispatch
def picked_rows(op: LinearOp, indices: Tensor, shape: Shape, in_shape: Shape) -> Tensor | None:
    """Rows of the operation's matrix, which are the functionals of single output elements.

    Args:
        op: the operation.
        indices: ``Q`` indices into its flattened output ``*V_out``.
        shape: ``*V_out``.
        in_shape: ``*V_in``.

    Returns:
        ``Q x *V_in``; None if nothing is faster than :func:`adjoint` of one-hot vectors.
    """
    return None


@picked_rows.register
def _(op: Linear, indices: Tensor, shape: Shape, in_shape: Shape) -> Tensor | None:
    return op.weight[indices] if len(in_shape) == 1 else None


@picked_rows.register
def _(op: Conv2d, indices: Tensor, shape: Shape, in_shape: Shape) -> Tensor | None:
    """Each row holds one filter at the window of its output element and zeros elsewhere."""
    if op.groups != 1:
        return None
    height, width = shape[1:]
    channel = indices.div(height * width, rounding_mode="floor")
    row = indices.div(width, rounding_mode="floor") % height
    column = indices % width
    filters = op.weight[channel].flatten(1)
    kernel_y, kernel_x = op.weight.shape[2:]
    y = row.unsqueeze(1) * op.stride[0] + _offsets(kernel_y, op.dilation[0], indices)
    x = column.unsqueeze(1) * op.stride[1] + _offsets(kernel_x, op.dilation[1], indices)
    padded_height, padded_width = (in_shape[i + 1] + 2 * op.padding[i] for i in range(2))
    plane = (y.unsqueeze(2) * padded_width + x.unsqueeze(1)).unsqueeze(1)
    planes = torch.arange(in_shape[0], device=indices.device) * (padded_height * padded_width)
    places = (planes.view(1, -1, 1, 1) + plane).flatten(1)
    rows = filters.new_zeros(len(indices), in_shape[0] * padded_height * padded_width)
    rows.scatter_(1, places, filters)
    rows = rows.view(-1, in_shape[0], padded_height, padded_width)
    top, left = op.padding
    return rows[:, :, top : padded_height - top, left : padded_width - left]


def _offsets(kernel: int, dilation: int, like: Tensor) -> Tensor:
    return torch.arange(kernel, device=like.device) * dilation

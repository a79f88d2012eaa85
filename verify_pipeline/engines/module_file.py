"""Writes a network as a Python file: a torch module that needs only torch.

α,β-CROWN converts ONNX files with a package that lacks some operators and gets some wrong. If that
is detected (``inside_tool.py``), it uses this module instead: our graph, with one line for each
operation, rounded to float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import DataError
from verify_pipeline.network import ops
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.limits import AtLeast, Maximum

SOURCE, WEIGHTS = "network.py", "weights.pt"

_TEMPLATE = '''"""A network, written by verify_pipeline: one line for each operation."""

import os

import torch
from torch.nn import functional as F

SHAPE = {shape}


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights.pt")
        for name, value in torch.load(place, map_location="cpu", weights_only=True).items():
            if not value.is_floating_point():
                self.register_buffer(name, value)
                continue
            value = value.to(torch.get_default_dtype())
            self.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))

    def forward(self, x0):
{body}
        return {last}
'''


def write_module(graph: Graph, folder: Path) -> Path | None:
    """Write a graph as Python and a file of weights.

    Args:
        graph: any dtype; its weights are written as they are.
        folder: for the two files.

    Returns:
        The Python file's path; None where the graph has an operation that has no line here.

    Raises:
        DataError: the folder cannot be written.
    """
    weights: dict[str, Tensor] = {}
    lines = []
    for place, node in enumerate(graph.nodes[1:], 1):
        expression = _expression(node, place, weights)
        if expression is None:
            return None
        lines.append(f"        x{place} = {expression}")
    text = _TEMPLATE.format(
        shape=tuple(graph.input_shape), body="\n".join(lines), last=f"x{len(graph.nodes) - 1}"
    )
    path = write_whole(folder / SOURCE, text)
    try:
        torch.save({name: value.cpu().clone() for name, value in weights.items()}, folder / WEIGHTS)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"file {folder / WEIGHTS}", expected="a place that can be written", got=str(error)
        ) from None
    return path


def _expression(node: Node, place: int, weights: dict[str, Tensor]) -> str | None:
    """A Python expression for a node's value; its tensors go into ``weights``."""
    inputs = [f"x{i}" for i in node.inputs]
    x = inputs[0]

    def kept(name: str, value: Tensor | None) -> str:
        if value is None:
            return "None"
        weights[f"{name}{place}"] = value
        return f"self.{name}{place}"

    match node.op:
        case ops.Linear(weight=weight, bias=bias):
            return f"F.linear({x}, {kept('w', weight)}, {kept('b', bias)})"
        case ops.Conv2d(weight, bias, stride, padding, dilation, groups, _):
            settings = f"{stride}, {padding}, {dilation}, {groups}"
            return f"F.conv2d({x}, {kept('w', weight)}, {kept('b', bias)}, {settings})"
        case ops.Scale(scale=scale, shift=shift):
            factor, summand = (_with_batch_axis(value, node) for value in (scale, shift))
            return f"{x} * {kept('w', factor)} + {kept('b', summand)}"
        case ops.Gather(axis, indices):
            picked = f"{x}.index_select({axis + 1}, {kept('i', indices.flatten())})"
            return f"{picked}.reshape(-1, {_listed(node.shape)})"
        case AtLeast(limit):
            return f"torch.maximum({x}, {kept('l', _with_batch_axis(limit, node))})"
        case ops.Constant(value):
            return f"{kept('c', value.unsqueeze(0))}.expand({x}.shape[0]{', -1' * value.dim()})"
    return _without_weights(node, inputs)


def _without_weights(node: Node, inputs: Sequence[str]) -> str | None:
    """The same of an operation that has no tensors of its own."""
    x = inputs[0]
    match node.op:
        case ops.Reshape(shape):
            return f"{x}.flatten(1)" if len(shape) == 1 else f"{x}.reshape(-1, {_listed(shape)})"
        case ops.Transpose(axes):
            return f"{x}.permute(0, {_listed(axis + 1 for axis in axes)})"
        case ops.Pad(widths):
            return f"F.pad({x}, {tuple(widths)})"
        case ops.Slice(axis, start, stop, step):
            return f"{x}[{':, ' * (axis + 1)}{start}:{stop}:{step}]"
        case ops.AvgPool2d(kernel, stride, padding, ceil, counted):
            return f"F.avg_pool2d({x}, {kernel}, {stride}, {padding}, {ceil}, {counted})"
        case ops.MaxPool2d(kernel, stride, padding, dilation, ceil):
            return f"F.max_pool2d({x}, {kernel}, {stride}, {padding}, {dilation}, {ceil})"
        case ops.Mean(axes, keepdim):
            return f"{x}.mean([{_listed(axis + 1 for axis in axes)}], keepdim={keepdim})"
        case ops.Sum(axes, keepdim):
            return f"{x}.sum([{_listed(axis + 1 for axis in axes)}], keepdim={keepdim})"
        case ops.Concat(axis):
            return f"torch.cat([{', '.join(inputs)}], dim={axis + 1})"
        case ops.LeakyRelu(slope):
            return f"F.leaky_relu({x}, {slope!r})"
        case ops.Softmax(axis):
            return f"{x}.softmax(dim={axis + 1})"
        case ops.Relu():
            return f"F.relu({x})"
        case Maximum():
            return f"torch.maximum({', '.join(inputs)})"
        case ops.Elementwise(name):
            return _FUNCTIONS.get(name, f"torch.{name}({{}})").format(x)
        case ops.Add() | ops.Sub() | ops.Mul() | ops.Div() | ops.MatMul():
            return f" {_SIGNS[type(node.op)]} ".join(inputs)
    return None


_FUNCTIONS: dict[str, str] = {
    "square": "{} ** 2",
    "reciprocal": "1 / {}",
    "gelu": "F.gelu({})",
    "gelu_tanh": "F.gelu({}, approximate='tanh')",
    "elu": "F.elu({})",
    "selu": f"F.elu({{}}, {ops.SELU_ALPHA!r})",
    "silu": "F.silu({})",
    "mish": "F.mish({})",
    "hardswish": "F.hardswish({})",
    "softplus": "F.softplus({}, threshold=50)",
}
"""Functions that have another name or another form in torch."""

_SIGNS: dict[type[ops.Op], str] = {
    ops.Add: "+",
    ops.Sub: "-",
    ops.Mul: "*",
    ops.Div: "/",
    ops.MatMul: "@",
}


def _with_batch_axis(value: Tensor, node: Node) -> Tensor:
    """A constant that broadcasts against ``*V``, with all axes of ``N x *V``."""
    missing = len(node.shape) + 1 - value.dim()
    return value.reshape((1,) * missing + tuple(value.shape))


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))

"""Rewriting rules that recognise a function which a file spells out in simple operations."""

from __future__ import annotations

import itertools
import math

import torch

from verify_pipeline.network.affine_error import Norms, of_roundings
from verify_pipeline.network.ops import Elementwise, Linear, Mean, Mul, Scale, Sub
from verify_pipeline.onnx.rewriting import Rewriter

MANY = 1024
"""Elements above which centring is left as mean and difference, sparing its square matrix."""


def gelu(graph: Rewriter, place: int) -> bool:
    """``m x * k (1 + erf(c x))`` is ``2 m k / r * gelu(r x)``, r = c sqrt 2 (arXiv:1606.08415).

    Bounding the spelled-out form would treat x and the error function as independent. A file's c is
    1 / sqrt 2 as float32 has it, so r is 1 but for 2e-8; it is kept, since without it the function
    would be another one.
    """
    if not isinstance(graph.op(place), Mul):
        return False
    for factor, other in (graph.inputs(place), graph.inputs(place)[::-1]):
        for source, m in ((factor, 1.0), _multiple(graph, factor)):
            k = _one_plus_erf_of(graph, other, source)
            if k is not None:
                return _write_gelu(graph, place, other, source, 2 * m * k)
    return False


def _write_gelu(graph: Rewriter, place: int, outer: int, source: int, factor: float) -> bool:
    """``factor / r * gelu(r * source)`` at ``place``, in the nodes that lead to ``1 + erf``."""
    (inner,) = graph.inputs(outer)
    (argument,) = graph.inputs(inner)
    way = (argument, inner, outer, place)
    if not all(graph.only_user(node, user) for node, user in itertools.pairwise(way)):
        return False
    ratio = _multiple(graph, argument)[1] * math.sqrt(2)
    if math.isclose(ratio, 1.0, rel_tol=1e-15):  # the rounding of sqrt 2 itself
        ratio = 1.0
    graph.replace(argument, _times(ratio), source)
    graph.replace(inner, Elementwise("gelu"), argument)
    return graph.replace(place, _times(factor / ratio), inner)


def _times(factor: float) -> Scale:
    """The product with a factor that was rounded some times, or is 1 up to 1e-15."""
    constant = torch.tensor(factor, dtype=torch.float64)
    error = of_roundings(16, Norms(abs(factor), 0.0))
    return Scale(constant, torch.zeros_like(constant), error)


def _multiple(graph: Rewriter, place: int) -> tuple[int, float]:
    """``(x, m)`` where the value is ``m * x`` by one number m, else the value itself and 1."""
    op = graph.op(place)
    if isinstance(op, Scale) and op.scale.numel() == 1 and bool((op.shift == 0).all()):
        return graph.inputs(place)[0], float(op.scale)
    return place, 1.0


def _one_plus_erf_of(graph: Rewriter, place: int, source: int) -> float | None:
    """k where the value is ``k (1 + erf(c * source))``, c about 1 / sqrt 2, else None."""
    outer = graph.op(place)
    if not isinstance(outer, Scale) or outer.scale.numel() != 1 or outer.shift.numel() != 1:
        return None
    k = float(outer.scale)
    (inner,) = graph.inputs(place)
    smooth = graph.op(inner)
    if float(outer.shift) != k or not isinstance(smooth, Elementwise) or smooth.function != "erf":
        return None
    x, c = _multiple(graph, graph.inputs(inner)[0])
    return k if x == source and math.isclose(c, math.sqrt(0.5), rel_tol=1e-6) else None


def gated(graph: Rewriter, place: int) -> bool:
    """``x * sigmoid(x)`` is ``silu(x)``, ``x * tanh(softplus(x))`` is ``mish(x)``.

    A product would be bounded as if x and the gate were independent.
    """
    if not isinstance(graph.op(place), Mul):
        return False
    for source, gate in (graph.inputs(place), graph.inputs(place)[::-1]):
        within = _argument(graph, gate, "tanh")
        for name, argument in (
            ("silu", _argument(graph, gate, "sigmoid")),
            ("mish", None if within is None else _argument(graph, within, "softplus")),
        ):
            if argument == source:
                return graph.replace(place, Elementwise(name), source)
    return False


def _argument(graph: Rewriter, place: int, function: str) -> int | None:
    """What the function of that name is taken of there; None: it is another operation."""
    op = graph.op(place)
    is_it = isinstance(op, Elementwise) and op.function == function
    return graph.inputs(place)[0] if is_it else None


def centring(graph: Rewriter, place: int) -> bool:
    """``x - mean(x)`` over the last axis is one linear layer, ``I - 1/d``.

    As a difference of two values it would lose, in interval bounds, that they depend on each other.
    """
    if not isinstance(graph.op(place), Sub):
        return False
    source, mean = graph.inputs(place)
    op = graph.op(mean)
    shape = graph.shape(place)
    if not isinstance(op, Mean) or graph.inputs(mean) != (source,) or shape[-1] > MANY:
        return False
    if op.axes != (len(shape) - 1,) or not op.keepdim or graph.shape(source) != shape:
        return False
    width = shape[-1]
    eye = torch.eye(width, dtype=torch.float64)
    rounded = of_roundings(2, Norms(2.0, 0.0))  # each row of eye - 1 / width sums up to less than 2
    return graph.replace(place, Linear(eye - 1 / width, error=rounded), source)

"""Rewriting rules that recognise a function which a file spells out in simple operations."""

from __future__ import annotations

import math

import torch

from verify_pipeline.network.ops import Elementwise, Linear, Mean, Mul, Scale, Sub
from verify_pipeline.onnx.rewriting import Rewriter

MANY = 1024
"""Elements above which centring is left as mean and difference, sparing its square matrix."""


def gelu(graph: Rewriter, place: int) -> bool:
    """``m x * k (1 + erf(x / sqrt 2))`` is ``2 m k gelu(x)`` (Hendrycks and Gimpel 2016).

    Bounding the spelled-out form would treat x and the error function as independent.
    """
    if not isinstance(graph.op(place), Mul):
        return False
    for factor, other in (graph.inputs(place), graph.inputs(place)[::-1]):
        for source, m in ((factor, 1.0), _multiple(graph, factor)):
            k = _one_plus_erf_of(graph, other, source)
            if k is not None:
                return _write_gelu(graph, place, other, source, 2 * m * k)
    return False


def _write_gelu(graph: Rewriter, place: int, spare: int, source: int, factor: float) -> bool:
    """``factor * gelu(source)`` at ``place``; the node ``spare`` before it holds the function."""
    smooth = Elementwise("gelu")
    if math.isclose(factor, 1.0, rel_tol=1e-6):
        return graph.replace(place, smooth, source)
    if not graph.only_user(spare, place):
        return False
    graph.replace(spare, smooth, source)
    constant = torch.tensor(factor, dtype=torch.float64)
    return graph.replace(place, Scale(constant, torch.zeros_like(constant)), spare)


def _multiple(graph: Rewriter, place: int) -> tuple[int, float]:
    """``(x, m)`` where the value is ``m * x`` by one number m, else the value itself and 1."""
    op = graph.op(place)
    if isinstance(op, Scale) and op.scale.numel() == 1 and bool((op.shift == 0).all()):
        return graph.inputs(place)[0], float(op.scale)
    return place, 1.0


def _one_plus_erf_of(graph: Rewriter, place: int, source: int) -> float | None:
    """k where the value is ``k (1 + erf(source / sqrt 2))``, else None."""
    outer = graph.op(place)
    if not isinstance(outer, Scale) or outer.scale.numel() != 1 or outer.shift.numel() != 1:
        return None
    k = float(outer.scale)
    (inner,) = graph.inputs(place)
    smooth = graph.op(inner)
    if float(outer.shift) != k or not isinstance(smooth, Elementwise) or smooth.function != "erf":
        return None
    x, m = _multiple(graph, graph.inputs(inner)[0])
    return k if x == source and math.isclose(m, math.sqrt(0.5), rel_tol=1e-6) else None


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
    return graph.replace(place, Linear(eye - 1 / width), source)

"""What other algorithms of a variance and of a centred value add to their errors.

Layer normalisation is written as ``(x - μ) / sqrt(mean((x - μ)^2) + ε)``, by one operator or by
several, which runtimes replace by one. They may compute the variance as ``mean(x^2) - μ^2`` or by
Welford's updates, and ``(x - μ) r`` as ``x r - μ r``. With n elements and sizes m:

* ``mean(x^2) - μ^2`` is wrong by at most ``γ_{3n+8} mean(m^2)``: the mean of squares by
  ``γ_{n+3} mean(m^2)``, the squared mean by ``γ_{2n+4} mean(m)^2``, and ``mean(m)^2 <= mean(m^2)``;
* Welford's updates are wrong by at most ``γ_{4n+40} mean(m^2)`` (derived in docs/soundness.md;
  Chan, Golub and LeVeque 1983, The American Statistician 37, compare it with others);
* ``x r - μ r`` is wrong by at most ``γ_8 (|x| + |μ|) r``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from verify_pipeline.bounds.forward_error.computed import UPWARD, Computed, like
from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Elementwise, Mean, Mul, Sub


def with_other_algorithms(
    graph: Graph, place: int, arithmetic: Arithmetic, found: Computed, values: Sequence[Computed]
) -> Computed:
    """What is known of a node's value, whichever algorithm computes it.

    Args:
        graph: the file's own operations.
        place: index of the node.
        arithmetic: in which it is evaluated.
        found: what is known if the node's own operation computes it.
        values: of the nodes before it.
    """
    source = _centred(graph, place)
    if source is not None:
        x, mean = values[source], values[graph.nodes[place].inputs[1]]
        added = arithmetic.gamma(8) * (x.size + mean.size)
        return _more(found, added)
    source = _of_variance(graph, place)
    if source is None:
        return found
    op, x = graph.nodes[place].op, values[source]
    assert isinstance(op, Mean)
    squares = op(x.size.square())
    count = x.size[0].numel() // squares[0].numel()
    flushed = like(4 * arithmetic.inner.tiny * (1 + x.largest), squares)
    added = arithmetic.gamma(4 * count + 40) * squares + flushed
    # the sum of squares must not overflow
    fits = 2 * count * squares <= arithmetic.inner.most
    return _more(found, torch.where(fits, added, torch.inf))


def _more(found: Computed, added: torch.Tensor) -> Computed:
    return replace(found, error=(found.error + added) * UPWARD, own=(found.own + added) * UPWARD)


def _centred(graph: Graph, place: int) -> int | None:
    """The index of x where a node is x less its mean."""
    node = graph.nodes[place]
    if not isinstance(node.op, Sub):
        return None
    source, mean = node.inputs
    other = graph.nodes[mean]
    return source if isinstance(other.op, Mean) and other.inputs == (source,) else None


def _of_variance(graph: Graph, place: int) -> int | None:
    """The index of x where a node is the mean of squares of x less its mean."""
    node = graph.nodes[place]
    if not isinstance(node.op, Mean):
        return None
    square = graph.nodes[node.inputs[0]]
    if isinstance(square.op, Mul):
        if len(set(square.inputs)) > 1:
            return None
    elif not (isinstance(square.op, Elementwise) and square.op.function == "square"):
        return None
    return _centred(graph, square.inputs[0])

"""Scores of inputs for a split: how much of the relaxation gap each input is responsible for.

A bound loses something at every function that is relaxed, and the loss shrinks with the interval of
the function's input. An input's share in that interval is estimated to first order: how far the
network, with chords instead of functions, moves the neuron along the input's width. The score of an
input has two summands. The first one is the loss at each function times the input's share, summed
over all functions. The second one is a quarter of the range of the linear bound along the input,
since one half of a split raises the bound by that range. The slopes of the bound alone (smart
branching, Wang et al. 2018, arXiv:1804.10829) miss inputs that cancel in the bound but make it
loose.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jvp

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.bounds.linear.relaxation_gap import is_curved
from verify_pipeline.bounds.relaxations.relaxed_graph import is_affine
from verify_pipeline.branching.config.search_settings import InputSplitSettings
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Constant, LinearOp
from verify_pipeline.problem import Box


@torch.no_grad()
def input_scores(
    graph: Graph,
    box: Box,
    bounds: NodeBounds,
    lost: dict[int, Tensor],
    slopes: Tensor,
    whole: Box,
    settings: InputSplitSettings,
) -> Tensor:
    """The expected gain of a split at each input, ``D x I`` numbers >= 0 whose sum is about 1.

    Args:
        graph: the network.
        box: ``D`` parts of boxes.
        bounds: bounds over the parts, of ``needed_places`` at least.
        lost: node index of a function -> ``D x *V``, what the bound loses there.
        slopes: ``D x *X``, the coefficients of the linear bound.
        whole: the ``D`` whole boxes.
        settings: weights of the summands.
    """
    width = box.upper - box.lower
    scores = settings.slopes * slopes.abs() * width
    scores = scores.flatten(1).nan_to_num(0.0, 0.0, 0.0)
    for axis in (width.flatten(1) > 0).any(0).nonzero().flatten().tolist():
        step = torch.zeros_like(width.flatten(1))
        step[:, axis] = width.flatten(1)[:, axis]
        scores[:, axis] += _moved(graph, step.view_as(width), bounds, lost)
    entire = whole.upper - whole.lower
    widths = torch.where(entire > 0, width / entire, torch.zeros_like(width)).flatten(1)
    return _shares(scores) + settings.widths * _shares(widths)


def _moved(graph: Graph, step: Tensor, bounds: NodeBounds, lost: dict[int, Tensor]) -> Tensor:
    """The losses at all functions, each weighted by how far the step ``D x *X`` moves it: ``D``."""
    moved, total = {0: step}, torch.zeros_like(step.flatten(1)[:, 0])
    for place, node in enumerate(graph.nodes[1:], 1):
        inputs = [moved[i] for i in node.inputs]
        if place in lost:
            (source,) = node.inputs
            interval = (bounds.upper[source] - bounds.lower[source]).clamp_min(_TINY)
            shares = (inputs[0].abs() / interval).clamp(max=1)
            total += (lost[place] * shares).flatten(1).sum(1)
        moved[place] = _along(node, inputs, bounds)
    return total.nan_to_num(0.0, 0.0, 0.0).clamp_min(0)


def _along(node: Node, steps: list[Tensor], bounds: NodeBounds) -> Tensor:
    """How far the value of a node moves with its inputs, ``D x *V``; chords replace functions."""
    if isinstance(node.op, Constant):
        return torch.zeros_like(node.op(*steps))
    if isinstance(node.op, LinearOp):
        return node.op.linear(*steps)
    if is_affine(node.op):
        return node.op(*steps)  # operations of several inputs, such as sums
    ends = [(bounds.lower[i], bounds.upper[i]) for i in node.inputs]
    if is_curved(node.op):
        ((lower, upper),) = ends
        chord = (node.op(upper) - node.op(lower)) / (upper - lower).clamp_min(_TINY)
        return chord * steps[0]
    middles = tuple((lower + upper) / 2 for lower, upper in ends)
    moved: Tensor = jvp(node.op, middles, tuple(steps))[1]
    return moved


def _shares(values: Tensor) -> Tensor:
    """Values >= 0, ``D x I``, scaled so that each row's sum is 1; rows of zeros stay zero."""
    return values / values.sum(1, keepdim=True).clamp_min(_TINY)


_TINY = torch.finfo(torch.float64).tiny

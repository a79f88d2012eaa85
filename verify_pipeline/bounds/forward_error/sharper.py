"""Better errors of margins, for a little time: CROWN bounds of the values, and parts of boxes.

Errors are proportional to the sizes of values, and to derivatives, which depend on the ReLUs that
are unstable. Intervals bound both too loosely in deep networks. CROWN bounds of the file's own
operations are much tighter. If few inputs are free, a box is cut into parts, and the error is the
greatest over the parts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.bounds.forward_error.walk import row_errors
from verify_pipeline.bounds.intermediate.tighten import crown_intermediate
from verify_pipeline.bounds.interval.ibp import interval_bounds
from verify_pipeline.bounds.types import MemoryBudget
from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size
from verify_pipeline.problem import Box, Specification

BUDGET = MemoryBudget(bytes=1 << 24)
"""Of the functionals that are walked back at once."""

FEW = 8
"""Free inputs of boxes that are cut into parts, at most."""

PARTS = 256
"""Of a box, about."""

AT_ONCE = 32
"""Parts that are halved together, at most: those with the greatest errors."""

LARGEST = 1 << 22
"""Derivatives of rows by the elements of a value that are bounded at once, about."""


def sharper_row_errors(
    graph: Graph,
    box: Box,
    spec: Specification,
    arithmetic: Arithmetic,
    enough: Tensor,
    has_time: Callable[[], bool],
) -> Tensor:
    """At least the difference between computed and exact margins, ``N x S``.

    Args:
        graph: the file's own operations, float64, all of them analysed.
        box: ``N`` boxes, float64.
        spec: ``N`` specifications, float64.
        arithmetic: in which the file is evaluated.
        enough: boxes are not cut into parts for errors of at most this, ``N x S``.
        has_time: called now and then; once it returns False, what is known is returned.
    """
    found = _by_crown(graph, box, spec, arithmetic, has_time)
    free = (box.lower < box.upper).flatten(1).sum(1)
    for place in ((free > 0) & (free <= FEW)).nonzero().flatten().tolist():
        one = slice(place, place + 1)
        found[one] = _over_parts(
            graph, box[one], spec[one], arithmetic, enough[one], has_time, found[one]
        )
    return found


def _by_crown(
    graph: Graph,
    box: Box,
    spec: Specification,
    arithmetic: Arithmetic,
    has_time: Callable[[], bool],
) -> Tensor:
    start = interval_bounds(graph, box)
    known = crown_intermediate(graph, box, start, BUDGET, has_time)
    return row_errors(graph, box, spec, arithmetic, known=known)


def _over_parts(
    graph: Graph,
    box: Box,
    spec: Specification,
    arithmetic: Arithmetic,
    enough: Tensor,
    has_time: Callable[[], bool],
    whole: Tensor,
) -> Tensor:
    """The greatest errors over the parts of one box, ``1 x S``.

    Args:
        whole: errors over the whole box, ``1 x S``.
    """
    width = spec.offsets.shape[1] * max(size(node.shape) for node in graph.nodes)
    together = max(1, min(AT_ONCE, LARGEST // (2 * width)))
    parts, errors = box, whole
    while len(parts) < PARTS and bool((errors > enough).any()) and has_time():
        order = errors.amax(1).argsort(descending=True)
        worst, others = order[:together], order[together:]
        halves = _halves(parts[worst])
        count = len(halves)
        rows = Specification(spec.rows.expand(count, -1, -1), spec.offsets.expand(count, -1))
        new = _by_crown(graph, halves, rows, arithmetic, has_time)
        new = torch.minimum(new, errors[worst].repeat(2, 1))
        parts = Box(
            torch.cat([parts.lower[others], halves.lower]),
            torch.cat([parts.upper[others], halves.upper]),
        )
        errors = torch.cat([errors[others], new])
    return errors.amax(0, keepdim=True)


def _halves(box: Box) -> Box:
    """The lower halves of ``N`` boxes at their widest inputs, then the upper ones."""
    lower, upper = box.lower.flatten(1), box.upper.flatten(1)
    at = torch.arange(len(box)), (upper - lower).argmax(1)
    middle = (lower[at] + upper[at]) / 2
    below, above = upper.clone(), lower.clone()
    below[at] = above[at] = middle
    return Box(
        torch.cat([lower, above]).view(-1, *box.lower.shape[1:]),
        torch.cat([below, upper]).view(-1, *box.lower.shape[1:]),
    )

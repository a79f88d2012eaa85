"""Errors of a file's evaluation, from its input to its output.

Every operation is evaluated in an arithmetic with unit roundoff u, in any order of summation, with
or without fused operations, and numbers below the normal range may become zero wherever they are
read or written. In mixed precision, every result is stored in a half precision or kept wider. The
errors hold for every such evaluation, and for those that merge neighbouring affine operations.
docs/soundness.md derives them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import greatest, meet
from verify_pipeline.bounds.forward_error.computed import UPWARD, Computed
from verify_pipeline.bounds.forward_error.functions import SLOPES
from verify_pipeline.bounds.forward_error.normalisations import with_other_algorithms
from verify_pipeline.bounds.forward_error.operations import evaluate
from verify_pipeline.bounds.forward_error.sensitivity import sensitivities
from verify_pipeline.bounds.interval.ibp import node_interval
from verify_pipeline.bounds.types import NodeBounds
from verify_pipeline.network.arithmetic import ARITHMETICS, Arithmetic
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Elementwise, Input, Normalisation, Op
from verify_pipeline.network.written import Written
from verify_pipeline.problem import Box, Specification

LARGEST_TINY = 2.0**-100
"""Batch normalisation adds numbers such as 1e-5, which must not be flushed to zero."""


def refusal(written: Written | None, arithmetic: Arithmetic) -> str:
    """Why a file's evaluation in an arithmetic is not analysed; empty: it is.

    Args:
        written: the file's own operations; None: they are not known.
        arithmetic: in which the file is evaluated.
    """
    if written is None:
        return "the network is not read from a file"
    if arithmetic.name not in covering(written):
        return f"the file computes in {' and '.join(sorted(written.rounded_to))}"
    # converters round the weights for mixed precision
    if arithmetic.wider is None and arithmetic.name not in written.held_by:
        return f"a weight of the file is no {str(arithmetic.dtype).partition('.')[2]} number"
    if written.computed and arithmetic.wider is not None:
        return "constants that the file computes of others, which may be stored or not"
    if written.foreign:
        return written.foreign
    for node in written.graph.nodes:
        if not _is_analysed(node.op, arithmetic):
            return f"{node.name} ({type(node.op).__name__})"
    return ""


def covering(written: Written) -> list[str]:
    """Names of the arithmetics that the file's evaluations, rounded to its types, are in."""
    types = [ARITHMETICS[name] for name in written.rounded_to]
    return [one.name for one in ARITHMETICS.values() if all(each.refines(one) for each in types)]


def _is_analysed(op: Op, arithmetic: Arithmetic) -> bool:
    if isinstance(op, Elementwise):
        return op.function in SLOPES
    if isinstance(op, Normalisation):
        return arithmetic.tiny <= LARGEST_TINY
    return isinstance(op, Input) or evaluate.dispatch(type(op)) is not evaluate.dispatch(object)


def computed_values(
    graph: Graph, box: Box, arithmetic: Arithmetic, known: NodeBounds | None = None
) -> Iterator[Computed]:
    """Of each node, in order, what is known of its value as it is computed.

    The input is any number of the box, exact or rounded to the arithmetic on its way in.

    Args:
        graph: float64, the file's own operations, all of them analysed (:func:`refusal`).
        box: ``N`` boxes, float64.
        arithmetic: in which the file is evaluated.
        known: valid bounds of exact values, of any nodes; None: intervals alone.
    """
    values: list[Computed] = []
    for place, node in enumerate(graph.nodes):
        if place == 0:
            found = _input(box, arithmetic)
        else:
            interval = node_interval(graph, place, lambda i: values[i].interval)
            if known is not None and place in known.lower:
                interval = meet(interval, (known.lower[place], known.upper[place]))
            inputs = (values[i] for i in node.inputs)
            found = evaluate(node.op, arithmetic, interval, *inputs)
            found = with_other_algorithms(graph, place, arithmetic, found, values)
        values.append(found.if_finite(arithmetic))
        yield values[-1]


def _input(box: Box, arithmetic: Arithmetic) -> Computed:
    interval = box.lower, box.upper
    rounding = arithmetic.unit * greatest(interval) * UPWARD
    return Computed.closed(interval, rounding + arithmetic.tiny * greatest(interval).sign())


def row_errors(
    graph: Graph,
    box: Box,
    spec: Specification,
    arithmetic: Arithmetic,
    *,
    enough: Tensor | float = 0.0,
    known: NodeBounds | None = None,
) -> Tensor:
    """At least the difference between computed and exact margins, ``N x S``.

    Outputs are compared as they are computed: the margin itself is not rounded.

    Args:
        graph: as for :func:`computed_values`.
        box: ``N`` boxes, float64.
        spec: ``N`` specifications, float64.
        arithmetic: in which the file is evaluated.
        enough: errors of at most this need not be bounded better, ``N x S``.
        known: valid bounds of exact values, of any nodes; None: intervals alone.

    Returns:
        Infinite where nothing is known of an instance.
    """
    values = list(computed_values(graph, box, arithmetic, known))
    outputs = values[-1]
    finite = torch.isfinite(outputs.error).all(1, keepdim=True)
    errors = torch.where(finite, outputs.error, 0.0).unsqueeze(2)
    rows = (spec.rows.abs() @ errors).squeeze(2)
    if bool((rows > enough).any()):
        sharper = sensitivities(graph, values, spec, arithmetic)
        if sharper is not None:
            rows = torch.where(sharper < rows, sharper, rows)  # NaN is not less
    return torch.where(finite, rows * UPWARD, torch.inf)

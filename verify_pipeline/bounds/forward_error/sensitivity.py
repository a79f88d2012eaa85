"""How much the errors of single operations change the margins, by intervals of derivatives.

Errors that are multiplied with absolute weights layer after layer grow as intervals do. Here each
operation's own error is multiplied with the greatest derivative of the margin: replace the exact
operations by computed ones, one after the other. Each replacement changes the margin by at most

    Σ_i  sup |∂ margin / ∂ value_i|  own_i

(mean value theorem), where all values are exact ones up to the errors of ``computed_values``.
Where several operations read a value, each may read another number: one of them may be fused with
the operation that computes it and take it wider. So derivatives by each of them are charged.
Affine operations that follow each other, which runtimes merge, count as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from verify_pipeline.bounds.forward_error.computed import UPWARD, Computed
from verify_pipeline.bounds.forward_error.derivatives import Derivatives, pulled_back
from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Add, Concat, LinearOp, Sub
from verify_pipeline.problem import Specification

AFFINE = (LinearOp, Add, Sub, Concat)
"""Operations that hand on the errors of a sum before them."""


def sensitivities(
    graph: Graph, values: Sequence[Computed], spec: Specification, arithmetic: Arithmetic
) -> Tensor | None:
    """At least the difference between computed and exact margins, ``N x S``.

    Args:
        graph: the file's own operations.
        values: what is known of each node's computed value.
        spec: ``N`` specifications, float64.
        arithmetic: in which the file is evaluated.

    Returns:
        None if the derivatives of some operation are not bounded.
    """
    first = Derivatives(spec.rows, torch.zeros_like(spec.rows))
    arriving: dict[int, list[tuple[Derivatives, bool]]] = {len(values) - 1: [(first, False)]}
    total = torch.zeros_like(spec.offsets)
    for place in range(len(values) - 1, -1, -1):
        found = arriving.pop(place, [])
        value, node = values[place], graph.nodes[place]
        # an affine user hands on the errors of a sum, so that they are not counted here
        charged = [each for each, handed_on in found if not (handed_on and value.count)]
        if charged:
            own = value.own
            if len(found) > 1 and arithmetic.wider is not None:
                own = own + arithmetic.unit * value.size + arithmetic.tiny
            sizes = torch.stack([each.size for each in charged]).sum(0)
            total = total + (sizes * own.unsqueeze(1)).flatten(2).sum(2)
        if not found or place == 0:
            continue
        inputs = [values[i] for i in node.inputs]
        try:
            pulled = pulled_back(node.op, _sum([each for each, _ in found]), *inputs)
        except NotImplementedError:
            return None
        for i, each in zip(node.inputs, pulled, strict=False):
            arriving.setdefault(i, []).append((each, isinstance(node.op, AFFINE)))
    return total * UPWARD


def _sum(parts: Sequence[Derivatives]) -> Derivatives:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total

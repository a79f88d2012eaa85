"""Which neuron a domain is split at.

Scores estimate how much a bound rises in the worse child, from what one backward pass shows of
each neuron: its coefficient ``A`` in the row's lower bound, the lines of its relaxation, and the
constant ``b`` that reaches its input when all activations before it are 0. With the upper line's
slope ``s`` and offset ``o``, a neuron adds ``A s b + min(A, 0) o`` to the bound; once it is split
it adds ``A b`` (active) or 0 (inactive):

* BaBSR (Bunel et al. 2020, arXiv:1909.06588, section 4.2; for backward bounds Wang et al. 2021,
  arXiv:2103.06624, appendix B): the lesser of both gains.
* Intercept: ``-min(A, 0) o`` alone, which BaBSR falls back on.

kFSB (De Palma et al. 2021, arXiv:2104.06718, section 5) bounds the children of the best few of
both scores. Its authors take the neuron whose worse child is best; here the product of what both
children gain decides, as in integer programming (Achterberg 2009, Constraint integer programming,
section 5.4), because the better child is work as well. Where every candidate leaves a child where
it was, they are bounded again after a few steps of ascent (strong branching, Achterberg 2009,
section 5.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.tree.splittable import slope
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Add, Concat, Constant, LinearOp, Sub

NO_GAIN = 1e-6
"""What a child's gain counts at least, as a share of what its parent's bound was below zero."""

LITTLE = 1e-3
"""A child that gains a smaller share of what its parent lacks is not lifted."""


@dataclass(frozen=True, eq=False)
class Scores(Batched):
    """Estimated gains of splitting, higher is better.

    Attributes:
        babsr: ``D x R``.
        intercept: ``D x R``.
    """

    babsr: Tensor
    intercept: Tensor


def scores(
    graph: Graph, neurons: Neurons, bounds: NodeBounds, coefficients: dict[int, Tensor]
) -> Scores:
    """Both scores of every neuron; 0 where it is stable.

    Args:
        graph: the network.
        neurons: its neurons.
        bounds: of the activations' inputs, cut by the splits, ``D`` domains.
        coefficients: ``D x *V`` that arrive at each activation's value in the row's lower bound.
    """
    constants = _constants(graph, next(iter(bounds.lower.values())))
    babsr, intercept = {}, {}
    for place, source in zip(neurons.places, neurons.sources, strict=True):
        lower, upper = bounds.lower[source], bounds.upper[source]
        least = slope(graph.nodes[place])
        unstable = (lower < 0) & (upper > 0)
        up = torch.where(unstable, (upper - least * lower) / (upper - lower), 1.0)
        offset = (least - up) * lower
        arriving, constant = coefficients[place], constants[source]
        relaxed = arriving * up * constant + arriving.clamp(max=0) * offset
        gain = torch.minimum(arriving * constant, least * arriving * constant) - relaxed
        babsr[place] = torch.where(unstable, gain.abs(), 0.0)
        intercept[place] = torch.where(unstable, -arriving.clamp(max=0) * offset, 0.0)
    count = len(bounds)
    return Scores(neurons.flatten(babsr, count), neurons.flatten(intercept, count))


def _constants(graph: Graph, like: Tensor) -> list[Tensor]:
    """Every node's value, ``1 x *V``, where the input and all activations are 0."""
    values: list[Tensor] = []
    for node in graph.nodes:
        if isinstance(node.op, LinearOp | Add | Sub | Concat | Constant):
            values.append(node.op(*(values[i] for i in node.inputs)))
        else:
            values.append(like.new_zeros(1, *node.shape))
    return values


def best_overall(score: Scores, allowed: Tensor, layer: Tensor, count: int) -> Tensor:
    """The best neurons of each of both scores, ``D x C`` columns with ``C <= 2 count``.

    Args:
        score: of the columns, ``D x U``.
        allowed: ``D x U`` booleans, columns that can be split; at least one in each domain.
        layer: ``D x U``, which activation a column belongs to.
        count: of each score; where a domain allows fewer, its best is repeated.
    """
    return torch.cat([_best(values, allowed, count) for values in _both(score)], 1)


def best_of_layers(score: Scores, allowed: Tensor, layer: Tensor, count: int) -> Tensor:
    """The best neurons of each of both scores in each layer; arguments as in ``best_overall``."""
    picked = []
    for values in _both(score):
        fallback = _best(values, allowed, 1)
        for number in range(int(layer.max()) + 1):
            here = allowed & (layer == number)
            columns = _best(values, here, count)
            picked.append(torch.where(here.any(1, keepdim=True), columns, fallback))
    return torch.cat(picked, 1)


def best_babsr(score: Scores, allowed: Tensor, layer: Tensor, count: int) -> Tensor:
    """The neuron of the best BaBSR score alone; arguments as in ``best_overall``."""
    return _best(score.babsr, allowed, 1)


CHOICES: dict[str, Callable[[Scores, Tensor, Tensor, int], Tensor]] = {
    "babsr": best_babsr,
    "kfsb": best_overall,
    "fsb": best_of_layers,
}


def _both(score: Scores) -> tuple[Tensor, Tensor]:
    return score.babsr, score.intercept


def _best(values: Tensor, allowed: Tensor, count: int) -> Tensor:
    """The ``count`` best allowed columns of each row, the best again where fewer are allowed."""
    best = torch.where(allowed, values, -torch.inf).topk(min(count, values.shape[1]), 1)
    return torch.where(best.values > -torch.inf, best.indices, best.indices[:, :1])


def best_candidate(lower: Tensor, columns: Tensor, before: Tensor) -> Tensor:
    """The candidate whose children are best, ``D`` columns.

    Args:
        lower: ``D x C x 2``, the bounds of both children of each candidate.
        columns: ``D x C``.
        before: ``D``, the domains' own bounds.
    """
    # a child that gains nothing counts a little: the other one's gain still tells candidates apart
    gain = _gains(lower, before).clamp(min=NO_GAIN)
    return columns.gather(1, gain.prod(2).argmax(1, keepdim=True)).squeeze(1)


def lifts_both(lower: Tensor, before: Tensor) -> Tensor:
    """Domains one of whose candidates lifts the bounds of both children, ``D`` booleans.

    Where none does, bounds that are not optimised hardly tell candidates apart: what one child of
    a good one gains is often seen only once its β has grown.

    Args:
        lower: ``D x C x 2``, the bounds of both children of each candidate.
        before: ``D``, the domains' own bounds.
    """
    return (_gains(lower, before).amin(2) > LITTLE).any(1)


def _gains(lower: Tensor, before: Tensor) -> Tensor:
    """What children gain, ``D x C x 2``, as shares of what their parents lack; 1 at most."""
    before = before.view(-1, 1, 1)
    missing = (-before).clamp(min=torch.finfo(lower.dtype).tiny)
    return ((lower - before) / missing).nan_to_num(0.0).clamp(0.0, 1.0)

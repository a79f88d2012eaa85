"""Where the search starts: every row's bound without a split, and the trees of the open rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, crown_margins
from verify_pipeline.branching.bounding import believed
from verify_pipeline.branching.domains import Domains, Goals, Neurons
from verify_pipeline.branching.instances import Instances


@dataclass(frozen=True, eq=False)
class Roots:
    """The rows' bounds at the root, and one domain for each open row.

    Attributes:
        lower: ``N x S``, float64.
        goals: the open rows of instances whose bounds are finite.
        domains: the goals' boxes without a split, ``G``.
    """

    lower: Tensor
    goals: Goals
    domains: Domains


@torch.no_grad()
def plant(exact: Instances, start: Multipliers | None, at_once: int) -> Roots:
    """Bound all rows in float64 and find out which are open.

    Args:
        exact: the instances in float64.
        start: multipliers of their bounds, ``N x S x *V`` or ``N x 1 x *V``; None: adaptive ones.
        at_once: how many instances are bounded at once.
    """
    lower = torch.cat([_rows(exact, start, part) for part in _parts(len(exact.box), at_once)])
    neurons = Neurons.of(exact.graph)
    open_rows = ~(lower > 0) & exact.are_finite().unsqueeze(1)
    goals = Goals.of(neurons, neurons.unstable(exact.bounds, len(exact.box)), open_rows)
    goal = torch.arange(len(goals), device=lower.device)
    alpha = goals.compress(goal, neurons.flatten(_alpha(exact, goals, start), len(goals)).float())
    domains = Domains(
        goal=goal,
        lower=lower[goals.instance, goals.row].float(),
        splits=torch.zeros_like(alpha, dtype=torch.int8),
        alpha=alpha,
        beta=torch.zeros_like(alpha),
        below=torch.full_like(alpha, -torch.inf),
        above=torch.full_like(alpha, torch.inf),
    )
    return Roots(lower, goals, domains)


def _rows(exact: Instances, start: Multipliers | None, part: slice) -> Tensor:
    multipliers = None if start is None else start[part].to(torch.float64)
    spec, bounds = exact.spec[part], exact.bounds[part]
    return believed(crown_margins(exact.graph, exact.box[part], spec, bounds, multipliers).lower)


def _alpha(exact: Instances, goals: Goals, start: Multipliers | None) -> dict[int, Tensor]:
    """The goals' α at each activation, ``G x *V``: given, or adaptive."""
    given = {} if start is None else start.alpha
    alpha = {}
    for place, source in zip(goals.neurons.places, goals.neurons.sources, strict=True):
        if place in given:
            row = goals.row if given[place].shape[1] > 1 else torch.zeros_like(goals.row)
            alpha[place] = given[place][goals.instance, row].double()
        else:
            adaptive = exact.bounds.upper[source] > -exact.bounds.lower[source]
            alpha[place] = adaptive[goals.instance].double()
    return alpha


def _parts(count: int, at_once: int) -> Iterator[slice]:
    return (slice(first, first + at_once) for first in range(0, count, at_once))

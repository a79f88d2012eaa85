"""Where the search starts: every row's bound without a split, and the trees of the open rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, crown_margins
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Domains, Neurons, OpenRows


@dataclass(frozen=True, eq=False)
class Roots:
    """The rows' bounds at the root, and one domain for each open row.

    Attributes:
        lower: ``N x S``, float64.
        open_rows: the open rows of instances whose bounds are finite.
        domains: the open rows' boxes without a split, ``G``.
    """

    lower: Tensor
    open_rows: OpenRows
    domains: Domains


@torch.no_grad()
def plant(exact: SearchInstances, start: Multipliers | None, at_once: int) -> Roots:
    """Bound all rows in float64 and find out which are open.

    Args:
        exact: the instances in float64.
        start: multipliers of their bounds, ``N x S x *V`` or ``N x 1 x *V``; None: adaptive ones.
        at_once: how many instances are bounded at once.
    """
    lower = torch.cat([_rows(exact, start, part) for part in _parts(len(exact.box), at_once)])
    neurons = Neurons.of(exact.graph)
    is_open = ~(lower > 0) & exact.are_finite().unsqueeze(1)
    open_rows = OpenRows.of(neurons, neurons.unstable(exact.bounds, len(exact.box)), is_open)
    open_row = torch.arange(len(open_rows), device=lower.device)
    alpha = open_rows.compress(
        open_row, neurons.flatten(_alpha(exact, open_rows, start), len(open_rows)).float()
    )
    domains = Domains(
        open_row=open_row,
        lower=lower[open_rows.instance, open_rows.row].float(),
        splits=torch.zeros_like(alpha, dtype=torch.int8),
        alpha=alpha,
        beta=torch.zeros_like(alpha),
        below=torch.full_like(alpha, -torch.inf),
        above=torch.full_like(alpha, torch.inf),
    )
    return Roots(lower, open_rows, domains)


def _rows(exact: SearchInstances, start: Multipliers | None, part: slice) -> Tensor:
    multipliers = None if start is None else start[part].to(torch.float64)
    spec, bounds = exact.spec[part], exact.bounds[part]
    return sound_lower(crown_margins(exact.graph, exact.box[part], spec, bounds, multipliers).lower)


def _alpha(
    exact: SearchInstances, open_rows: OpenRows, start: Multipliers | None
) -> dict[int, Tensor]:
    """The open rows' α at each activation, ``G x *V``: given, or adaptive."""
    given = {} if start is None else start.alpha
    alpha = {}
    for place, source in zip(open_rows.neurons.places, open_rows.neurons.sources, strict=True):
        if place in given:
            row = open_rows.row if given[place].shape[1] > 1 else torch.zeros_like(open_rows.row)
            alpha[place] = given[place][open_rows.instance, row].double()
        else:
            adaptive = exact.bounds.upper[source] > -exact.bounds.lower[source]
            alpha[place] = adaptive[open_rows.instance].double()
    return alpha


def _parts(count: int, at_once: int) -> Iterator[slice]:
    return (slice(first, first + at_once) for first in range(0, count, at_once))

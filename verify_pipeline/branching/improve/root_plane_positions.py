"""Plane positions of products and tangent points: every domain uses those of the root.

Splits of ReLUs hardly change the best positions. But a backward pass through a product with
positions costs as much as the rest of its layer. Therefore positions that raise no bound are left
out.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, crown_margins
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splittable import activations

LEAST_GAIN = 0.01
"""Positions of a node are kept if they gain a row this share of its distance below zero."""


@torch.no_grad()
def with_planes(exact: SearchInstances, start: Multipliers | None) -> SearchInstances:
    """The instances with those positions of ``start`` that raise the bound of some row.

    Args:
        exact: N instances in float64.
        start: multipliers of their bounds, ``N x S x …``; None: none are known.
    """
    if start is None:
        return exact
    known = start.alpha.keys() & set(activations(exact.graph))
    slopes = {place: start.alpha[place] for place in known}
    planes = {place: value for place, value in start.alpha.items() if place not in slopes}
    if not planes:
        return exact
    best = _lower(exact, slopes | planes)
    worth = {}
    for place, positions in planes.items():
        others = {other: value for other, value in planes.items() if other != place}
        without = _lower(exact, slopes | others)
        lacking = (best <= 0) & torch.isfinite(without)
        if bool((lacking & (best - without > LEAST_GAIN * best.abs())).any()):
            worth[place] = positions.float()
    return replace(exact, planes=worth)


def _lower(exact: SearchInstances, alpha: dict[int, Tensor]) -> Tensor:
    """Bounds of the rows at the root, ``N x S``."""
    found = [
        crown_margins(
            exact.graph,
            exact.box[one],
            exact.spec[one],
            exact.bounds[one],
            Multipliers({place: value[one] for place, value in alpha.items()}, {}).to(
                torch.float64
            ),
        ).lower
        for one in (slice(n, n + 1) for n in range(len(exact.box)))
    ]
    return torch.cat(found)

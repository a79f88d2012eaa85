"""Bounds of neurons where a margin is small, which is where counterexamples are.

Wherever a margin ``m`` is at most 0, a functional ``z`` of neurons is at least ``z + γ m``, for
every γ >= 0. The lower bound of that over the whole domain, walked back as one functional, bounds
``z`` at all inputs that matter, and the tighter the less ``m``'s own bound lacks to zero. (Output
constraints in bounds of neurons: Kotha et al. 2023, INVPROP, arXiv:2302.01404, section 3; in
integer programming, bound tightening with an objective cutoff: Gleixner et al. 2017, J. Global
Optimization 67. ``cuts`` cuts boxes by a linear bound of ``m`` instead: cheaper, and weaker, as its
slopes are fixed before it is known what they are for.)

γ is optimised together with α and β. The derivative by γ is the margin's value where the lines that
make up the bound are least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.linear.backward import Functional, lower_bounds, of_margins
from verify_pipeline.bounds.optimise.alpha_beta import begin
from verify_pipeline.bounds.optimise.ascent import Best, evaluate, step_up
from verify_pipeline.bounds.optimise.variables import NeuronIndex, Variable
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise
from verify_pipeline.bounds.types import Multipliers, NodeBounds, OptimiseSettings, Splits
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification

RATE = 1.3
"""Adam's rate for γ, in units of where it begins."""


@dataclass(frozen=True, eq=False)
class MarginProblem:
    """N domains, each with the one margin that is looked at.

    Attributes:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N x 1 x K``.
        bounds: of ``needed_places``; they need hold only where the margin is at most 0.
        splits: of the domains.
    """

    graph: Graph
    box: Box
    spec: Specification
    bounds: NodeBounds
    splits: Splits


@full_precision()
@torch.no_grad()
def lower_below_cutoff(
    exact: MarginProblem,
    fast: MarginProblem,
    inner: Mapping[int, Tensor],
    gamma: Tensor,
    settings: OptimiseSettings,
    start: Multipliers,
) -> Tensor:
    """Lower bounds ``N x S`` of functionals of neurons, where their domain's margin is at most 0.

    Where no input of a domain has such a margin, bounds of a functional and its negative may miss
    each other.

    Args:
        exact: the domains in the dtype of the bounds.
        fast: the same in the dtype in which α, β and γ are looked for.
        inner: place of a node -> coefficients ``N x S x *V`` of its value.
        gamma: ``N x S`` > 0, where γ begins.
        settings: steps and rates of α and β.
        start: α to begin with, such as those of the margin's bound, ``N x 1 x *V``.
    """
    linear = linearise(fast.graph, fast.bounds, fast.splits)
    margin = of_margins(fast.graph, fast.spec)
    unit = gamma.to(margin.constants)
    parts = {place: value.to(unit) for place, value in inner.items()}
    choices = begin(linear, _times(margin, unit), settings, start, fast.splits)
    instance = torch.arange(len(unit), device=unit.device)
    price = Variable.at(
        NeuronIndex(instance, torch.zeros_like(instance)), None, torch.ones_like(unit)
    )
    best, chosen = Best(unit, choices), price.value.clone()
    for step in range(settings.iterations + 1):
        ask = _times(margin, price.value * unit)
        lower, gradients, values = evaluate(linear, fast.box, ask, choices, parts)
        chosen = torch.where(lower > best.lower, price.value, chosen)
        best.keep(instance, lower, choices)
        if step < settings.iterations:
            step_up(choices, gradients, settings, step)
            value = (margin.coefficients * values[margin.place]).flatten(2).sum(2)
            rate = RATE * settings.decay**step
            price.climb((value + margin.constants) * unit, rate, step + 1)
    linear = linearise(exact.graph, exact.bounds, exact.splits)
    margin = of_margins(exact.graph, exact.spec)
    found = {place: c.to(margin.constants.dtype) for place, c in best.choices.items()}
    ask = _times(margin, (chosen * unit).to(margin.constants))
    return lower_bounds(linear, exact.box, ask, found, inner=inner).lower


def _times(functional: Functional, factors: Tensor) -> Functional:
    """One functional for each instance, ``N x 1``, times each of ``N x S`` numbers."""
    coefficients = functional.coefficients * factors.unsqueeze(2)
    return Functional(functional.place, coefficients, functional.constants * factors)

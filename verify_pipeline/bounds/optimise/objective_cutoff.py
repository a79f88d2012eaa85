"""Bounds of neurons at the inputs whose margin is at most zero, where all counterexamples are.

Wherever a margin ``m`` is at most 0, a functional ``z`` of neurons is at least ``z + γ m``, for
every γ >= 0. A lower bound of ``z + γ m`` over the whole domain, propagated as one functional,
therefore bounds ``z`` at all inputs that matter. The closer the bound of ``m`` is to zero, the
tighter is the bound of ``z``.

Kotha et al. 2023 (INVPROP, arXiv:2302.01404, section 3) use output constraints in bounds of neurons
in this way. Integer programming calls it bound tightening with an objective cutoff (Gleixner et al.
2017, J. Global Optimization 67). ``halfspace_box`` cuts boxes by a linear bound of ``m`` instead.
This is cheaper, but weaker, because the slopes are fixed before the functional is known.

γ is optimised together with α and β. The derivative with respect to γ is the margin's value where
the bound is attained.
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
"""Adam's learning rate for γ, relative to its starting value."""


@dataclass(frozen=True, eq=False)
class MarginProblem:
    """``N`` domains, each with the one margin whose cutoff is used.

    Attributes:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N`` specifications of one row.
        bounds: bounds of the nodes of ``needed_places``, valid at least where the margin is at
            most 0.
        splits: splits of the domains.
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
    """Lower bounds of functionals of neurons where their domain's margin is at most 0, ``N x S``.

    If no input of a domain has such a margin, the bounds of a functional and of its negative may
    contradict each other.

    Args:
        exact: the domains in the dtype of the bounds.
        fast: the same domains in the dtype in which α, β and γ are optimised.
        inner: index of a node -> coefficients of its value, ``N x S x *V``.
        gamma: the starting values of γ, ``N x S``, > 0.
        settings: number of steps, and learning rates of α and β.
        start: the starting values of α, such as those of the margin's bound, ``N x 1 x *V``.
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
    """Multiply each instance's one functional by ``S`` factors: ``N x S`` functionals."""
    coefficients = functional.coefficients * factors.unsqueeze(2)
    return Functional(functional.place, coefficients, functional.constants * factors)

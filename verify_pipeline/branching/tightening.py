"""Bounds of neurons, optimised where the search turns out to be long.

Optimised bounds of the neurons lift every domain of an instance, but they cost as much as many
domains, and most instances need few. An instance's are optimised once it has been charged as many
seconds as that is expected to take: then no instance pays more than twice what the better choice
in hindsight would have cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import MemoryBudget, NodeBounds, always, optimise_intermediate
from verify_pipeline.branching.bounding import Bounder
from verify_pipeline.branching.domains import Neurons
from verify_pipeline.branching.settings import SearchSettings

FUNCTIONAL_SHARE = 0.2
"""What a step of one neuron's bound costs of a step of one domain's, before it was measured."""

AT_ONCE = 1 << 28
"""Bytes at most for the bounds that are optimised together: time is looked at in between."""


class Tightening:
    """Who is worth it, and what was learned about the cost.

    Args:
        neurons: of the graph.
        bounds: of the instances at the root.
        count: N, how many they are.
        settings: of the search.
    """

    def __init__(
        self, neurons: Neurons, bounds: NodeBounds, count: int, settings: SearchSettings
    ) -> None:
        self._settings = settings
        # Intervals already bound the first layer of neurons exactly.
        later = neurons.unstable(bounds, count)[:, neurons.sizes[0] if neurons.sizes else 0 :]
        self.functionals = 2 * later.sum(1)
        self._waiting = self.functionals > 0
        self._correction = FUNCTIONAL_SHARE

    def expected(self, seconds_each: float) -> Tensor:
        """Seconds that each instance would take, ``N``.

        Args:
            seconds_each: what it takes to optimise one domain's bound.
        """
        steps = (self._settings.tighten.iterations + 1) / (self._settings.domain.iterations + 1)
        return self.functionals * (steps * seconds_each * self._correction)

    def worthwhile(self, searched: Tensor, left: Tensor, seconds_each: float) -> Tensor:
        """Instances whose turn it is, ``N`` booleans; none twice.

        Args:
            searched: seconds that each has been charged, ``N``.
            left: seconds that each has left, ``N``.
            seconds_each: what it takes to optimise one domain's bound.
        """
        if self._settings.tighten.iterations == 0:
            return torch.zeros_like(self._waiting)
        expected = self.expected(seconds_each)
        chosen = self._waiting & (searched >= expected) & (left > 2 * expected)
        self._waiting = self._waiting & ~chosen
        return chosen

    def allowed(self, chosen: Tensor, left: Tensor) -> float:
        """Seconds that the chosen instances may take together: half of what each has left.

        Args:
            chosen: ``N`` booleans, at least one.
            left: seconds that each has left, ``N``.
        """
        functionals = self.functionals[chosen]
        return float((left[chosen] / functionals).amin() * functionals.sum() / 2)

    def learn(self, chosen: Tensor, seconds: float, seconds_each: float) -> None:
        """Compare what was expected of the chosen instances with what it took."""
        expected = float(self.expected(seconds_each)[chosen].sum())
        if expected > 0:
            self._correction *= seconds / expected


@torch.no_grad()
def tightened(
    bounder: Bounder,
    chosen: Tensor,
    settings: SearchSettings,
    has_time: Callable[[], bool] = always,
) -> Bounder:
    """The bounder with optimised bounds for the instances ``chosen``, ``N`` booleans.

    Once ``has_time`` says no, the bounds that are not yet optimised stay as they are.
    """
    exact = bounder.exact
    box, bounds = exact.box[chosen], exact.bounds[chosen]
    budget = MemoryBudget(bytes=min(settings.budget.bytes, AT_ONCE))
    found = optimise_intermediate(exact.graph, box, bounds, settings.tighten, budget, has_time)
    bounds = NodeBounds(
        {p: _put(v, chosen, found.lower[p]) for p, v in exact.bounds.lower.items()},
        {p: _put(v, chosen, found.upper[p]) for p, v in exact.bounds.upper.items()},
    )
    exact = replace(exact, bounds=bounds)
    goals = bounder.goals.tightened(bounder.goals.neurons.unstable(bounds, len(exact.box)))
    fast = replace(bounder.fast, bounds=bounds.to(torch.float32))
    return Bounder(goals, fast, exact)


def _put(values: Tensor, chosen: Tensor, new: Tensor) -> Tensor:
    values = values.clone()
    values[chosen] = new
    return values

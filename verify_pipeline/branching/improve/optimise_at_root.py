"""Bounds of neurons, optimised where the search turns out to be long.

Optimised bounds of the neurons lift every domain of an instance, but they cost as much as many
domains, and most instances need few. An instance's are optimised once as many domains were bounded
for it as that is expected to cost: then no instance pays more than twice what the better choice in
hindsight would have cost. Cost is counted in domains, not measured, so that a busy machine decides
as an idle one does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import MemoryBudget, NodeBounds, always, optimise_intermediate
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.tree.subproblems import Neurons

FUNCTIONAL_SHARE = 0.1
"""What a step of one neuron's bound costs, in steps of one domain's: 0.04 to 0.13 were measured on
fully connected networks, small convolutional ones and ResNets."""

AT_ONCE = 1 << 28
"""Bytes at most for the bounds that are optimised together: time is looked at in between."""


def cost_in_domains(functionals: Tensor, steps: int, settings: SearchSettings) -> Tensor:
    """What optimised bounds of neurons cost, in domains that are bounded.

    Args:
        functionals: how many bounds, any shape.
        steps: of the ascent for each of them.
        settings: of the search, whose domains they are.
    """
    return functionals * (FUNCTIONAL_SHARE * (steps + 1) / (settings.domain.iterations + 1))


class RootOptimisation:
    """Whose bounds are to be optimised.

    Args:
        neurons: of the graph.
        bounds: of the instances at the root.
        count: N, how many they are.
        settings: of the search.
    """

    def __init__(
        self, neurons: Neurons, bounds: NodeBounds, count: int, settings: SearchSettings
    ) -> None:
        # Intervals already bound the first layer of neurons exactly.
        later = neurons.unstable(bounds, count)[:, neurons.sizes[0] if neurons.sizes else 0 :]
        self.functionals = 2 * later.sum(1)
        steps = settings.tighten.iterations
        self._waiting = (self.functionals > 0) & (steps > 0)
        self.expected = cost_in_domains(self.functionals, steps, settings)

    def worthwhile(self, domains: Tensor) -> Tensor:
        """Instances whose turn it is, ``N`` booleans; none twice.

        Args:
            domains: that were bounded for each, ``N``.
        """
        chosen = self._waiting & (domains >= self.expected)
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


@torch.no_grad()
def optimised_at_root(
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
    open_rows = bounder.open_rows.tightened(
        bounder.open_rows.neurons.unstable(bounds, len(exact.box))
    )
    fast = replace(bounder.fast, bounds=bounds.to(torch.float32))
    return Bounder(open_rows, fast, exact)


def _put(values: Tensor, chosen: Tensor, new: Tensor) -> Tensor:
    values = values.clone()
    values[chosen] = new
    return values

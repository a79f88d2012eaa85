"""Intermediate bounds of whole boxes, optimised once a search turns out to be long.

Optimised bounds of the neurons (α-CROWN for each neuron, Xu et al. 2021, arXiv:2011.13824) raise
the bounds of all domains of an instance. They cost as much as many domains, and most instances need
only few domains. They are optimised once the instance has had as many domains as they are expected
to cost. Then no instance pays more than twice the cost of the better choice in hindsight. The cost
is counted in domains and not measured, so that a busy machine decides as an idle one does.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import MemoryBudget, optimise_intermediate
from verify_pipeline.bounds.memory import pairs, unless_memory_ends
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.limits.cost import in_domains
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Neurons

AT_ONCE = 1 << 28
"""Largest number of bytes for bounds that are optimised together; the time is checked in between.
"""


class RootOptimisation:
    """Decides whose bounds are optimised, and when.

    Networks that multiply activations are excluded: there such bounds matter so much that they are
    optimised before the search, or they are too expensive.

    Args:
        neurons: the neurons of the graph.
        exact: the instances, in float64.
        settings: settings of the search.

    Attributes:
        expected: ``N``, the expected cost of optimising each instance's bounds, in domains.
    """

    def __init__(self, neurons: Neurons, exact: SearchInstances, settings: SearchSettings) -> None:
        # Intervals already bound the first layer of neurons exactly.
        later = neurons.unstable(exact.bounds)[:, neurons.sizes[0] if neurons.sizes else 0 :]
        self._functionals = 2 * later.sum(1)
        self._settings = settings
        steps = 0 if pairs(exact.graph) else settings.tighten.iterations
        self._waiting = (self._functionals > 0) & (steps > 0)
        self._bounded = torch.zeros_like(self._functionals)
        self.expected = in_domains(self._functionals, steps, settings)

    def after(self, bounder: Bounder, instance: Tensor, meter: Meter) -> Bounder:
        """The bounder of the next step, with optimised bounds of instances that are due.

        Args:
            bounder: the bounder of the last step.
            instance: the instance of each domain that is split next, ``D``.
            meter: the meter of the search.
        """
        turn = torch.zeros_like(self._waiting)
        turn[instance] = True
        chosen = turn & self._waiting & (self._bounded >= self.expected)
        self._bounded += 2 * torch.bincount(instance, minlength=len(turn))
        if not bool(chosen.any()):
            return bounder
        self._waiting = self._waiting & ~chosen
        functionals = self._functionals[chosen]
        # half of the seconds that each instance has left
        seconds = (meter.left[chosen] / functionals).amin() * functionals.sum() / 2
        until = meter.now + float(seconds)
        better = unless_memory_ends(self._optimised, bounder, chosen, until, meter)
        meter.spent_on(chosen.nonzero().squeeze(1).repeat_interleave(functionals))
        meter.start()  # the time per subproblem must not include this step
        return bounder if better is None else better  # out of memory: nothing changes

    @torch.no_grad()
    def _optimised(self, bounder: Bounder, chosen: Tensor, until: float, meter: Meter) -> Bounder:
        """The bounder with optimised bounds of the instances ``chosen``, ``N`` booleans.

        Bounds that are not optimised when the clock reaches ``until`` stay as they are.
        """
        exact, settings = bounder.exact, self._settings
        some = exact[chosen]
        budget = MemoryBudget(bytes=min(settings.budget.bytes, AT_ONCE))
        found = optimise_intermediate(
            some.graph, some.box, some.bounds, settings.tighten, budget, lambda: meter.now < until
        )
        bounds = exact.bounds.with_put(chosen, found.only(exact.bounds.lower))
        neurons = bounder.open_rows.neurons
        return Bounder(
            bounder.open_rows.tightened(neurons.unstable(bounds)),
            replace(bounder.fast, bounds=bounds.to(torch.float32)),
            replace(exact, bounds=bounds),
        )

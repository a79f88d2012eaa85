"""Counterexamples from the bounds: gradient descent from where a linear bound is least.

A subproblem's linear bound is least at a corner of its box. If the subproblem contains a
counterexample, that corner is a far better start than a random point: on fully connected MNIST
networks, one descent from it found counterexamples that 64 random starts missed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.attacks.falsify import FalsifySettings, falsify
from verify_pipeline.branching.tree.frontier import Subproblems
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.problem import Specification

PER_DESCENT = 16
"""Bounded subproblems per descent, so that descents take a small part of the time."""


def descend(
    instances: SearchInstances, instance: Tensor, spec: Specification, corners: Tensor, steps: int
) -> Tensor:
    """Points ``D x *X`` of instances' whole boxes at which a specification's margin is small.

    Args:
        instances: N instances.
        instance: ``D``, the instance of each descent, which stays in its box.
        spec: ``D`` specifications, of one row or several.
        corners: ``D x *X``, where descents begin.
        steps: gradient steps of each descent; 0: the corners are returned.
    """
    if len(instance) == 0 or steps == 0:
        return corners
    box = instances.box[instance]
    start = corners.to(instances.graph.dtype).clamp(box.lower, box.upper)
    how = FalsifySettings(steps=steps, restarts=1, targets=1, patience=steps)
    return falsify(instances.graph, box, spec, start, how, range(len(start))).points


class DescentTurns:
    """Chooses starts of descents: the worst subproblems of instances, which take turns.

    Args:
        count: N, the number of instances.
    """

    def __init__(self, count: int) -> None:
        self._turns = torch.zeros(count, dtype=torch.long)
        self._owed = 1.0

    def next(self, subproblems: Subproblems) -> Tensor:
        """Indices of the subproblems to descend from, among ``D`` that were just bounded."""
        self._owed += len(subproblems) / PER_DESCENT
        order = subproblems.lower.argsort(stable=True)
        order = order[subproblems.instance[order].argsort(stable=True)]
        instance = subproblems.instance[order]
        first = torch.ones_like(instance, dtype=torch.bool)
        first[1:] = instance[1:] != instance[:-1]
        worst, whose = order[first], instance[first]
        self._turns = self._turns.to(whose.device)
        chosen = self._turns[whose].argsort(stable=True)[: int(self._owed)]
        self._owed -= len(chosen)
        self._turns[whose[chosen]] += 1
        return worst[chosen]

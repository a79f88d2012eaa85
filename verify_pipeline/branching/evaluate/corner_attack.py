"""Counterexamples from the bounds: gradient descent from where a linear bound is least.

A domain's linear bound is least at a corner of the box. Where the domain is open because it does
break the specification, that corner is a far better start than a random point: on MNIST's fully
connected networks one descent from there broke what 64 random starts did not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.attacks.falsify import FalsifySettings, falsify
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.tree.subproblems import Domains

Pursue = Callable[[Bounder, Domains, Tensor], tuple[Tensor, Tensor]]
"""Takes domains ``D`` and their corners; gives points of some instances' boxes, and whose."""

SHARE = 16
"""Domains that are bounded for each descent, so that descents take a small part of the time."""


class CornerAttack:
    """Who is descended from, in turns.

    Args:
        steps: of a descent; 0 for none.
        count: N, the instances.
    """

    def __init__(self, steps: int, count: int) -> None:
        self._settings = FalsifySettings(steps=steps, targets=1) if steps else None
        self._turns = torch.zeros(count, dtype=torch.long)
        self._owed = 1.0

    def everywhere(
        self, bounder: Bounder, domains: Domains, corners: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Descend from the corners of all domains.

        Args:
            bounder: of the domains.
            domains: ``D``.
            corners: ``D x *X``.

        Returns:
            The instance ``D`` of each point, and points ``D x *X`` with low margins.
        """
        instance = bounder.open_rows.instance[domains.open_row]
        if self._settings is None or len(domains) == 0:
            return instance[:0], corners[:0]
        view = bounder.view(bounder.fast, domains)
        start = corners.clamp(view.box.lower, view.box.upper)
        found = falsify(view.graph, view.box, view.spec, start, self._settings, range(len(domains)))
        return instance, found.points

    def in_turn(self, bounder: Bounder, domains: Domains, corners: Tensor) -> tuple[Tensor, Tensor]:
        """Descend from the worst domains of the instances whose turn it is; as ``everywhere``."""
        self._owed += len(domains) / SHARE
        order = domains.lower.argsort(stable=True)
        instance = bounder.open_rows.instance[domains.open_row[order]]
        order = order[instance.argsort(stable=True)]
        instance = bounder.open_rows.instance[domains.open_row[order]]
        first = torch.ones_like(instance, dtype=torch.bool)
        first[1:] = instance[1:] != instance[:-1]
        worst, whose = order[first], instance[first]
        self._turns = self._turns.to(whose.device)
        chosen = self._turns[whose].argsort(stable=True)[: int(self._owed)]
        self._owed -= len(chosen)
        self._turns[whose[chosen]] += 1
        picked = worst[chosen]
        return self.everywhere(bounder, domains[picked], corners[picked])

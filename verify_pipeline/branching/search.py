"""Branch and bound whose frontier holds open domains of many images at once.

β-CROWN (Wang et al. 2021, arXiv:2103.06624) bounds domains that are made by splitting ReLUs, of
whatever images they are; a linear program ends a domain whose every ReLU is decided, which makes
the search complete on piecewise-linear networks up to the rounding of float64.

An instance is VERIFIED when, for every row of its specification, domains whose bounds were
confirmed above zero in float64 cover the box. It is FALSIFIED with a float32 point of its box at
which a row is not above zero, neither in float32 nor in float64.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, NodeBounds, OptimiseSettings, needed_places
from verify_pipeline.bounds.chunks import functionals_with_gradients, pairs, unless_memory_ends
from verify_pipeline.branching.accounts import Accounts, Found, Pace
from verify_pipeline.branching.affine import is_splittable
from verify_pipeline.branching.bounding import Bounded, Bounder
from verify_pipeline.branching.contraction import Contraction
from verify_pipeline.branching.deadlines import Deadlines
from verify_pipeline.branching.domains import Domains, split
from verify_pipeline.branching.frontier import Frontier
from verify_pipeline.branching.instances import Instances
from verify_pipeline.branching.narrowing import Narrowing
from verify_pipeline.branching.nogoods import Nogoods
from verify_pipeline.branching.planes import with_planes
from verify_pipeline.branching.points import evaluate
from verify_pipeline.branching.prospects import Prospects
from verify_pipeline.branching.pursuit import Pursue, Pursuit
from verify_pipeline.branching.roots import Roots, plant
from verify_pipeline.branching.settings import SearchSettings
from verify_pipeline.branching.tightening import Tightening, tightened
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Reason, Specification, Status


def search(
    graph: Graph,
    box: Box,
    spec: Specification,
    root: NodeBounds,
    settings: SearchSettings,
    deadlines: Deadlines,
    start: Multipliers | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Found]:
    """Decide instances, in the order in which they come to an end; each is found once.

    Args:
        graph: in float64; its bounds decide, and the search looks at it rounded to float32.
        box: ``N`` boxes.
        spec: ``N`` specifications of S rows.
        root: float64 bounds over the boxes, of ``bounds.needed_places`` at least.
        settings: of the search.
        deadlines: of the ``N`` instances.
        start: multipliers of the root's bounds where they are known; None: they are optimised here.
        clock: in seconds; what the caller does between two found instances is not charged.
    """
    if len(box) == 0:
        return
    last = len(graph.nodes) - 1
    fitting = functionals_with_gradients(graph, last, settings.budget, torch.float32)
    pace = Pace(max(1, min(settings.batch, fitting // 2)), deadlines.step_seconds(), clock)
    exact = Instances(graph, box, spec, root.only(needed_places(graph))).to(torch.float64)
    exact = with_planes(exact, start)
    roots = plant(exact, start, max(1, settings.batch // spec.rows.shape[1]))
    trees = _Trees(exact, roots, settings, deadlines, clock)
    trees.accounts.charge(torch.ones_like(trees.accounts.charged), pace.stop(len(box)))
    yield from trees.not_finite()
    yield from trees.ends()
    ascent = replace(settings.root, iterations=settings.root.iterations if start is None else 0)
    yield from trees.bound_roots(roots.domains, ascent, pace)
    yield from trees.grow(pace)


def _in_search(graph: Graph, settings: SearchSettings) -> SearchSettings:
    """What is done about bounds of neurons: nothing where activations are multiplied.

    There they decide so much that they are optimised before the search, or too dear for it.
    """
    if pairs(graph) == 0:
        return settings
    return replace(settings, tighten=replace(settings.tighten, iterations=0))


class _Trees:
    """The open domains of all instances, and what becomes of them."""

    def __init__(
        self,
        exact: Instances,
        roots: Roots,
        settings: SearchSettings,
        deadlines: Deadlines,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._bounder = Bounder(roots.goals, exact.to(torch.float32), exact)
        self._tightening = Tightening(
            roots.goals.neurons, exact.bounds, len(exact.box), _in_search(exact.graph, settings)
        )
        self._is_complete = is_splittable(exact.graph)
        self._finite = exact.are_finite()
        self._frontier = Frontier(roots.domains)
        self._pursuit = Pursuit(settings.descent, len(exact.box))
        self._nogoods = Nogoods()
        # one of them: elsewhere a round of contraction costs more than it was seen to bring
        goals, multiplies = len(roots.goals), bool(pairs(exact.graph))
        self._narrowing = None if multiplies else Narrowing(goals, settings)
        self._contraction = Contraction(goals, settings, clock) if multiplies else None
        self.accounts = Accounts(roots.lower, deadlines)
        factor = math.inf if settings.give_up is None else settings.give_up
        self._prospects = Prospects(deadlines.shared().to(self.accounts.charged), factor)
        self.accounts.begin(roots.goals.instance)

    def not_finite(self) -> Iterator[Found]:
        """Instances that no bound can be made for."""
        for n in (~self._finite).nonzero().squeeze(1).tolist():
            yield self._end(n, Status.UNKNOWN, Reason.NOT_FINITE)

    def bound_roots(
        self, domains: Domains, ascent: OptimiseSettings, pace: Pace
    ) -> Iterator[Found]:
        """Optimise the bounds of the roots, and open those that stay at or below zero."""
        domains = domains[~self.accounts.ended[self._instance(domains)]]
        while len(domains):
            part = domains[: pace.size]
            pace.start()
            bounded = unless_memory_ends(self._bounder.bound, part, ascent)
            if bounded is None:
                yield from self._out_of_memory(part, pace)
            else:
                broken = self._absorb(bounded, self._pursuit.everywhere, pace)
                self._charge(part, part, pace)
                yield from self.ends(broken)
                domains = domains[len(part) :]
            domains = domains[~self.accounts.ended[self._instance(domains)]]

    def grow(self, pace: Pace) -> Iterator[Found]:
        """Split open domains until there is none."""
        while len(self._frontier):
            pace.start()
            self._tighten(pace)
            order = self.accounts.used
            parents = self._frontier.pop(pace.size, self._bounder.goals.instance, order)
            children = unless_memory_ends(self._children, parents, 2 * pace.size)
            if children is None:
                self._frontier.push(parents)
                yield from self._out_of_memory(parents, pace)
                continue
            bounded, known = children
            self.accounts.begin(self._instance(parents))
            # what a nogood was bounded by counts since it was learned
            self.accounts.close(self._instance(known), known.lower.double().fill_(math.inf))
            broken = self._absorb(bounded, self._pursuit.in_turn, pace)
            self._charge(parents, bounded.domains, pace)
            yield from self.ends(broken)

    def _children(self, parents: Domains, at_once: int) -> tuple[Bounded, Domains]:
        """Split each domain and bound what becomes of it, so many at once.

        Returns:
            The children that were bounded, and those that are closed by what is known already.
        """
        parents = self._narrowed(parents)
        columns = self._bounder.choose(parents, self._settings.branching, at_once)
        children, closed = self._nogoods.follow(split(parents, columns))
        bounded = self._bounder.bound(children[~closed], self._settings.domain)
        if self._narrowing is not None:
            self._narrowing.learn(children[~closed], bounded.domains)
        return bounded, children[closed]

    def _narrowed(self, domains: Domains) -> Domains:
        """The domains, with better bounds where that is worth it; without the room it is left."""
        if self._narrowing is None:
            return domains
        better = unless_memory_ends(self._narrowing.narrowed, self._bounder, domains)
        if better is None:
            self._narrowing = None
            return domains
        return better

    def ends(self, broken: dict[int, Tensor] | None = None) -> Iterator[Found]:
        """Instances that have come to an end by now.

        Args:
            broken: points that break their instance's specification.
        """
        for n, point in (broken or {}).items():
            yield self._end(n, Status.FALSIFIED, point=point)
        for n in self.accounts.complete():
            yield self._complete(n)
        for n in self.accounts.overdue():
            yield self._end(n, Status.UNKNOWN, Reason.TIMEOUT)
        going = ~self.accounts.ended
        for n in self._prospects.hopeless(self.accounts.charged, going, self._open_share):
            yield self._end(n, Status.UNKNOWN, Reason.GIVEN_UP)
        if self._settings.max_domains is not None:
            for n in self.accounts.over(self._settings.max_domains):
                yield self._end(n, Status.UNKNOWN, Reason.BUDGET)
        while self._frontier.bytes > self._settings.max_bytes:
            counts = self._frontier.counts(self._bounder.goals.instance, len(self._finite))
            yield self._end(int(counts.argmax()), Status.UNKNOWN, Reason.BUDGET)

    def _open_share(self) -> Tensor:
        """Of each instance's trees, ``N``."""
        return self._bounder.goals.open_share(self._frontier.all(), len(self.accounts.ended))

    def _out_of_memory(self, domains: Domains, pace: Pace) -> Iterator[Found]:
        """Go on with smaller batches, or without the instance that is too large alone."""
        if len(domains) == 1:
            yield self._end(int(self._instance(domains)), Status.UNKNOWN, Reason.MEMORY)
        pace.limit_to(max(1, len(domains) // 2))

    def _complete(self, n: int) -> Found:
        """The end of an instance without open domains."""
        if 0 < float(self.accounts.proved[n]) < math.inf:
            return self._end(n, Status.VERIFIED)
        reason = Reason.NOT_CONFIRMED if self._is_complete else Reason.NOT_DECIDED
        return self._end(n, Status.UNKNOWN, reason)

    def _end(
        self, n: int, status: Status, reason: Reason | None = None, point: Tensor | None = None
    ) -> Found:
        goals = self._bounder.goals.instance == n
        self._frontier.drop(goals)
        self._nogoods.forget(goals)
        return self.accounts.end(n, status, reason, point)

    def _absorb(self, bounded: Bounded, pursue: Pursue, pace: Pace) -> dict[int, Tensor]:
        """Close domains, solve leaves, open the rest; returns points that break specifications."""
        if self._contraction is not None:
            asked = self._bounder, bounded, self.accounts.left - pace.passed()
            better = unless_memory_ends(self._contraction.applied, *asked)
            bounded = better or bounded
        domains, instance = bounded.domains, self._instance(bounded.domains)
        broken = self._broken(instance, bounded.corners)
        closed = bounded.confirmed > 0
        if not broken:
            open_ = domains[~closed], bounded.corners[~closed]
            broken = self._broken(*pursue(self._bounder, *open_))
        self._learn(domains[closed], bounded.confirmed[closed])
        divisible = self._bounder.goals.undecided(domains).any(1)
        for d in (~closed & ~divisible).nonzero().squeeze(1).tolist():
            if int(instance[d]) not in broken:
                broken.update(self._leaf(domains[d : d + 1], instance[d : d + 1]))
        self._frontier.push(domains[~closed & divisible])
        return broken

    def _learn(self, closed: Domains, bounds: Tensor) -> None:
        """Close domains, with the bound over what can be closed with them."""
        if len(closed) == 0:
            return
        larger = unless_memory_ends(self._bounder.generalise, closed, bounds)
        if larger is not None:
            splits, bounds = larger
            fewer = (splits != closed.splits).any(1)
            self._nogoods.learn(closed.goal[fewer], splits[fewer])
        self.accounts.close(self._instance(closed), bounds)

    def _leaf(self, domain: Domains, instance: Tensor) -> dict[int, Tensor]:
        """Close a domain that cannot be split; returns its point if that breaks a specification."""
        if not self._is_complete:
            self.accounts.close(instance, domain.lower.double().clamp(max=0))
            return {}
        leaf = self._bounder.leaf(domain)
        self.accounts.close(instance, leaf.lower)
        return {} if leaf.points is None else self._broken(instance, leaf.points)

    def _broken(self, instance: Tensor, points: Tensor) -> dict[int, Tensor]:
        """The worst of the points that break their instances' specifications, by instance."""
        evaluated = evaluate(self._bounder.fast, self._bounder.exact, instance, points)
        order = evaluated.margins.argsort(descending=True)
        order = order[evaluated.breaks[order]]
        return dict(zip(instance[order].tolist(), evaluated.points[order], strict=True))

    def _instance(self, domains: Domains) -> Tensor:
        return self._bounder.goals.instance[domains.goal]

    def _charge(self, served: Domains, bounded: Domains, pace: Pace) -> None:
        """Divide a batch's seconds among the domains served, for whom others were bounded."""
        count = len(self.accounts.domains)
        seconds = pace.stop(max(len(served), len(bounded)))
        self.accounts.charge(torch.bincount(self._instance(served), minlength=count), seconds)
        self.accounts.domains += torch.bincount(self._instance(bounded), minlength=count)

    def _tighten(self, pace: Pace) -> None:
        """Optimise the bounds of the neurons of instances that have become worth it."""
        accounts, plan = self.accounts, self._tightening
        going = (accounts.open > 0) & ~accounts.ended
        chosen = going & plan.worthwhile(accounts.charged, accounts.left, pace.seconds_each)
        if bool(chosen.any()):
            until = pace.passed() + plan.allowed(chosen, accounts.left)

            def has_time() -> bool:
                return pace.passed() < until

            better = unless_memory_ends(tightened, self._bounder, chosen, self._settings, has_time)
            seconds = pace.passed()
            if better is not None:  # without the room, the search goes on as it is
                self._bounder = better
                plan.learn(chosen, seconds, pace.seconds_each)
            accounts.charge(plan.functionals * chosen, seconds)
            pace.start()

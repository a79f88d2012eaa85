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

from verify_pipeline.bounds import Multipliers, NodeBounds, needed_places
from verify_pipeline.bounds.memory import functionals_with_gradients, pairs, unless_memory_ends
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounded, Bounder
from verify_pipeline.branching.evaluate.candidate_points import evaluate
from verify_pipeline.branching.evaluate.corner_attack import CornerAttack, Pursue
from verify_pipeline.branching.improve.cutoff_on_box import STEPS_OF_TRY, BoxCutoff
from verify_pipeline.branching.improve.cutoff_on_neurons import STEPS as STEPS_OF_NARROWING
from verify_pipeline.branching.improve.cutoff_on_neurons import NeuronCutoff
from verify_pipeline.branching.improve.optimise_at_root import RootOptimisation, optimised_at_root
from verify_pipeline.branching.improve.root_plane_positions import with_planes
from verify_pipeline.branching.limits.bookkeeping import Bookkeeping, Found, Pace
from verify_pipeline.branching.limits.progress_estimate import ProgressEstimate
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.root import plant
from verify_pipeline.branching.tree.frontier import Frontier
from verify_pipeline.branching.tree.nogoods import Nogoods
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splittable import is_splittable
from verify_pipeline.branching.tree.subproblems import Domains, split
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
    exact = SearchInstances(graph, box, spec, root.only(needed_places(graph))).to(torch.float64)
    yield from Search(exact, settings, deadlines, start, clock).run()


def _in_search(graph: Graph, settings: SearchSettings) -> SearchSettings:
    """What is done about bounds of neurons: nothing where activations are multiplied.

    There they decide so much that they are optimised before the search, or too dear for it.
    """
    if pairs(graph) == 0:
        return settings
    return replace(settings, tighten=replace(settings.tighten, iterations=0))


class Search:
    """The open domains of all instances, and what becomes of them; it can pause and go on.

    Attributes:
        accounts: of the instances.
        open_elsewhere: ``N``, the share of each instance's box that another search has left open;
            1 where there is none. The lesser share tells whether an instance is given up.
    """

    def __init__(
        self,
        exact: SearchInstances,
        settings: SearchSettings,
        deadlines: Deadlines,
        start: Multipliers | None,
        clock: Callable[[], float],
    ) -> None:
        """Bound all rows in float64; arguments as of :func:`search`, ``exact`` in float64."""
        graph, count = exact.graph, len(exact.box)
        last = len(graph.nodes) - 1
        fitting = functionals_with_gradients(graph, last, settings.budget, torch.float32)
        self._pace = Pace(max(1, min(settings.batch, fitting // 2)), clock)
        exact = with_planes(exact, start)
        roots = plant(exact, start, max(1, settings.batch // exact.spec.rows.shape[1]))
        self._settings, self._clock = settings, clock
        self._ascent = settings.root if start is None else replace(settings.root, iterations=0)
        self._bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
        self._tightening = RootOptimisation(
            roots.open_rows.neurons, exact.bounds, count, _in_search(graph, settings)
        )
        self._is_complete = is_splittable(graph)
        self._finite = exact.are_finite()
        self._roots = roots.domains
        self._frontier = Frontier(roots.domains)
        self._pursuit = CornerAttack(settings.descent, count)
        self._nogoods = Nogoods()
        # one of them: elsewhere a round of contraction costs more than it was seen to bring
        open_rows, multiplies = len(roots.open_rows), bool(pairs(graph))
        self._narrowing = None if multiplies else NeuronCutoff(open_rows, settings)
        self._contraction = BoxCutoff(open_rows, settings, clock) if multiplies else None
        self.accounts = Bookkeeping(roots.lower, deadlines)
        self.open_elsewhere = torch.ones_like(self.accounts.charged)
        factor = math.inf if settings.give_up is None else settings.give_up
        self._prospects = ProgressEstimate(deadlines.shared().to(self.accounts.charged), factor)
        self.accounts.begin(roots.open_rows.instance)
        self.accounts.charge(torch.ones_like(self.accounts.charged), self._pace.stop(count))

    def run(self, allowed: Tensor | None = None, until: float = math.inf) -> Iterator[Found]:
        """Search until every instance has come to an end, or had the work that it is allowed.

        Args:
            allowed: ``N``, of ``accounts.work``, counted from the beginning on; an instance that
                has had so much rests, whole, until it is allowed more. None: any.
            until: the clock's seconds from which on no batch begins: all instances rest.
        """
        if allowed is None:
            allowed = torch.full_like(self.accounts.charged, math.inf)
        yield from self._not_finite()
        yield from self.ends()
        yield from self._bound_roots(until)
        while len(self._frontier) and not len(self._roots) and self._clock() < until:
            going = self.accounts.work < allowed
            if not bool((going & (self.accounts.open > 0) & ~self.accounts.ended).any()):
                return
            self._pace.start(min(self.accounts.for_a_batch(going), until - self._clock()))
            self._tighten(going)
            order = self.accounts.used
            instance = self._bounder.open_rows.instance
            parents = self._frontier.pop(self._pace.size, instance, order, going)
            assert len(parents), "an open domain of an instance is not in the frontier"
            yield from self._step(parents)

    def _not_finite(self) -> Iterator[Found]:
        """Instances that no bound can be made for."""
        for n in (~self._finite & ~self.accounts.ended).nonzero().squeeze(1).tolist():
            yield self._end(n, Status.UNKNOWN, Reason.NOT_FINITE)

    def _bound_roots(self, until: float) -> Iterator[Found]:
        """Optimise the bounds of the roots, and open those that stay at or below zero."""
        while True:
            self._roots = self._roots[~self.accounts.ended[self._instance(self._roots)]]
            if not len(self._roots) or self._clock() >= until:
                return
            self._pace.start(until - self._clock())
            part = self._roots[: self._pace.size]
            bounded = unless_memory_ends(self._bounder.bound, part, self._ascent)
            if bounded is None:
                yield from self._out_of_memory(part)
            else:
                self._charge_lap(self._instance(part))
                broken = self._absorb(bounded, self._pursuit.everywhere)
                self._charge(part, part)
                self._roots = self._roots[len(part) :]
                yield from self.ends(broken)

    def _step(self, parents: Domains) -> Iterator[Found]:
        """Split domains, and take in what becomes of them."""
        children = unless_memory_ends(self._children, parents, 2 * self._pace.size)
        if children is None:
            self._frontier.push(parents)
            yield from self._out_of_memory(parents)
            return
        bounded, known = children
        self.accounts.begin(self._instance(parents))
        # what a nogood was bounded by counts since it was learned
        self.accounts.close(self._instance(known), known.lower.double().fill_(math.inf))
        self._charge_lap(self._instance(parents))
        broken = self._absorb(bounded, self._pursuit.in_turn)
        self._charge(parents, bounded.domains)
        yield from self.ends(broken)

    def _children(self, parents: Domains, at_once: int) -> tuple[Bounded, Domains]:
        """Split each domain and bound what becomes of it, so many at once.

        Returns:
            The children that were bounded, and those that are closed by what is known already.
        """
        parents = self._narrowed(parents)
        columns, steps = self._bounder.choose(parents, self._settings.branching, at_once)
        self._count_work(self._instance(parents), steps)
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
        narrowed, chosen = better
        whose = self._instance(domains[chosen])
        self._charge_lap(whose)
        self._count_work(whose, torch.full_like(whose, STEPS_OF_NARROWING, dtype=torch.float64))
        return narrowed

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
        for n in self._prospects.hopeless(self.accounts.charged, going, self._open_anywhere):
            yield self._end(n, Status.UNKNOWN, Reason.GIVEN_UP)
        if self._settings.max_domains is not None:
            for n in self.accounts.over(self._settings.max_domains):
                yield self._end(n, Status.UNKNOWN, Reason.BUDGET)
        while self._frontier.bytes > self._settings.max_bytes:
            counts = self._frontier.counts(self._bounder.open_rows.instance, len(self._finite))
            yield self._end(int(counts.argmax()), Status.UNKNOWN, Reason.BUDGET)

    def searched_elsewhere(self, n: int, seconds: float, parts: int, open_share: float) -> None:
        """Another search has worked on an instance, to whose time that belongs.

        Args:
            n: the instance.
            seconds: that it took.
            parts: of the box that it has bounded in all.
            open_share: of the box that it has left open.
        """
        self.accounts.charged[n] += seconds
        self.accounts.elsewhere[n] = parts
        self.open_elsewhere[n] = min(open_share, float(self.open_elsewhere[n]))

    def end_elsewhere(
        self, n: int, status: Status, bound: float | None, point: Tensor | None
    ) -> Found:
        """The end of an instance that another search has decided, with its evidence."""
        return replace(self._end(n, status, point=point), bound=bound)

    def open_share(self) -> Tensor:
        """Of each instance's trees, ``N``."""
        open_ = self._frontier.all().with_more(self._roots)
        return self._bounder.open_rows.open_share(open_, len(self.accounts.ended))

    def _open_anywhere(self) -> Tensor:
        """What neither this search nor another one has closed, ``N``."""
        return torch.minimum(self.open_share(), self.open_elsewhere)

    def _out_of_memory(self, domains: Domains) -> Iterator[Found]:
        """Go on with smaller batches, or without the instance that is too large alone."""
        if len(domains) == 1:
            yield self._end(int(self._instance(domains)), Status.UNKNOWN, Reason.MEMORY)
        self._pace.limit_to(max(1, len(domains) // 2))

    def _complete(self, n: int) -> Found:
        """The end of an instance without open domains."""
        if 0 < float(self.accounts.proved[n]) < math.inf:
            return self._end(n, Status.VERIFIED)
        reason = Reason.NOT_CONFIRMED if self._is_complete else Reason.EXHAUSTED
        return self._end(n, Status.UNKNOWN, reason)

    def _end(
        self, n: int, status: Status, reason: Reason | None = None, point: Tensor | None = None
    ) -> Found:
        open_rows = self._bounder.open_rows.instance == n
        self._frontier.drop(open_rows)
        self._nogoods.forget(open_rows)
        return self.accounts.end(n, status, reason, point)

    def _absorb(self, bounded: Bounded, pursue: Pursue) -> dict[int, Tensor]:
        """Close domains, solve leaves, open the rest; returns points that break specifications."""
        if self._contraction is not None:
            asked = self._bounder, bounded, self.accounts.left
            better = unless_memory_ends(self._contraction.applied, *asked)
            if better is not None:
                bounded, tried = better
                whose = self._instance(bounded.domains[tried])
                self._charge_lap(whose)
                self._count_work(whose, torch.full_like(whose, STEPS_OF_TRY, dtype=torch.float64))
        domains, instance = bounded.domains, self._instance(bounded.domains)
        broken = self._broken(instance, bounded.corners)
        closed = bounded.confirmed > 0
        if not broken:
            open_ = domains[~closed], bounded.corners[~closed]
            whose, points = pursue(self._bounder, *open_)
            broken = self._broken(whose, points)
            self._charge_lap(whose)
        self._learn(domains[closed], bounded.confirmed[closed])
        divisible = self._bounder.open_rows.undecided(domains).any(1)
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
            self._nogoods.learn(closed.open_row[fewer], splits[fewer])
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
        return self._bounder.open_rows.instance[domains.open_row]

    def _charge(self, served: Domains, bounded: Domains) -> None:
        """Divide the rest of a batch's seconds among the domains served; count those bounded."""
        seconds = self._pace.stop(max(len(served), len(bounded)))
        self.accounts.charge(self._count(self._instance(served)), seconds)
        counts = self._count(self._instance(bounded))
        self.accounts.domains += counts
        self.accounts.work += counts

    def _charge_lap(self, instance: Tensor) -> None:
        """Charge the seconds since the last lap to the instances they were spent on, if any."""
        if len(instance):
            self.accounts.charge(self._count(instance), self._pace.lap())

    def _count_work(self, instance: Tensor, steps: Tensor) -> None:
        """Add steps of bounds, one number for each time that an instance is named, to its work."""
        units = steps / (self._settings.domain.iterations + 1)
        self.accounts.work.index_add_(0, instance, units)

    def _count(self, instance: Tensor) -> Tensor:
        """How often each of the N instances is named."""
        return torch.bincount(instance, minlength=len(self.accounts.domains))

    def _tighten(self, going: Tensor) -> None:
        """Optimise the bounds of the neurons of instances that have become worth it."""
        accounts, plan, pace = self.accounts, self._tightening, self._pace
        going = going & (accounts.open > 0) & ~accounts.ended
        chosen = going & plan.worthwhile(torch.where(going, accounts.domains, -1))
        if bool(chosen.any()):
            until = pace.passed() + plan.allowed(chosen, accounts.left)

            def has_time() -> bool:
                return pace.passed() < until

            better = unless_memory_ends(
                optimised_at_root, self._bounder, chosen, self._settings, has_time
            )
            if better is not None:  # without the room, the search goes on as it is
                self._bounder = better
            accounts.charge(plan.functionals * chosen, pace.passed())
            pace.start()

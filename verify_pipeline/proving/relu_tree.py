"""Branch and bound for a proof: the usual search, whose closed domains are checked and kept.

A domain that the search closes becomes a leaf of the proof only if the checker's own bound, with
the multipliers as they are written, is above zero. Otherwise the domain stays open and is split
further. The search proves slightly more than is claimed, so that this happens rarely.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verify_checker.check import Split, limits_of
from verify_checker.proof import LEAF, NEURON, Tree
from verify_checker.walk import Hints, Rows, lower_bounds
from verify_pipeline.bounds import Multipliers
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.loop import Roots, Search, SearchLimits, Step
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Domains
from verify_pipeline.problem import Counterexample, Reason, Specification, Status
from verify_pipeline.proving.aligned import Aligned
from verify_pipeline.proving.root import Floats, Places, Root, Unproved

LEAST_SECONDS = 1e-6
"""For a search that begins when its time is over."""

SLACK = 1e-3
"""The search proves rows less this share of their gap at the root."""


@dataclass(frozen=True, eq=False)
class KeptLeaf:
    """A closed domain.

    Attributes:
        splits: its splits, as the checker knows them, and the multiplier β of each.
        alpha: ``columns``, 0 to 65,535.
        short: whether the checker accepts α as bytes, too.
    """

    splits: dict[Split, float]
    alpha: NDArray[np.uint16]
    short: bool


def prove_by_splits(
    aligned: Aligned,
    root: Root,
    start: Multipliers,
    settings: SearchSettings,
    seconds: float,
    most: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Close the open rows of a root by splits of ReLUs.

    Args:
        aligned: the network's graph.
        root: whose open rows are closed.
        start: slopes of these rows.
        settings: of the search.
        seconds: after which no step begins; of a step, linear programs are given up, too.
        most: largest number of domains; None: no limit.
        clock: seconds from some origin.

    Raises:
        Unproved: the search ends without a proof.
    """
    until = clock() + seconds
    rows = np.flatnonzero(root.open_rows)
    gap = np.abs(root.bounds(rows))
    spec = Specification(
        torch.from_numpy(root.claim.rows[rows])[None],
        torch.from_numpy(root.claim.offsets[rows] - SLACK * gap)[None],
    )
    instance = SearchInstances(aligned.graph, aligned.box(root), spec, aligned.bounds(root))
    plain = replace(
        settings,
        tighten=replace(settings.tighten, iterations=0),
        box_cutoff=None,
        early=None,
        descent=0,
    )
    kind = RecordingDomains(ReluSplits(instance, plain, start), aligned, root, rows)
    left = max(until - clock(), LEAST_SECONDS)
    deadlines = Deadlines.alone(torch.tensor([left], dtype=torch.float64))
    limits = SearchLimits(most, plain.max_bytes)
    for found in Search(kind, limits, deadlines, _nothing, clock).run():
        if found.status is not Status.VERIFIED:
            raise _ended(found.reason.name.lower() if found.reason else "no reason")
    root.trees += kind.trees()
    root.open_rows[rows] = False


def _ended(why: str) -> Unproved:
    return Unproved(f"splits of ReLUs end without a proof: {why}")


def _nothing(n: int, point: Tensor) -> Counterexample | None:
    """No counterexample is looked for: the image is VERIFIED."""


class RecordingDomains:
    """Splits of ReLUs, whose closed domains are checked and kept; a ``SplitKind``.

    Args:
        kind: splits the ReLUs of one instance.
        aligned: its graph.
        root: whose rows are proved.
        rows: which of them are the instance's rows.
    """

    exhausted = Reason.EXHAUSTED
    refuted = None

    def __init__(self, kind: ReluSplits, aligned: Aligned, root: Root, rows: Places) -> None:
        self._kind, self._aligned, self._root, self._rows = kind, aligned, root, rows
        self.batch, self.unbounded = kind.batch, kind.unbounded
        self._leaves: dict[int, list[KeptLeaf]] = {}

    def roots(self) -> Roots[Domains]:
        """The whole box, with nothing known of its rows."""
        found = self._kind.roots()
        self._neurons = self._kind.open_rows.neurons
        return found

    def bound(self, roots: Domains, meter: Meter) -> Step[Domains]:
        """As the kind of split, checked."""
        return self._checked(self._kind.bound(roots, meter), meter)

    def split(self, parents: Domains, meter: Meter) -> Step[Domains]:
        """As the kind of split, checked."""
        return self._checked(self._kind.split(parents, meter), meter)

    def _checked(self, step: Step[Domains], meter: Meter) -> Step[Domains]:
        empty = step.empty if step.empty is not None else torch.zeros_like(step.leaves)
        chosen = ((step.proved > 0) | empty | step.leaves).nonzero().flatten()
        proved = step.proved.clone()
        if len(chosen):
            proved[chosen] = torch.from_numpy(self._keep(step.parts[chosen])).to(proved)
        for d in (step.leaves & ~(proved > 0)).nonzero().flatten().tolist():
            if not self._aligned.piecewise_linear:
                raise _ended("every ReLU of a part is decided, other operations leave it open")
            if not meter.has_time():
                raise _ended(Reason.TIMEOUT.name.lower())
            leaf = step.parts[d : d + 1]
            better = self._kind.leaf_multipliers(leaf)
            flat = self._neurons.flatten({p: v[None] for p, v in better.items()}, leaf.alpha)
            beta = self._kind.open_rows.compress(leaf.open_row, flat.to(leaf.beta))
            proved[d] = float(self._keep(replace(leaf, beta=beta))[0])
            if not proved[d] > 0:
                raise _ended("the checker does not accept a linear program's multipliers")
        return Step(step.parts, proved, step.leaves, {}, None)

    def _keep(self, domains: Domains) -> Floats:
        """Keep domains that the checker accepts; its bounds, -inf for the others."""
        rows, open_rows = domains.open_row.numpy(), self._kind.open_rows
        multipliers = open_rows.multipliers(domains)
        alpha = {place: values[:, 0] for place, values in multipliers.alpha.items()}
        exact = self._aligned.columns(self._root, alpha)
        long = np.rint(exact * 65535).astype(np.uint16)
        short = np.rint(exact * 255).astype(np.uint8)
        splits = self._splits(domains)
        which = self._rows[open_rows.row.numpy()[rows]]
        found = np.full(len(rows), -np.inf)
        first = leaf_bounds(self._root, which, splits, short / 255.0)
        second = leaf_bounds(self._root, which, splits, long / 65535.0)
        for d, row in enumerate(which):
            if max(first[d], second[d]) > 0:
                found[d] = max(first[d], second[d])
                leaf = KeptLeaf(splits[d], long[d], bool(first[d] > 0))
                if not second[d] > 0:
                    leaf = KeptLeaf(splits[d], short[d].astype(np.uint16) * 257, True)
                self._leaves.setdefault(int(row), []).append(leaf)
        return found

    def _splits(self, domains: Domains) -> list[dict[Split, float]]:
        """The splits of domains, and the multiplier of each."""
        open_rows = self._kind.open_rows
        columns = open_rows.columns[domains.open_row]
        sizes = self._neurons.sizes
        ends = np.cumsum(sizes)
        found: list[dict[Split, float]] = [{} for _ in range(len(domains))]
        for d, u in (domains.splits != 0).nonzero().tolist():
            flat = int(columns[d, u])
            layer = int(np.searchsorted(ends, flat, side="right"))
            value = self._aligned.neuron(self._neurons.places[layer])
            number = flat - int(ends[layer]) + sizes[layer]
            beta = max(float(domains.beta[d, u]), 0.0)
            found[d][(value, number, float(domains.splits[d, u]))] = beta
        return found

    def trees(self) -> list[Tree]:
        """A tree for each row."""
        return [make_tree(self._root, row, leaves) for row, leaves in self._leaves.items()]


def leaf_bounds(
    root: Root, rows: Places, splits: Sequence[dict[Split, float]], alpha: Floats
) -> Floats:
    """The checker's bounds of rows, each in its own part of the box; infinite in an empty one."""
    count = len(rows)
    limits = limits_of([tuple(each) for each in splits], root.network)
    regions = root.regions.limited(limits, count)
    listed: dict[int, list[tuple[int, int, float, float]]] = {}
    for d, each in enumerate(splits):
        for (value, number, side), beta in each.items():
            listed.setdefault(value, []).append((d, number, side, beta))
    multipliers = {}
    for value, entries in listed.items():
        which, numbers, sides, values = (np.array(column) for column in zip(*entries, strict=True))
        multipliers[value] = (which, numbers, sides, values)
    hints = Hints(root.slopes(alpha), multipliers)
    asked = Rows(
        len(root.network.nodes) - 1,
        np.arange(count) if len(regions) > 1 else np.zeros(count, dtype=np.int64),
        root.claim.rows[rows],
        root.claim.offsets[rows],
    )
    found = lower_bounds(regions, asked, hints)
    return np.where(regions.empty[asked.region], np.inf, found)


def make_tree(root: Root, row: int, leaves: list[KeptLeaf]) -> Tree:
    """The tree of which domains are the leaves.

    A neuron that all of them split may be split first: the domains on each of its sides are again
    the leaves of a tree.

    Raises:
        Unproved: they are the leaves of none.
    """
    kinds: list[int] = []
    values: list[int] = []
    numbers: list[int] = []
    beta: list[float] = []
    ordered: list[KeptLeaf] = []
    waiting: list[tuple[list[KeptLeaf], tuple[Split, ...]]] = [(leaves, ())]
    while waiting:
        some, path = waiting.pop()
        done = {(value, number) for value, number, _ in path}
        if len(some) == 1 and len(some[0].splits) == len(path):
            kinds.append(LEAF)
            values.append(0)
            numbers.append(0)
            beta += [some[0].splits[split] for split in path]
            ordered.append(some[0])
            continue
        counts: dict[tuple[int, int], int] = {}
        for leaf in some:
            for value, number, _ in leaf.splits:
                if (value, number) not in done:
                    counts[value, number] = counts.get((value, number), 0) + 1
        common = [neuron for neuron, count in counts.items() if count == len(some)]
        if not common:
            raise Unproved("the domains of a search are not the leaves of a tree")
        value, number = common[0]
        kinds.append(NEURON)
        values.append(root.kinks.index(value))
        numbers.append(number)
        for side in (-1.0, 1.0):
            split = (value, number, side)
            waiting.append(([leaf for leaf in some if split in leaf.splits], (*path, split)))
    alpha = np.stack([leaf.alpha for leaf in ordered])[:, None]
    if all(leaf.short for leaf in ordered):
        alpha = np.rint(alpha / 257).astype(np.uint8)
    return Tree(
        np.array([row]),
        False,
        np.array(kinds, dtype=np.uint8),
        np.array(values, dtype=np.int64),
        np.array(numbers, dtype=np.int64),
        np.zeros(len(kinds)),
        alpha,
        np.array(beta, dtype=np.float32),
    )

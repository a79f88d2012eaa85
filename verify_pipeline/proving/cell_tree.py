"""Early splits for a proof: cells in which the checker bounds all neurons again.

Where the first layers have few undecided neurons, a cut there tightens all later layers, which
splits of ReLUs alone do not use (``branching.search.early_split``). The box is cut until a few
cells are open; splits of ReLUs then close these, each from its own bounds. The bounds of a cell are
those that the checker itself computes, by walks with the usual lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from verify_checker.check import Split, again, limits_of
from verify_checker.proof import AGAIN, NEURON, Tree
from verify_checker.regions import enclose
from verify_pipeline.bounds import Multipliers, OptimiseSettings, relu_coefficients
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.search.early_split import neuron_to_cut
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.problem import Reason
from verify_pipeline.proving.aligned import Aligned
from verify_pipeline.proving.relu_tree import prove_by_splits
from verify_pipeline.proving.root import Places, Root, Unproved
from verify_pipeline.proving.slopes import optimised_slopes, specification

ENOUGH = 16
"""Open cells that are enough: splits of ReLUs close them faster than further cuts do."""


@dataclass
class ProvedCell:
    """A part of a root's box.

    Attributes:
        splits: that lead to it.
        root: its bounds, and the trees that prove rows in it.
        start: slopes of its open rows.
        parts: where its cut neuron is active, and inactive; empty: it is not cut.
    """

    splits: tuple[Split, ...]
    root: Root
    start: Multipliers
    parts: tuple[ProvedCell, ...] = field(default=())

    @staticmethod
    def of(
        aligned: Aligned, whole: Root, splits: tuple[Split, ...], few: OptimiseSettings
    ) -> ProvedCell:
        """A cell with bounds of its neurons, and the rows that follow from optimised slopes."""
        network, claim = whole.network, whole.claim
        cut = whole.regions.limited(limits_of([splits], network), 1)
        limits = {place: cut.interval(place) for place in network.bounded_inputs}
        regions = enclose(network, claim.box(network), limits, again)
        root = Root(network, claim, regions, open_rows=whole.open_rows.copy())
        if regions.empty.any() or not root.kinks:
            root.close(intervals=False)
            return ProvedCell(splits, root, Multipliers({}, {}))
        before = np.flatnonzero(root.open_rows)
        alpha, slopes = optimised_slopes(aligned, root, few)
        root.close(intervals=False, alpha=alpha)
        still = torch.from_numpy(root.open_rows[before])
        return ProvedCell(
            splits, root, Multipliers({p: v[still][None] for p, v in slopes.items()}, {})
        )

    def leaves(self) -> Iterator[ProvedCell]:
        """The cells that are not cut, in preorder."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()

    def neuron(self, aligned: Aligned) -> tuple[int, int]:
        """The checker's value and the place in it at which the cell is cut.

        Raises:
            Unproved: no neuron is undecided.
        """
        single, rows = torch.float32, np.flatnonzero(self.root.open_rows)
        graph, neurons = aligned.graph.to(single), Neurons.of(aligned.graph)
        worst = int(self.root.bounds(rows).argmin())
        start = Multipliers({p: v[:, worst : worst + 1] for p, v in self.start.alpha.items()}, {})
        spec = specification(self.root, rows[worst : worst + 1]).to(single)
        bounds, box = aligned.bounds(self.root).to(single), aligned.box(self.root).to(single)
        arriving = relu_coefficients(graph, box, spec, bounds, start)
        row = {place: values[:, 0] for place, values in arriving.items()}
        number = int(neuron_to_cut(graph, neurons, bounds, row))
        if number < 0:
            raise Unproved("every ReLU of a cell is decided")
        ends = np.cumsum(neurons.sizes)
        layer = int(np.searchsorted(ends, number, side="right"))
        first = int(ends[layer]) - neurons.sizes[layer]
        return aligned.neuron(neurons.places[layer]), number - first


def prove_by_cells(
    aligned: Aligned,
    root: Root,
    settings: SearchSettings,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    enough: int = ENOUGH,
) -> None:
    """Close the open rows of a root by early splits, and by splits of ReLUs in open cells.

    Args:
        aligned: the network's graph.
        root: whose open rows are closed.
        settings: of the search in cells.
        seconds: after which nothing begins.
        clock: seconds from some origin.
        enough: with so many open cells, splits of ReLUs begin.

    Raises:
        Unproved: there is no proof in this time.
    """
    until = clock() + seconds
    whole = ProvedCell.of(aligned, root, (), settings.domain)
    open_ = [whole]
    while 0 < len(open_) < enough:
        for cell in open_:
            value, number = cell.neuron(aligned)
            sides = ((value, number, 1.0), (value, number, -1.0))
            cell.parts = tuple(
                ProvedCell.of(aligned, root, (*cell.splits, side), settings.domain)
                for side in sides
            )
            if clock() >= until:
                raise Unproved(f"early splits end without a proof: {Reason.TIMEOUT.name.lower()}")
        open_ = [part for cell in open_ for part in cell.parts if part.root.open_rows.any()]
    for cell in open_:
        prove_by_splits(aligned, cell.root, cell.start, settings, until - clock(), clock=clock)
    rows = np.flatnonzero(root.open_rows)
    root.trees += [_tree(root, whole, each) for each in _together(whole, rows)]
    root.open_rows[rows] = False


def _together(whole: ProvedCell, rows: Places) -> list[Places]:
    """Rows whose trees are the same: those that need no splits of ReLUs in any cell; others alone.

    The checker bounds the cells of each tree anew.
    """
    alone = [
        row
        for row in rows
        if any(NEURON in _tree_of(cell.root, row)[0].kind for cell in whole.leaves())
    ]
    shared = np.setdiff1d(rows, alone)
    return [*([shared] if len(shared) else []), *(np.array([row]) for row in alone)]


def _tree_of(root: Root, row: int) -> tuple[Tree, int]:
    """The tree that proves a row, and the row's place in it."""
    for tree in root.trees:
        if row in tree.rows:
            return tree, int(np.flatnonzero(tree.rows == row)[0])
    raise Unproved("a row of a cell without a tree")


def _tree(root: Root, whole: ProvedCell, rows: Places) -> Tree:
    """One tree of some rows: that of the cells, with a tree of each cell in place of it."""
    kinds: list[int] = []
    values: list[int] = []
    numbers: list[int] = []
    alpha: list[NDArray[np.uint16]] = []
    beta: list[NDArray[np.float32]] = []
    waiting = [whole]
    while waiting:
        cell = waiting.pop()
        if cell.parts:
            value, number, _ = cell.parts[0].splits[-1]
            kinds.append(NEURON)
            values.append(root.kinks.index(value))
            numbers.append(number)
            waiting += reversed(cell.parts)
            continue
        trees = [_tree_of(cell.root, row) for row in rows]
        first = trees[0][0]
        kinds += [AGAIN, *first.kind.tolist()]
        of_cell = [root.kinks.index(value) for value in cell.root.kinks] or [0]
        values += [0, *(of_cell[v] for v in first.value.tolist())]
        numbers += [0, *first.number.tolist()]
        codes = [_widened(root, cell.root, tree, place) for tree, place in trees]
        alpha.append(np.stack(codes, 1))
        if first.beta is not None:
            beta.append(first.beta)
    joined = np.concatenate(alpha)
    if not (joined % 257).any():  # bytes that were widened
        joined = (joined // 257).astype(np.uint8)
    nothing = np.zeros(len(kinds))
    return Tree(
        rows,
        False,
        np.array(kinds, dtype=np.uint8),
        np.array(values, dtype=np.int64),
        np.array(numbers, dtype=np.int64),
        nothing,
        joined,
        np.concatenate([np.zeros(0, dtype=np.float32), *beta]),
    )


def _widened(root: Root, cell: Root, tree: Tree, place: int) -> NDArray[np.uint16]:
    """A row's slopes at the leaves of a cell's tree, ``leaves x columns`` of the whole root."""
    if tree.alpha is None:
        return np.zeros((1, sum(map(len, root.columns))), dtype=np.uint16)
    codes = tree.alpha[:, place].astype(np.uint16)
    if tree.alpha.dtype == np.uint8:
        codes = codes * np.uint16(257)
    found: dict[int, NDArray[np.uint16]] = {}
    own = 0
    for value, columns in zip(cell.kinks, cell.columns, strict=True):
        wide = np.zeros((len(codes), root.network.nodes[value].size), dtype=np.uint16)
        wide[:, columns] = codes[:, own : own + len(columns)]
        found[value], own = wide, own + len(columns)
    parts = [
        found[value][:, columns]
        if value in found
        else np.zeros((len(codes), len(columns)), dtype=np.uint16)
        for value, columns in zip(root.kinks, root.columns, strict=True)
    ]
    return np.concatenate(parts, 1)

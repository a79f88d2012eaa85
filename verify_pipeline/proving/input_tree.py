"""Splits of inputs for a proof: the usual search, whose closed parts are checked and kept.

As in ``relu_tree``, a part becomes a leaf only if the checker's own bounds over it, from intervals
and walks with the usual lines, show the rows. Otherwise it is halved further.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from verify_checker.check import again
from verify_checker.proof import AGAIN, INPUT, LEAF, Tree
from verify_checker.regions import enclose
from verify_checker.walk import Rows, lower_bounds
from verify_pipeline.bounds import MemoryBudget, interval_bounds
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.input_split import BoxParts, InputSplits
from verify_pipeline.branching.search.loop import Roots, Search, SearchLimits, Step
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.tree.splitting import middle
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Counterexample, Reason, Specification, Status
from verify_pipeline.proving.root import Floats, Root, Unproved

BATCH, BYTES = 256, 1 << 30


def free_inputs(root: Root) -> int:
    """How many inputs a root's box leaves free."""
    return int((root.claim.lower < root.claim.upper).sum())


def prove_by_input_splits(
    graph: Graph, root: Root, settings: SearchSettings, seconds: float
) -> None:
    """Close the open groups of a root's rows by splits of inputs.

    Raises:
        Unproved: the search ends without a proof.
    """
    for rows in root.open_groups():
        spec = Specification(
            torch.from_numpy(root.claim.rows[rows])[None],
            torch.from_numpy(root.claim.offsets[rows])[None],
            spare=len(rows) - 1,
        )
        shape = (1, *graph.input_shape)
        box = Box(
            torch.from_numpy(root.claim.lower.reshape(shape).copy()),
            torch.from_numpy(root.claim.upper.reshape(shape).copy()),
        )
        exact = graph.to(torch.float64)
        root_bounds = interval_bounds(exact, box)
        deadlines = Deadlines.alone(torch.tensor([seconds], dtype=torch.float64))
        query = SearchQuery(exact, box, spec, spec, root_bounds, deadlines)
        kind = RecordingParts(InputSplits(query, settings, BATCH, MemoryBudget()), root, rows)
        search = Search(kind, SearchLimits(bytes=BYTES), deadlines, _nothing, time.perf_counter)
        for found in search.run():
            if found.status is not Status.VERIFIED:
                why = found.reason.name.lower() if found.reason else "no reason"
                raise Unproved(f"splits of inputs end without a proof: {why}")
        root.trees.append(kind.tree())
        root.open_rows[rows] = False


def _nothing(n: int, point: torch.Tensor) -> Counterexample | None:
    """No counterexample is looked for: the image is VERIFIED."""


class RecordingParts:
    """Splits of inputs, whose closed parts are checked and kept; a ``SplitKind``.

    Args:
        kind: splits the inputs of one instance.
        root: whose rows are proved.
        rows: which of them: one of these has to hold at each input.
    """

    exhausted = Reason.EXHAUSTED
    refuted = None

    def __init__(self, kind: InputSplits, root: Root, rows: np.ndarray) -> None:
        self._kind, self._root, self._rows = kind, root, rows
        self.batch, self.unbounded = kind.batch, kind.unbounded
        self._parts: list[tuple[Floats, Floats]] = []

    def roots(self) -> Roots[BoxParts]:
        """The whole box."""
        return self._kind.roots()

    def bound(self, roots: BoxParts, meter: Meter) -> Step[BoxParts]:
        """As the kind of split, checked."""
        return self._checked(self._kind.bound(roots, meter))

    def split(self, parents: BoxParts, meter: Meter) -> Step[BoxParts]:
        """As the kind of split, checked."""
        return self._checked(self._kind.split(parents, meter))

    def _checked(self, step: Step[BoxParts]) -> Step[BoxParts]:
        chosen = (step.proved > 0).nonzero().flatten()
        proved, parts = step.proved.clone(), step.parts
        leaves = step.leaves.clone()
        if len(chosen):
            low, high = parts.low[chosen].flatten(1).numpy(), parts.high[chosen].flatten(1).numpy()
            found = self._bounds(low, high)
            proved[chosen] = torch.from_numpy(found).to(proved)
            for d in np.flatnonzero(found > 0):
                self._parts.append((low[d].copy(), high[d].copy()))
            refused = chosen[torch.from_numpy(~(found > 0))]
            axis = parts.axis.clone()
            widths = (parts.high - parts.low).flatten(1)[refused]
            axis[refused] = widths.argmax(1)
            leaves[refused] = False
            parts = BoxParts(
                parts.instance,
                parts.lower,
                parts.share,
                parts.low,
                parts.high,
                parts.rows.index_fill(0, refused, -torch.inf),
                parts.bounds,
                axis,
            )
        return Step(parts, proved, leaves, {}, step.empty)

    def _bounds(self, low: Floats, high: Floats) -> Floats:
        """The checker's bounds of the best row over each part."""
        shape, count = (len(low), *self._root.network.nodes[0].shape), len(self._rows)
        regions = enclose(self._root.network, (low.reshape(shape), high.reshape(shape)), {}, again)
        asked = Rows(
            len(self._root.network.nodes) - 1,
            np.repeat(np.arange(len(low)), count),
            np.tile(self._root.claim.rows[self._rows], (len(low), 1)),
            np.tile(self._root.claim.offsets[self._rows], len(low)),
        )
        found: Floats = lower_bounds(regions, asked).reshape(len(low), count).max(1)
        return np.nan_to_num(found, nan=-np.inf)

    def tree(self) -> Tree:
        """The tree of which the parts are the leaves."""
        return make_input_tree(self._root, self._rows, self._parts)


def make_input_tree(root: Root, rows: np.ndarray, parts: Sequence[tuple[Floats, Floats]]) -> Tree:
    """The tree that halves a root's box until its parts are these.

    An input at whose middle no part of a box reaches over may be halved first.

    Raises:
        Unproved: they are the leaves of none.
    """
    lower, upper = (np.stack([part[side] for part in parts]) for side in range(2))
    kinds: list[int] = []
    numbers: list[int] = []
    at: list[float] = []
    claim = root.claim
    free = np.flatnonzero(claim.lower < claim.upper)
    waiting = [(claim.lower, claim.upper, np.arange(len(parts)))]
    while waiting:
        low, high, some = waiting.pop()
        if len(some) == 1:
            if not (np.array_equal(lower[some[0]], low) and np.array_equal(upper[some[0]], high)):
                raise Unproved("the parts of a search do not cover its box")
            kinds += [AGAIN, LEAF]
            numbers += [0, 0]
            at += [0.0, 0.0]
            continue
        middles = middle(torch.from_numpy(low), torch.from_numpy(high)).numpy()
        below = upper[some][:, free] <= middles[free]
        above = lower[some][:, free] >= middles[free]
        clean = (below | above).all(0) & below.any(0) & above.any(0)
        if not clean.any():
            raise Unproved("the parts of a search are not the leaves of a tree")
        first = int(np.argmax(clean))
        axis = int(free[first])
        kinds.append(INPUT)
        numbers.append(axis)
        at.append(float(middles[axis]))
        left, right = high.copy(), low.copy()
        left[axis] = right[axis] = middles[axis]
        waiting.append((right, high, some[above[:, first] & ~below[:, first]]))
        waiting.append((low, left, some[below[:, first]]))
    nothing = np.zeros(len(kinds), dtype=np.int64)
    return Tree(
        rows,
        False,
        np.array(kinds, dtype=np.uint8),
        nothing,
        np.array(numbers, dtype=np.int64),
        np.array(at),
        any_row=len(rows) > 1,
    )

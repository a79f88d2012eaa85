"""What a proof says of the whole box: limits of its neurons, and rows that follow from these.

The lemmas are CROWN bounds that the checker's own walks give, rounded to float32 and away from the
interval. The checker computes them again and needs them only to be implied, so that a proof does
not depend on the last digits of one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from verify_checker.check import again
from verify_checker.operations import Kink, Network
from verify_checker.proof import INPUT, Bytes, Lemma, Proof, Tree
from verify_checker.regions import Regions, enclose
from verify_checker.walk import NO_HINTS, Hints, Rows, lower_bounds, sides_of
from verify_pipeline.proving.proof_file import leaf_only

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


class Unproved(Exception):  # noqa: N818
    """Why there is no proof of a verdict; the message is what a user reads."""


@dataclass(frozen=True, eq=False)
class ProofClaim:
    """What a proof is to show: over a box, rows ``S x K`` and offsets ``S`` are above zero.

    Attributes:
        about: what else the proof's file says, for readers.
        lower, upper: limits of the input, flattened.
        rows, offsets: of the specification.
        groups: ``S``, the group of each row: at each input, one row of each group is above zero.
            None: each row is a group of its own.
    """

    about: dict[str, object]
    lower: Floats
    upper: Floats
    rows: Floats
    offsets: Floats
    groups: Places | None = None

    def box(self, network: Network) -> tuple[Floats, Floats]:
        """The limits, ``1 x *X`` each."""
        shape = (1, *network.nodes[0].shape)
        return self.lower.reshape(shape), self.upper.reshape(shape)


@dataclass
class Root:
    """The whole box of a claim, or a part of it: bounds of its neurons, and what they show.

    Attributes:
        network: as the checker reads it.
        claim: what is to be shown.
        regions: the box, with the bounds that the lemmas allow.
        lemmas: in the order of the values.
        trees: proofs of some rows.
        open_rows: ``S``, rows without a proof.
        without_lemmas: how many of the trees were made before the lemmas.
    """

    network: Network
    claim: ProofClaim
    regions: Regions
    lemmas: list[Lemma] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    open_rows: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    without_lemmas: int = 0

    @staticmethod
    def of(network: Network, claim: ProofClaim) -> Root:
        """The box with interval bounds, and the rows that follow from these."""
        root = Root(network, claim, enclose(network, claim.box(network), {}))
        root.open_rows = np.ones(len(claim.rows), dtype=bool)
        root.close(intervals=True)
        trees, before = list(root.trees), root.open_rows.copy()
        root.close(intervals=False)
        if root.open_rows.any():  # all or none: tighter limits may make a row's lines worse
            root.trees, root.open_rows = trees, before
        root.without_lemmas = len(root.trees)
        return root

    def add_lemmas(self, slopes: SlopesOfNeurons | None = None) -> None:
        """Bound the undecided neurons by walks, and the open rows with these bounds.

        A second call makes all lemmas and trees anew that the first one made.

        Args:
            slopes: finds slopes for bounds of neurons; None: the usual lines alone.
        """
        made: list[_NewLemma] = []

        def refine(regions: Regions, place: int) -> tuple[Floats, Floats] | None:
            found = again(regions, place)
            if found is None:
                return None
            lower, upper = regions.lower[place].copy(), regions.upper[place].copy()
            for lemma in self._lemmas_of(place, regions, found, slopes):
                low, high = lower.reshape(-1), upper.reshape(-1)
                places = lemma.lemma.places
                low[places] = np.maximum(low[places], lemma.lemma.lower)
                high[places] = np.minimum(high[places], lemma.lemma.upper)
                made.append(lemma)
            return lower, upper

        if self.lemmas:
            self.trees = self.trees[: self.without_lemmas]
            self.open_rows = self._rows_without(self.trees)
        self.without_lemmas = len(self.trees)
        self.regions = enclose(self.network, self.claim.box(self.network), {}, refine)
        self.lemmas = [self._finished(lemma) for lemma in made]
        self.close(intervals=True)
        self.close(intervals=False)

    def _lemmas_of(
        self,
        place: int,
        regions: Regions,
        found: tuple[Floats, Floats],
        slopes: SlopesOfNeurons | None,
    ) -> list[_NewLemma]:
        """The lemmas of a value: with slopes for neurons that the usual lines leave undecided."""
        lower, upper = found[0].reshape(-1), found[1].reshape(-1)
        undecided = np.flatnonzero((lower < 0) & (upper > 0))
        if slopes is None or place not in self.kinked_inputs or not len(undecided):
            return _usual(self.network, place, regions, found, np.zeros(0, dtype=np.int64))
        alpha = slopes(regions, place, undecided)
        codes = {v: np.rint(np.clip(a, 0, 1) * 255).astype(np.uint8) for v, a in alpha.items()}
        free = {v: _undecided(regions, v) for v in codes}
        codes = {v: code[:, free[v]] for v, code in codes.items() if len(free[v])}
        hints = Hints(_by_user(self.network, {v: (free[v], c / 255.0) for v, c in codes.items()}))
        region = np.zeros(len(undecided), dtype=np.int64)
        shown = lower_bounds(regions, sides_of(place, undecided, (1.0, -1.0), region), hints)
        count = len(undecided)
        sides = shown[:count], -shown[count:]
        better = _rounded(self.network.nodes[place].name, undecided, *sides)
        usual = _usual(self.network, place, regions, found, undecided)
        return [*usual, _NewLemma(better, codes)]

    def _finished(self, lemma: _NewLemma) -> Lemma:
        """A lemma with its multipliers as all columns of the proof have them."""
        if not lemma.codes:
            return lemma.lemma
        rows = 2 * len(lemma.lemma.places)
        parts = [
            lemma.codes.get(place, np.zeros((rows, len(columns)), dtype=np.uint8))
            for place, columns in zip(self.kinks, self.columns, strict=True)
        ]
        return replace(lemma.lemma, alpha=np.concatenate(parts, 1))

    def _rows_without(self, trees: list[Tree]) -> NDArray[np.bool_]:
        """The rows of which no tree is a proof, nor of one of their group."""
        groups = self.claim.groups
        groups = np.arange(len(self.claim.rows)) if groups is None else groups
        shown = [groups[tree.rows] for tree in trees]
        return ~np.isin(groups, np.concatenate(shown) if shown else [])

    def close(self, intervals: bool, alpha: Bytes | None = None) -> None:
        """Close the open rows that a walk shows.

        Args:
            intervals: whether the walk stops at the last nonlinear operations.
            alpha: multipliers ``S x columns``.
        """
        rows = np.flatnonzero(self.open_rows)
        if not len(rows):
            return
        hints = NO_HINTS if alpha is None else self.hints(alpha[rows])
        shown = rows[self.bounds(rows, hints, intervals) > 0]
        if len(shown):
            chosen = None if alpha is None else alpha[shown][None]
            self.trees.append(leaf_only(shown, intervals, chosen))
            self.open_rows[shown] = False
            if self.claim.groups is not None:
                of_shown = np.isin(self.claim.groups, self.claim.groups[shown])
                self.open_rows[of_shown] = False

    def open_groups(self) -> list[Places]:
        """The rows of each group that is open."""
        rows = np.flatnonzero(self.open_rows)
        groups = rows if self.claim.groups is None else self.claim.groups[rows]
        return [rows[groups == group] for group in np.unique(groups)]

    def bounds(self, rows: Places, hints: Hints = NO_HINTS, intervals: bool = False) -> Floats:
        """The checker's bounds of some rows over the box; infinite if it holds no input."""
        asked = Rows(
            len(self.network.nodes) - 1,
            np.zeros(len(rows), dtype=np.int64),
            self.claim.rows[rows],
            self.claim.offsets[rows],
        )
        found = lower_bounds(self.regions, asked, hints, intervals)
        return np.where(self.regions.empty, np.inf, found)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The values that feed kinked operations and have undecided neurons."""
        return tuple(p for p, c in zip(self.kinked_inputs, self._undecided, strict=True) if len(c))

    @property
    def columns(self) -> tuple[Places, ...]:
        """The undecided neurons of each of :attr:`kinks`."""
        return tuple(c for c in self._undecided if len(c))

    @property
    def kinked_inputs(self) -> tuple[int, ...]:
        """The values that feed kinked operations."""
        nodes = self.network.nodes
        return tuple(sorted({n.inputs[0] for n in nodes if isinstance(n.operation, Kink)}))

    @property
    def _undecided(self) -> list[Places]:
        return [_undecided(self.regions, place) for place in self.kinked_inputs]

    def hints(self, alpha: Bytes) -> Hints:
        """Multipliers ``R x columns`` as the checker's walk takes them."""
        return Hints(self.slopes(alpha / 255.0))

    def slopes(self, alpha: Floats) -> dict[int, tuple[Places, Floats]]:
        """Numbers in [0, 1], ``R x columns``, by kinked operation."""
        found, first = {}, 0
        for place, columns in zip(self.kinks, self.columns, strict=True):
            found[place] = columns, alpha[:, first : first + len(columns)]
            first += len(columns)
        return _by_user(self.network, found)

    def proof(self) -> Proof:
        """The proof of the rows that are shown."""
        claim = self.claim
        about = dict(claim.about)
        whole = Proof(about, claim.lower, claim.upper, claim.rows, claim.offsets)
        whole = replace(whole, groups=claim.groups)
        # trees made before the lemmas rest on intervals, and parts of split inputs on these
        if all(INPUT in tree.kind for tree in self.trees[self.without_lemmas :]):
            return replace(whole, trees=tuple(self.trees))
        names = tuple(self.network.nodes[place].name for place in self.kinks)
        return replace(
            whole,
            values=names,
            columns=self.columns,
            lemmas=tuple(self.lemmas),
            trees=tuple(self.trees),
        )


SlopesOfNeurons = Callable[[Regions, int, Places], dict[int, Floats]]
"""Finds slopes for bounds of neurons, as ``NeuronSlopes.find``."""


@dataclass(frozen=True, eq=False)
class _NewLemma:
    """A lemma, and its multipliers by the values that they belong to."""

    lemma: Lemma
    codes: dict[int, Bytes]


def _undecided(regions: Regions, place: int) -> Places:
    return np.flatnonzero((regions.lower[place] < 0) & (regions.upper[place] > 0))


def _by_user(
    network: Network, found: dict[int, tuple[Places, Floats]]
) -> dict[int, tuple[Places, Floats]]:
    """What belongs to the inputs of kinked operations, by these operations."""
    return {
        user: found[node.inputs[0]]
        for user, node in enumerate(network.nodes)
        if isinstance(node.operation, Kink) and node.inputs[0] in found
    }


def _usual(
    network: Network,
    place: int,
    regions: Regions,
    found: tuple[Floats, Floats],
    but: Places,
) -> list[_NewLemma]:
    """The limits of one value that are better than its intervals, but for some neurons."""
    before = regions.lower[place].reshape(-1), regions.upper[place].reshape(-1)
    lower, upper = found[0].reshape(-1), found[1].reshape(-1)
    places = np.setdiff1d(np.flatnonzero((lower > before[0]) | (upper < before[1])), but)
    if not len(places):
        return []
    return [
        _NewLemma(_rounded(network.nodes[place].name, places, lower[places], upper[places]), {})
    ]


def _rounded(value: str, places: Places, lower: Floats, upper: Floats) -> Lemma:
    """A lemma whose limits are rounded outwards."""
    infinity = np.float32(np.inf)
    down = np.nextafter(lower.astype(np.float32), -infinity)
    return Lemma(value, places, down, np.nextafter(upper.astype(np.float32), infinity))

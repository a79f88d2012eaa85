"""What a proof says of the whole box: limits of its neurons, and rows that follow from these.

The lemmas are CROWN bounds that the checker's own walks give, rounded to float32 and away from the
interval. The checker computes them again and needs them only to be implied, so that a proof does
not depend on the last digits of one machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from verify_checker.check import again
from verify_checker.operations import Kink, Network
from verify_checker.proof import AGAIN, Bytes, Lemma, Proof, Tree, leaf_only
from verify_checker.regions import Regions, enclose
from verify_checker.walk import NO_HINTS, Hints, Rows, lower_bounds

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


@dataclass
class Root:
    """The whole box of a claim: bounds of its neurons, and what they show.

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
        root = Root(network, claim, enclose(network, _box(network, claim), {}))
        root.open_rows = np.ones(len(claim.rows), dtype=bool)
        root.close(intervals=True)
        return root

    def add_lemmas(self) -> None:
        """Bound the undecided neurons by walks, and the open rows with these bounds."""

        def refine(regions: Regions, place: int) -> tuple[Floats, Floats] | None:
            found = again(regions, place)
            if found is None:
                return None
            lemma = _lemma(self.network, place, regions, found)
            lower, upper = regions.lower[place].copy(), regions.upper[place].copy()
            if len(lemma.places):
                self.lemmas.append(lemma)
                low, high = lower.reshape(-1), upper.reshape(-1)
                low[lemma.places] = np.maximum(low[lemma.places], lemma.lower)
                high[lemma.places] = np.minimum(high[lemma.places], lemma.upper)
            return lower, upper

        self.lemmas, self.without_lemmas = [], len(self.trees)
        self.regions = enclose(self.network, _box(self.network, self.claim), {}, refine)
        self.close(intervals=True)
        self.close(intervals=False)

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
        """The checker's bounds of some rows over the whole box."""
        asked = Rows(
            len(self.network.nodes) - 1,
            np.zeros(len(rows), dtype=np.int64),
            self.claim.rows[rows],
            self.claim.offsets[rows],
        )
        return lower_bounds(self.regions, asked, hints, intervals)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The values that feed kinked operations and have undecided neurons."""
        return tuple(p for p, c in zip(self._feeding, self._undecided, strict=True) if len(c))

    @property
    def columns(self) -> tuple[Places, ...]:
        """The undecided neurons of each of :attr:`kinks`."""
        return tuple(c for c in self._undecided if len(c))

    @property
    def _feeding(self) -> tuple[int, ...]:
        nodes = self.network.nodes
        return tuple(sorted({n.inputs[0] for n in nodes if isinstance(n.operation, Kink)}))

    @property
    def _undecided(self) -> list[Places]:
        return [
            np.flatnonzero((self.regions.lower[p] < 0) & (self.regions.upper[p] > 0))
            for p in self._feeding
        ]

    def hints(self, alpha: Bytes) -> Hints:
        """Multipliers ``R x columns`` as the checker's walk takes them."""
        return Hints(self.slopes(alpha / 255.0))

    def slopes(self, alpha: Floats) -> dict[int, tuple[Places, Floats]]:
        """Numbers in [0, 1], ``R x columns``, by kinked operation."""
        found, first = {}, 0
        for place, columns in zip(self.kinks, self.columns, strict=True):
            part = alpha[:, first : first + len(columns)]
            first += len(columns)
            for user, node in enumerate(self.network.nodes):
                if isinstance(node.operation, Kink) and node.inputs[0] == place:
                    found[user] = (columns, part)
        return found

    def proof(self) -> Proof:
        """The proof of the rows that are shown."""
        claim = self.claim
        about = dict(claim.about)
        whole = Proof(about, claim.lower, claim.upper, claim.rows, claim.offsets)
        whole = replace(whole, groups=claim.groups)
        # trees made before the lemmas rest on intervals, and parts that are bounded again on these
        if all(AGAIN in tree.kind for tree in self.trees[self.without_lemmas :]):
            return replace(whole, trees=tuple(self.trees))
        names = tuple(self.network.nodes[place].name for place in self.kinks)
        return replace(
            whole,
            values=names,
            columns=self.columns,
            lemmas=tuple(self.lemmas),
            trees=tuple(self.trees),
        )


def _box(network: Network, claim: ProofClaim) -> tuple[Floats, Floats]:
    shape = (1, *network.nodes[0].shape)
    return claim.lower.reshape(shape), claim.upper.reshape(shape)


def _lemma(network: Network, place: int, regions: Regions, found: tuple[Floats, Floats]) -> Lemma:
    """The limits of one value that are better than its intervals, rounded outwards."""
    before = regions.lower[place].reshape(-1), regions.upper[place].reshape(-1)
    lower, upper = found[0].reshape(-1), found[1].reshape(-1)
    places = np.flatnonzero((lower > before[0]) | (upper < before[1]))
    infinity = np.float32(np.inf)
    down = np.nextafter(lower[places].astype(np.float32), -infinity)
    up = np.nextafter(upper[places].astype(np.float32), infinity)
    return Lemma(network.nodes[place].name, places, down, up)

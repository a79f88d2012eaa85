"""Section 7, continued: does a proof show what it claims?

Every limit that a lemma claims has to follow from a walk of our own over the whole box, or from
intervals. Every tree has to be complete, and every row that it is for has to have a bound above
zero at every leaf. Every row needs a tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verify_checker.operations import Kink, Network, Places
from verify_checker.problems import Refused, Rejected, reject
from verify_checker.proof import AGAIN, INPUT, LEAF, NEURON, Codes, Lemma, Proof, Singles, Tree
from verify_checker.regions import Limits, Regions, enclose
from verify_checker.rounding import Array, finite
from verify_checker.walk import NO_HINTS, Hints, Rows, lower_bounds, sides_of

AT_ONCE = 1 << 22
"""Numbers of a network's values that are held for the parts of a tree that are checked together."""


def check(proof: Proof, network: Network) -> None:
    """Check a proof about a network; returns if it shows its claim.

    Raises:
        Rejected: it does not.
        Refused: it needs something that is not known here.
    """
    _check_claim(proof, network)
    support = Support.of(proof, network)
    root = enclose(network, support.box, {}, support.refine)
    # a box holds an input, so this would be an error of the checker
    reject(root.empty.any(), "bounds over the whole box that exclude each other")
    groups = np.arange(len(proof.rows)) if proof.groups is None else proof.groups
    shown: set[int] = set()
    for tree in proof.trees:
        if not len(tree.rows) or int(tree.rows.max()) >= len(groups):
            raise Rejected("a tree for rows that are not there")
        if tree.any_row and len(set(groups[tree.rows].tolist())) > 1:
            raise Rejected("a tree for one of several rows that are not of one group")
        support.check_tree(tree, root)
        shown.update(groups[tree.rows].tolist())
    missing = set(groups.tolist()) - shown
    reject(missing, f"{len(missing)} of {len(set(groups.tolist()))} rows have no proof")


def _check_claim(proof: Proof, network: Network) -> None:
    output, size = network.nodes[-1], network.nodes[0].size
    reject(proof.lower.shape != (size,), f"a box of {proof.lower.size} numbers for {size} inputs")
    reject(not finite(proof.lower, proof.upper), "a box that is not finite")
    reject(np.any(proof.lower > proof.upper), "a box whose lower limit is above its upper one")
    if len(output.shape) != 1 or proof.rows.ndim != 2 or proof.rows.shape[1] != output.size:
        raise Rejected(f"rows of shape {proof.rows.shape} for outputs of shape {output.shape}")
    if len(proof.rows) == 0 or proof.offsets.shape != proof.rows.shape[:1]:
        raise Rejected("no rows, or rows without offsets")
    if network.compares:
        two = (np.sort(proof.rows, 1)[:, 1:-1] == 0).all(1) & (proof.rows.sum(1) == 0)
        if not two.all() or np.any(proof.offsets != 0):
            raise Refused("a claim about a softmax that is no comparison of two outputs")
    if proof.groups is not None and proof.groups.shape != proof.offsets.shape:
        raise Rejected("rows without groups")
    reject(not finite(proof.rows, proof.offsets), "rows that are not finite")


@dataclass(frozen=True, eq=False)
class Support:
    """A proof's support, with names and columns resolved in its network."""

    proof: Proof
    network: Network
    box: tuple[Array, Array]
    places: tuple[int, ...]
    lemmas: dict[int, list[Lemma]]

    @staticmethod
    def of(proof: Proof, network: Network) -> Support:
        """The support of a proof whose claim fits the network."""
        names = {node.name: place for place, node in enumerate(network.nodes)}
        lemmas: dict[int, list[Lemma]] = {}
        decisive = set(network.bounded_inputs)
        for lemma in proof.lemmas:
            place = names.get(lemma.value)
            if place not in decisive:
                raise Rejected(f"a lemma about {lemma.value!r}, which feeds nothing nonlinear")
            lemmas.setdefault(place, []).append(lemma)
        places = tuple(names.get(name, -1) for name in proof.values)
        if len(set(places)) != len(places) or not set(places) <= decisive:
            raise Rejected("columns of values that feed nothing nonlinear")
        for place, columns in zip(places, proof.columns, strict=True):
            _check_places(columns, network.nodes[place].size)
        shape = (1, *network.nodes[0].shape)
        box = proof.lower.reshape(shape), proof.upper.reshape(shape)
        return Support(proof, network, box, places, lemmas)

    def refine(self, regions: Regions, place: int) -> tuple[Array, Array] | None:
        """The limits that lemmas claim of a value, once they are shown to hold."""
        lower, upper = regions.lower[place].copy(), regions.upper[place].copy()
        below, beyond = lower.reshape(-1), upper.reshape(-1)
        for lemma in self.lemmas.get(place, ()):
            self._check_lemma(lemma, place, regions)
            claimed = lemma.places
            below[claimed] = np.maximum(below[claimed], lemma.lower)
            beyond[claimed] = np.minimum(beyond[claimed], lemma.upper)
        return lower, upper

    def _check_lemma(self, lemma: Lemma, place: int, regions: Regions) -> None:
        count, size = len(lemma.places), self.network.nodes[place].size
        _check_places(lemma.places, size)
        reject({lemma.lower.shape, lemma.upper.shape} != {(count,)}, "a lemma without its limits")
        reject(not finite(lemma.lower, lemma.upper), "a lemma with limits that are not finite")
        limits = np.concatenate([lemma.lower, -lemma.upper]).astype(np.float64)
        sides = regions.lower[place], -regions.upper[place]
        known = np.concatenate([side.reshape(-1)[lemma.places] for side in sides])
        asked = np.flatnonzero(~(known >= limits))
        rows = sides_of(place, lemma.places, (1.0, -1.0), np.zeros(count, dtype=np.int64))
        hints = Hints(self._alpha(lemma.alpha, 2 * count, before=place))
        found = lower_bounds(regions, rows.part(asked), hints.part(asked, 2 * count))
        wrong = ~(found >= limits[asked])
        if wrong.any():
            which = asked[int(np.argmax(wrong))]
            raise Rejected(
                f"a lemma's limit {limits[which]:.9g} of {lemma.value!r}, "
                f"place {lemma.places[which % count]}: shown is {found[int(np.argmax(wrong))]:.9g}"
            )

    def _alpha(
        self, alpha: Codes | None, rows: int, before: int
    ) -> dict[int, tuple[Places, Array]]:
        """Multipliers ``rows x columns`` by the kinked operation that has them."""
        if alpha is None:
            return {}
        width = sum(len(c) for c in self.proof.columns)
        reject(alpha.shape != (rows, width), f"{alpha.shape} multipliers, not {(rows, width)}")
        found, first = {}, 0
        for place, columns in zip(self.places, self.proof.columns, strict=True):
            part = alpha[:, first : first + len(columns)]
            first += len(columns)
            if place < before:
                for user, node in enumerate(self.network.nodes):
                    if isinstance(node.operation, Kink) and node.inputs[0] == place:
                        found[user] = (columns, part / np.iinfo(alpha.dtype).max)
        return found

    def check_tree(self, tree: Tree, root: Regions) -> None:
        """Check that a tree is complete and that its rows are above zero at each leaf."""
        parts = _parts(tree, self)
        leaves = sum(len(part.leaves) for part in parts)
        r = len(tree.rows)
        count = sum(len(leaf.splits) for part in parts for leaf in part.leaves) * r
        alpha, beta = tree.alpha, np.zeros(count, np.float32) if tree.beta is None else tree.beta
        if beta.shape != (count,) or not finite(beta) or np.any(beta < 0):
            raise Rejected("multipliers of splits that are missing, negative or not finite")
        if alpha is not None and (
            alpha.ndim != 3 or len(alpha) not in (1, leaves) or alpha.shape[1] != r
        ):
            raise Rejected(f"multipliers of shape {alpha.shape} for {leaves} leaves, {r} rows")
        whole, later = [p for p in parts if not p.again], [p for p in parts if p.again]
        size = max(1, AT_ONCE // sum(node.size for node in self.network.nodes))
        for some in [whole, *(later[n : n + size] for n in range(0, len(later), size))]:
            if some:
                self._check_parts(tree, some, root, beta, size)

    def _check_parts(
        self, tree: Tree, parts: list[_Part], root: Regions, beta: Singles, size: int
    ) -> None:
        """Check the leaves of some parts whose values are bounded again, or of the whole box."""
        if parts[0].again:
            shape = (len(parts), *self.network.nodes[0].shape)
            box = tuple(np.stack([p.box[n] for p in parts]).reshape(shape) for n in range(2))
            limits = limits_of([p.splits for p in parts], self.network)
            if INPUT not in tree.kind:  # what holds in the whole box; parts of inputs do without
                cut = root.limited(limits, len(parts))
                limits = {place: cut.interval(place) for place in self.network.bounded_inputs}
            base = enclose(self.network, (box[0], box[1]), limits, again)
        else:
            base = root
        leaves = [(n, leaf) for n, part in enumerate(parts) for leaf in part.leaves]
        for first in range(0, len(leaves), size):
            some = leaves[first : first + size]
            regions, where = base, np.array([n for n, _ in some], dtype=np.int64)
            if any(leaf.splits for _, leaf in some):
                limits = limits_of([leaf.splits for _, leaf in some], self.network)
                regions = (base if len(base) == 1 else base.taken(where)).limited(limits, len(some))
                where = np.arange(len(some), dtype=np.int64)
            found = self._bounds(tree, [leaf for _, leaf in some], regions, where, beta)
            if tree.any_row:
                found = np.nan_to_num(found, nan=-np.inf).max(1, keepdims=True)
            found[regions.empty[where]] = np.inf
            if not np.all(found > 0):
                worst = np.nanmin(np.where(np.isnan(found), -np.inf, found))
                raise Rejected(f"a leaf at which a row's bound is {worst:.6g}")

    def _bounds(
        self, tree: Tree, leaves: list[_Leaf], regions: Regions, where: Places, beta: Singles
    ) -> Array:
        """Bounds ``leaves x r`` of the tree's rows at some of its leaves."""
        r = len(tree.rows)
        count, output = len(leaves) * r, len(self.network.nodes) - 1
        coefficients = np.tile(self.proof.rows[tree.rows], (len(leaves), 1))
        constants = np.tile(self.proof.offsets[tree.rows], len(leaves))
        rows = Rows(output, np.repeat(where, r), coefficients, constants)
        hints = NO_HINTS
        if not tree.intervals:
            slopes: dict[int, tuple[Places, Array]] = {}
            if tree.alpha is not None:
                numbers = [leaf.number if len(tree.alpha) > 1 else 0 for leaf in leaves]
                own = tree.alpha[numbers].reshape(count, -1)
                slopes = self._alpha(own, count, before=output + 1)
            hints = Hints(slopes, _betas(leaves, r, beta))
        return lower_bounds(regions, rows, hints, tree.intervals).reshape(len(leaves), r)


def _check_places(places: Places, size: int) -> None:
    reject(places.ndim != 1 or len(np.unique(places)) != len(places), "places that are named twice")
    reject(len(places) and int(places.max()) >= size, "a place beyond the end of its value")


Split = tuple[int, int, float]
"""A value's place, a neuron's place in it, and its side: 1 for >= 0, -1 for <= 0."""


@dataclass(frozen=True, eq=False)
class _Leaf:
    """A leaf: its number, the splits that have multipliers, and where its first β stands."""

    number: int
    splits: tuple[Split, ...]
    first: int


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of the box whose values are bounded together, and the leaves in it.

    Attributes:
        again: whether they are bounded again; else they are those of the whole box.
        box: its limits of the input, flattened.
        splits: of neurons, which its bounds may use.
        leaves: in it.
    """

    again: bool
    box: tuple[Array, Array]
    splits: tuple[Split, ...]
    leaves: list[_Leaf]


def _parts(tree: Tree, support: Support) -> list[_Part]:
    """Follow a tree from its root to its leaves, in preorder.

    Raises:
        Rejected: it is not one complete tree.
    """
    n, r = len(tree.kind), len(tree.rows)
    if not n or any(a.shape != (n,) for a in (tree.kind, tree.value, tree.number, tree.at)):
        raise Rejected("a tree whose nodes are incomplete")
    box = support.proof.lower, support.proof.upper
    whole = _Part(False, box, (), [])
    parts, leaves, used = [whole], 0, 0
    waiting: list[tuple[_Part, tuple[Array, Array], tuple[Split, ...]]] = [(whole, box, ())]
    for node in range(n):
        reject(not waiting, "a tree with nodes behind its end")
        part, box, splits = waiting.pop()
        kind, number = int(tree.kind[node]), int(tree.number[node])
        if kind == LEAF:
            reject(box is not part.box, "a split of an input without bounds of its parts")
            part.leaves.append(_Leaf(leaves, splits, used))
            leaves, used = leaves + 1, used + len(splits) * r
        elif kind == AGAIN:
            new = _Part(True, box, part.splits + splits, [])
            parts.append(new)
            waiting.append((new, box, ()))
        elif kind == NEURON:
            active, inactive = _sides(support, part.splits + splits, int(tree.value[node]), number)
            waiting += [(part, box, (*splits, inactive)), (part, box, (*splits, active))]
        elif kind == INPUT:
            low, high = _halves(box, number, float(tree.at[node]))
            waiting += [(part, high, splits), (part, low, splits)]
        else:
            raise Rejected(f"a tree's node of kind {kind}")
    reject(waiting, "a tree that ends before all parts of its box have a leaf")
    return [part for part in parts if part.leaves]


def _sides(support: Support, before: tuple[Split, ...], value: int, number: int) -> list[Split]:
    reject(value >= len(support.places), "a split of a value that is not there")
    place = support.places[value]
    reject(number >= support.network.nodes[place].size, "a split of a neuron that is not there")
    reject(any((p, k) == (place, number) for p, k, _ in before), "a neuron that is split twice")
    return [(place, number, 1.0), (place, number, -1.0)]


def _halves(
    box: tuple[Array, Array], number: int, at: float
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The parts of a box below and above a split; they have its number in common."""
    lower, upper = box
    if number >= len(lower) or not lower[number] <= at <= upper[number]:
        raise Rejected("a split of an input outside its limits")
    below, beyond = upper.copy(), lower.copy()
    below[number] = beyond[number] = at
    return (lower, below), (beyond, upper)


def limits_of(splits: list[tuple[Split, ...]], network: Network) -> Limits:
    """Limits of neurons in several parts, from their splits."""
    places = sorted({place for each in splits for place, _, _ in each})
    found = {}
    for place in places:
        node = network.nodes[place]
        below = np.full((len(splits), node.size), -np.inf)
        beyond = np.full((len(splits), node.size), np.inf)
        for d, each in enumerate(splits):
            for p, number, side in each:
                if p == place:
                    (below if side > 0 else beyond)[d, number] = 0.0
        shape = (len(splits), *node.shape)
        found[place] = below.reshape(shape), beyond.reshape(shape)
    return found


def _betas(
    leaves: list[_Leaf], r: int, beta: Singles
) -> dict[int, tuple[Places, Places, Array, Array]]:
    """The multipliers of the splits above some leaves, by value."""
    found: dict[int, list[tuple[int, int, float, float]]] = {}
    for d, leaf in enumerate(leaves):
        for row in range(r):
            for k, (place, number, side) in enumerate(leaf.splits):
                value = float(beta[leaf.first + row * len(leaf.splits) + k])
                found.setdefault(place, []).append((d * r + row, number, side, value))
    made = {}
    for place, listed in found.items():
        rows, numbers, sides, values = np.array(listed).T
        made[place] = rows.astype(np.int64), numbers.astype(np.int64), sides, values
    return made


def again(regions: Regions, place: int) -> tuple[Array, Array] | None:
    """Bounds of a value's undecided neurons by walks with the usual lines, in D regions."""
    network = regions.network
    if network.mixings()[place] < 2:
        return None
    lower, upper = regions.lower[place].copy(), regions.upper[place].copy()
    flat_lower, flat_upper = lower.reshape(len(lower), -1), upper.reshape(len(upper), -1)
    users = [n.operation for n in network.nodes[1:] if place in n.inputs]
    kinked = all(isinstance(user, Kink) for user in users)
    open_ = (flat_lower < 0) & (flat_upper > 0) if kinked else flat_lower < flat_upper
    region, number = np.nonzero(open_)
    found = lower_bounds(regions, sides_of(place, number, (1.0, -1.0), region))
    least, greatest = found[: len(number)], -found[len(number) :]
    flat_lower[region, number] = np.fmax(flat_lower[region, number], least)
    flat_upper[region, number] = np.fmin(flat_upper[region, number], greatest)
    return lower, upper

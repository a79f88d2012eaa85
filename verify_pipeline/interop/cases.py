"""From a formula in normal form to cases: one box each, and conjunctions about outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from verify_pipeline.interop.formulas import Atom, Formula, Unexpected, all_of
from verify_pipeline.interop.properties import Case, Conjunction


@dataclass
class _Limits:
    """An input box in the making; limits are infinite until something sets them."""

    lower: list[float]
    upper: list[float]
    lower_open: list[bool]
    upper_open: list[bool]

    @staticmethod
    def none(inputs: int) -> _Limits:
        return _Limits(
            [-math.inf] * inputs, [math.inf] * inputs, [False] * inputs, [False] * inputs
        )

    def tightened(self, atoms: Sequence[tuple[int, Atom]]) -> _Limits:
        """With further constraints, each of one input (by its place)."""
        if not atoms:
            return self
        new = _Limits(
            self.lower.copy(), self.upper.copy(), self.lower_open.copy(), self.upper_open.copy()
        )
        for place, atom in atoms:
            new._tighten(place, atom)
        return new

    def _tighten(self, place: int, atom: Atom) -> None:
        ((name, coefficient),) = atom.terms.items()
        limit = atom.bound / coefficient + 0.0  # no negative zero
        if not math.isfinite(limit):
            raise Unexpected(f"a limit of {name} that float64 can hold", "an overflow")
        if coefficient > 0:
            if limit < self.upper[place] or (limit == self.upper[place] and atom.strict):
                self.upper[place], self.upper_open[place] = limit, atom.strict
        elif limit > self.lower[place] or (limit == self.lower[place] and atom.strict):
            self.lower[place], self.lower_open[place] = limit, atom.strict

    def is_empty(self) -> bool:
        """Whether no point is inside."""
        sides = zip(self.lower, self.upper, self.lower_open, self.upper_open, strict=True)
        return any(
            low > high or (low == high and (open_low or open_high))
            for low, high, open_low, open_high in sides
        )

    def check_finite(self) -> None:
        for kind, limits in (("lower", self.lower), ("upper", self.upper)):
            for place, limit in enumerate(limits):
                if math.isinf(limit):
                    raise Unexpected(f"a {kind} limit of X_{place} in every case", "none")

    def key(self) -> tuple[object, ...]:
        """Equal iff the boxes are."""
        return tuple(
            tuple(side) for side in (self.lower, self.upper, self.lower_open, self.upper_open)
        )


def build_cases(
    assertions: Sequence[Formula], variables: dict[str, int], inputs: int, outputs: int
) -> tuple[Case, ...]:
    """The cases of which all assertions hold, in the order of the file.

    Disjuncts with the same box become one case; those with an empty box none.

    Args:
        assertions: all of the file.
        variables: declared names and their places.
        inputs: I.
        outputs: K.

    Raises:
        Unexpected: a constraint is not of the kinds that a case has, an input without limits, no
            constraint about outputs, or no box with a point in it.
    """
    simple = [one for one in assertions if len(one.disjuncts) == 1]
    choices = [one for one in assertions if len(one.disjuncts) > 1]
    input_atoms, common = _sorted(all_of(simple).disjuncts[0], variables)
    base = _Limits.none(inputs).tightened(input_atoms)
    boxes: dict[int | tuple[object, ...], _Limits] = {}
    members: dict[int | tuple[object, ...], list[list[Atom]]] = {}
    for disjunct in all_of(choices).disjuncts:
        input_atoms, output_atoms = _sorted(disjunct, variables)
        limits = base.tightened(input_atoms)
        key = limits.key() if input_atoms else 0
        boxes.setdefault(key, limits)
        members.setdefault(key, []).append(common + output_atoms)
    cases = [
        _case(limits, members[key], variables, outputs)
        for key, limits in boxes.items()
        if not limits.is_empty()
    ]
    if not cases:
        raise Unexpected("a box with a point in it", "limits that exclude each other")
    return tuple(cases)


def _sorted(
    atoms: Iterable[Atom], variables: dict[str, int]
) -> tuple[list[tuple[int, Atom]], list[Atom]]:
    """Constraints of one input each, with its place, and constraints of outputs."""
    input_atoms, output_atoms = [], []
    for atom in atoms:
        inputs = [name for name in atom.terms if name[0] == "X"]
        if not inputs:
            output_atoms.append(atom)
        elif len(atom.terms) == 1:
            input_atoms.append((variables[inputs[0]], atom))
        else:
            raise Unexpected(
                "constraints of one input, or of outputs", f"one of {', '.join(atom.terms)}"[:80]
            )
    return input_atoms, output_atoms


def _case(
    limits: _Limits, members: list[list[Atom]], variables: dict[str, int], outputs: int
) -> Case:
    limits.check_finite()
    return Case(
        torch.tensor(limits.lower, dtype=torch.float64),
        torch.tensor(limits.upper, dtype=torch.float64),
        torch.tensor(limits.lower_open),
        torch.tensor(limits.upper_open),
        tuple(_conjunction(atoms, variables, outputs) for atoms in members),
    )


def _conjunction(atoms: list[Atom], variables: dict[str, int], outputs: int) -> Conjunction:
    if not atoms:
        raise Unexpected("a constraint about outputs in every case", "none")
    rows = torch.zeros(len(atoms), outputs, dtype=torch.float64)
    for r, atom in enumerate(atoms):
        for name, coefficient in atom.terms.items():
            rows[r, variables[name]] = coefficient
    return Conjunction(
        rows,
        torch.tensor([atom.bound for atom in atoms], dtype=torch.float64),
        torch.tensor([atom.strict for atom in atoms]),
    )

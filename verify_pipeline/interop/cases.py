"""Cases of a formula in normal form: one input box each, and conjunctions about outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from verify_pipeline.interop.formulas import Atom, Formula, Limit, Unexpected, all_of
from verify_pipeline.interop.properties import Case, Conjunction


@dataclass
class _Limits:
    """An input box under construction; limits are infinite until a constraint sets them."""

    lower: list[float]
    upper: list[float]
    lower_open: list[bool]
    upper_open: list[bool]

    @staticmethod
    def none(inputs: int) -> _Limits:
        return _Limits(
            [-math.inf] * inputs, [math.inf] * inputs, [False] * inputs, [False] * inputs
        )

    def tightened(self, limits: Sequence[Limit]) -> _Limits:
        """The box with further limits."""
        if not limits:
            return self
        new = _Limits(
            self.lower.copy(), self.upper.copy(), self.lower_open.copy(), self.upper_open.copy()
        )
        for place, is_upper, value, strict in limits:
            if is_upper:
                if value < new.upper[place] or (value == new.upper[place] and strict):
                    new.upper[place], new.upper_open[place] = value, strict
            elif value > new.lower[place] or (value == new.lower[place] and strict):
                new.lower[place], new.lower_open[place] = value, strict
        return new

    def is_empty(self) -> bool:
        """Whether no point is inside."""
        sides = zip(self.lower, self.upper, self.lower_open, self.upper_open, strict=True)
        return any(
            low > high or (low == high and (open_low or open_high))
            for low, high, open_low, open_high in sides
        )

    def check_finite(self) -> None:
        for kind, limits in (("a lower", self.lower), ("an upper", self.upper)):
            for place, limit in enumerate(limits):
                if math.isinf(limit):
                    raise Unexpected(f"X_{place} with {kind} limit in every case", "none")

    def key(self) -> tuple[object, ...]:
        """Equal iff the boxes are."""
        return tuple(
            tuple(side) for side in (self.lower, self.upper, self.lower_open, self.upper_open)
        )


def build_cases(
    assertions: Sequence[Formula],
    limits: Sequence[Limit],
    variables: dict[str, int],
    sizes: tuple[int, int],
) -> tuple[Case, ...]:
    """The cases that satisfy all assertions and limits, in the order of the file.

    Disjuncts with the same box become one case; those with an empty box none.

    Args:
        assertions: of the file.
        limits: that hold in every case.
        variables: declared names and their places.
        sizes: numbers of inputs and outputs.

    Raises:
        Unexpected: a constraint is not of the kinds that a case has, an input without limits, no
            constraint about outputs, or no box with a point in it.
    """
    simple = [one for one in assertions if len(one.disjuncts) == 1]
    choices = [one for one in assertions if len(one.disjuncts) > 1]
    of_all, common = _sorted(all_of(simple).disjuncts[0], variables)
    base = _Limits.none(sizes[0]).tightened([*limits, *of_all])
    boxes: dict[int | tuple[object, ...], _Limits] = {}
    members: dict[int | tuple[object, ...], list[list[Atom]]] = {}
    for disjunct in all_of(choices).disjuncts:
        of_this, output_atoms = _sorted(disjunct, variables)
        tightened = base.tightened(of_this)
        key = tightened.key() if of_this else 0
        boxes.setdefault(key, tightened)
        members.setdefault(key, []).append(common + output_atoms)
    cases = [
        _case(box, members[key], variables, sizes[1])
        for key, box in boxes.items()
        if not box.is_empty()
    ]
    if not cases:
        raise Unexpected("a box with a point in it", "limits that exclude each other")
    return tuple(cases)


def _sorted(
    atoms: Iterable[Atom | Limit], variables: dict[str, int]
) -> tuple[list[Limit], list[Atom]]:
    """Limits of inputs, and constraints of outputs."""
    limits: list[Limit] = []
    output_atoms: list[Atom] = []
    for atom in atoms:
        if isinstance(atom, Limit):
            limits.append(atom)
            continue
        inputs = [name for name in atom.terms if name[0] == "X"]
        if not inputs:
            output_atoms.append(atom)
        elif len(atom.terms) == 1:
            limits.append(_limit(variables[inputs[0]], atom))
        else:
            raise Unexpected(
                "constraints of one input, or of outputs", f"one of {', '.join(atom.terms)}"[:80]
            )
    return limits, output_atoms


def _limit(place: int, atom: Atom) -> Limit:
    """A constraint of one input."""
    ((name, coefficient),) = atom.terms.items()
    value = atom.bound / coefficient + 0.0  # no negative zero
    if not math.isfinite(value):
        raise Unexpected(f"a limit of {name} that float64 can hold", "an overflow")
    return Limit(place, coefficient > 0, value, atom.strict)


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

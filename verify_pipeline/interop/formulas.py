"""Terms and formulas of VNN-LIB, in normal form as soon as they are read.

A term is linear: ``sum of coefficient * variable + constant``. A formula is in disjunctive normal
form: a list of disjuncts, each a list of atoms that hold together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from verify_pipeline.interop.tokens import NUMBER

MAX_ATOMS = 5_000_000
"""Atoms of all disjuncts together: a conjunction of disjunctions multiplies them."""


def refuse_too_many(atoms: int) -> None:
    """Refuse a normal form that would not fit into memory, before it is made.

    Raises:
        Unexpected: more than :data:`MAX_ATOMS`.
    """
    if atoms > MAX_ATOMS:
        raise Unexpected(
            f"at most {MAX_ATOMS} constraints in disjunctive normal form", f"{atoms} or more"
        )


class Unexpected(Exception):  # noqa: N818  (becomes a DataError with its line)
    """Input that this reader does not accept."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got


Number = float | Fraction
"""A number of a file, or an exact combination of several; a constraint rounds it once."""


class LinearTerm(NamedTuple):
    """``sum of terms[v] * v + constant``; no coefficient is 0."""

    terms: dict[str, Number]
    constant: Number


class Atom(NamedTuple):
    """``sum of terms[v] * v <= bound``, or ``<`` where strict; at least one term."""

    terms: dict[str, float]
    bound: float
    strict: bool


class Limit(NamedTuple):
    """Of one input: ``x <= value`` or ``x >= value``, ``<`` and ``>`` where strict.

    Attributes:
        place: of the input.
        is_upper: which of both.
        value: finite, no negative zero.
        strict: whether the value itself is out.
    """

    place: int
    is_upper: bool
    value: float
    strict: bool


Disjunct = list[Atom | Limit]
"""A conjunction; limits are apart, as they take a tenth of an atom's time in large files."""


class Formula(NamedTuple):
    """One of the disjuncts holds."""

    disjuncts: list[Disjunct]


Operand = str | LinearTerm | Formula
"""What stands in a group: a word, or a group inside it."""


def number(word: str) -> float:
    """A finite number in decimal or scientific notation, rounded once to float64."""
    if NUMBER.fullmatch(word) is None:
        raise Unexpected("a number", word)
    value = float(word)
    if not math.isfinite(value):
        raise Unexpected("a number that float64 can hold", word)
    return value


def term(operand: Operand, variables: dict[str, int]) -> LinearTerm:
    """A number, a declared variable, or a linear term that has been read already."""
    if isinstance(operand, LinearTerm):
        return operand
    if isinstance(operand, Formula):
        raise Unexpected("a term", "a formula")
    if operand in variables:
        return LinearTerm({operand: 1.0}, 0.0)
    try:
        return LinearTerm({}, number(operand))
    except Unexpected as error:
        raise Unexpected(f"{error.expected} or a declared variable", operand) from None


def formula(operand: Operand) -> Formula:
    """A formula that has been read already."""
    if not isinstance(operand, Formula):
        raise Unexpected("a formula", operand if isinstance(operand, str) else "a term")
    return operand


def _add(terms: Sequence[LinearTerm], sign: int) -> LinearTerm:
    """The first term plus ``sign`` times every other."""
    total, constant = dict(terms[0].terms), terms[0].constant
    for other in terms[1:]:
        constant = _sum(constant, sign * other.constant)
        for variable, coefficient in other.terms.items():
            total[variable] = _sum(total.get(variable, 0.0), sign * coefficient)
    return _checked(total, constant)


def _sum(a: Number, b: Number) -> Number:
    """The exact sum: a file's numbers may differ widely in size."""
    if not a or not b:
        return a or b
    return Fraction(a) + Fraction(b)


def _product(a: Number, b: Number) -> Number:
    """Exactly, likewise."""
    if a in (1, -1):
        return b if a == 1 else -b
    return Fraction(a) * Fraction(b)


def _subtract(terms: Sequence[LinearTerm]) -> LinearTerm:
    """The first less every other; a single one is negated."""
    return _add([LinearTerm({}, 0.0), *terms] if len(terms) == 1 else terms, -1)


def _multiply(terms: Sequence[LinearTerm]) -> LinearTerm:
    """The product, of which one factor at most is not a number."""
    factors = [one for one in terms if one.terms]
    if len(factors) > 1:
        raise Unexpected("a product of numbers and one variable", "a product of variables")
    scale: Number = 1.0
    for one in terms:
        if not one.terms:
            scale = _product(scale, one.constant)
    rest = factors[0] if factors else LinearTerm({}, 1.0)
    scaled = {v: _product(scale, c) for v, c in rest.terms.items()}
    return _checked(scaled, _product(scale, rest.constant))


def _checked(terms: dict[str, Number], constant: Number) -> LinearTerm:
    for number_ in (constant, *terms.values()):
        _rounded(number_)
    return LinearTerm({v: c for v, c in terms.items() if c != 0}, constant)


def _rounded(exact: Number) -> float:
    """The nearest number of float64.

    Raises:
        Unexpected: there is none.
    """
    try:
        return float(exact)
    except OverflowError:
        raise Unexpected("numbers that float64 can hold", "an overflow") from None


ARITHMETIC: dict[str, Callable[[Sequence[LinearTerm]], LinearTerm]] = {
    "+": lambda terms: _add(terms, 1),
    "-": _subtract,
    "*": _multiply,
}


def _at_most(small: LinearTerm, great: LinearTerm, strict: bool = False) -> Formula:
    """``small <= great``, all variables on the left."""
    left = _add((small, great), -1)
    if not left.terms:
        raise Unexpected("a comparison with a variable in it", "one without")
    terms = {variable: _rounded(coefficient) for variable, coefficient in left.terms.items()}
    return Formula([[Atom(terms, 0.0 - _rounded(left.constant), strict)]])


COMPARISONS: dict[str, Callable[[LinearTerm, LinearTerm], Formula]] = {
    "<=": lambda a, b: _at_most(a, b),
    ">=": lambda a, b: _at_most(b, a),
    "<": lambda a, b: _at_most(a, b, strict=True),
    ">": lambda a, b: _at_most(b, a, strict=True),
    "=": lambda a, b: all_of([_at_most(a, b), _at_most(b, a)]),
}


def any_of(parts: Sequence[Formula]) -> Formula:
    """The disjunction."""
    return Formula([disjunct for part in parts for disjunct in part.disjuncts])


def all_of(parts: Sequence[Formula]) -> Formula:
    """The conjunction: every choice of one disjunct of each part."""
    common = [atom for part in parts if len(part.disjuncts) == 1 for atom in part.disjuncts[0]]
    product: list[Disjunct] = [common]
    for part in parts:
        if len(part.disjuncts) > 1:
            longest = max(map(len, product)) + max(map(len, part.disjuncts))
            refuse_too_many(len(product) * len(part.disjuncts) * longest)
            product = [old + new for old in product for new in part.disjuncts]
    return Formula(product)


JUNCTIONS: dict[str, Callable[[Sequence[Formula]], Formula]] = {"and": all_of, "or": any_of}

OPERATOR = f"an operator ({', '.join([*JUNCTIONS, *COMPARISONS, *ARITHMETIC])})"


def reduce(group: Sequence[Operand], variables: dict[str, int]) -> LinearTerm | Formula:
    """The value of a group ``(operator operand …)``.

    Raises:
        Unexpected: an operator, or operands, that VNN-LIB 1.0 does not have.
    """
    operator, operands = (group[0], group[1:]) if group else ("nothing", ())
    if not isinstance(operator, str):
        raise Unexpected(OPERATOR, "a group")
    if comparison := COMPARISONS.get(operator):
        if len(operands) != 2:
            raise Unexpected(f"two terms after {operator}", str(len(operands)))
        return comparison(term(operands[0], variables), term(operands[1], variables))
    if operator not in JUNCTIONS and operator not in ARITHMETIC:
        raise Unexpected(OPERATOR, operator)
    if not operands:
        raise Unexpected(f"something after {operator}", "nothing")
    if junction := JUNCTIONS.get(operator):
        return junction([formula(operand) for operand in operands])
    return ARITHMETIC[operator]([term(operand, variables) for operand in operands])

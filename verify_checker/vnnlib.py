"""Section 8: the counterexamples that a VNN-LIB property describes, and what refutes them.

A property asserts of inputs X and outputs Y what makes them a counterexample. In disjunctive normal
form, it is a list of *disjuncts*: a box of inputs, and constraints ``A y <= b`` that all hold.

A number of the file is the float64 number nearest to it. ``<`` is read as ``<=``: that adds
counterexamples. Known are declarations of X_i and Y_j as ``Real``, ``and``, ``or``, and comparisons
of an input with a number, or of two outputs, or of an output with a number. All else is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verify_checker.problems import Refused, refuse
from verify_checker.proof import Proof
from verify_checker.rounding import Array

TOKEN = re.compile(r";[^\r\n]*|([()]|[^\s();]+)")
"""A comment, a bracket or a word."""

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
VARIABLE = re.compile(r"[XY]_(0|[1-9]\d{0,6})", re.ASCII)
MOST = 1 << 22
"""Comparisons in a normal form."""

Compared = tuple[str, str]
"""Two words, of which the first is at most the second."""


@dataclass(frozen=True, eq=False)
class Disjunct:
    """Counterexamples: inputs ``lower <= x <= upper`` with outputs ``rows y <= bounds``.

    Attributes:
        lower, upper: ``I``, infinite where there is no limit.
        rows, bounds: ``R x K`` and ``R``.
    """

    lower: Array
    upper: Array
    rows: Array
    bounds: Array

    def is_refuted_by(self, proof: Proof) -> bool:
        """Whether a proof's claim leaves no such counterexample.

        ``a y + d > 0`` with ``−d >= b`` breaks ``a y <= b``. So the proof's box has to contain this
        one, and all rows of one of its groups have to break a constraint.
        """
        if (proof.lower.size, proof.rows.shape[1]) != (self.lower.size, self.rows.shape[1]):
            return False
        if np.any(proof.lower > self.lower) or np.any(proof.upper < self.upper):
            return False
        same = (proof.rows[:, None] == self.rows).all(2)
        breaks = (same & (-proof.offsets[:, None] >= self.bounds)).any(1)
        groups = np.arange(len(breaks)) if proof.groups is None else proof.groups
        return len(np.setdiff1d(groups, groups[~breaks])) > 0


def read_property(data: bytes) -> list[Disjunct]:
    """The disjuncts of a property's file that have an input.

    Raises:
        Refused: it has something that is not known here.
    """
    declared: set[str] = set()
    asserted = []
    try:
        for command in _commands(data.decode("utf-8-sig")):
            match command:
                case ["declare-const", str(name), "Real"] if VARIABLE.fullmatch(name):
                    declared.add(name)
                case ["assert", formula]:
                    asserted.append(_disjuncts(formula))
                case _:
                    raise Refused(f"a VNN-LIB command {command[:1]}")
        sizes = [sum(name[0] == kind for name in declared) for kind in "XY"]
        counted = [f"{kind}_{n}" for k, kind in enumerate("XY") for n in range(sizes[k])]
        refuse(declared != set(counted), "VNN-LIB variables that are not numbered from 0 on")
        found = [_disjunct(each, declared, sizes) for each in _all_of(asserted)]
        return [one for one in found if np.all(one.lower <= one.upper)]
    except (UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"no VNN-LIB text: {type(error).__name__}") from None


def _commands(text: str) -> list[Any]:
    """What stands in brackets, as lists of words and lists."""
    levels: list[list[Any]] = [[]]
    for word in TOKEN.findall(text):
        if word == "(":
            levels.append([])
        elif word == ")" and len(levels) > 1:
            levels[-2].append(levels.pop())
        elif word:
            levels[-1].append(word)
    refuse(len(levels) > 1, "a VNN-LIB bracket that is not closed")
    return levels[0]


def _disjuncts(formula: Any) -> list[list[Compared]]:
    match formula:
        case ["or", _, *_]:
            return [disjunct for part in formula[1:] for disjunct in _disjuncts(part)]
        case ["and", _, *_]:
            return _all_of([_disjuncts(part) for part in formula[1:]])
        case ["<=" | "<", str(small), str(great)] | [">=" | ">", str(great), str(small)]:
            return [[(small, great)]]
    raise Refused(f"a VNN-LIB formula {formula[:1]}")


def _all_of(parts: Sequence[list[list[Compared]]]) -> list[list[Compared]]:
    """Every choice of one disjunct of each part."""
    found = [[one for part in parts if len(part) == 1 for one in part[0]]]
    for part in parts:
        if len(part) > 1:
            if len(part) * sum(map(len, found)) + len(found) * sum(map(len, part)) > MOST:
                raise Refused(f"a VNN-LIB formula of more than {MOST} comparisons")
            found = [old + new for old in found for new in part]
    return found


def _disjunct(compared: list[Compared], declared: set[str], sizes: Sequence[int]) -> Disjunct:
    lower, upper = np.full(sizes[0], -np.inf), np.full(sizes[0], np.inf)
    rows, bounds = np.zeros((len(compared), sizes[1])), np.zeros(len(compared))
    of_outputs = []
    for k, (small, great) in enumerate(compared):
        if small in declared and small[0] == "X":
            upper[int(small[2:])] = min(upper[int(small[2:])], _number(great))
        elif great in declared and great[0] == "X":
            lower[int(great[2:])] = max(lower[int(great[2:])], _number(small))
        else:
            of_outputs.append(k)
            for word, sign in ((small, 1.0), (great, -1.0)):
                if word in declared:
                    rows[k, int(word[2:])] += sign
                else:
                    bounds[k] -= sign * _number(word)
    return Disjunct(lower, upper, rows[of_outputs], bounds[of_outputs])


def _number(word: str) -> float:
    refuse(not NUMBER.fullmatch(word) or math.isinf(float(word)), f"a VNN-LIB word {word[:80]!r}")
    return float(word)

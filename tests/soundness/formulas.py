"""What a VNN-LIB file says at an input and an output: a reader of its own, in exact arithmetic.

Numbers of the text are float64, as tools read them, and computed with as fractions.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce
from typing import Any

Values = Mapping[str, Fraction]
Expression = str | list[Any]

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "=": operator.eq,
}


def expressions(text: str) -> list[Expression]:
    """The bracketed groups of a text, as nested lists of words; comments are left out."""
    stack: list[list[Expression]] = [[]]
    for word in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        if word == "(":
            stack.append([])
        elif word == ")":
            group = stack.pop()
            stack[-1].append(group)
        else:
            stack[-1].append(word)
    (groups,) = stack
    return groups


class Property:
    """The assertions of a file.

    Args:
        text: of the file.
    """

    def __init__(self, text: str) -> None:
        groups = [group for group in expressions(text) if isinstance(group, list)]
        self._asserted = [group[1] for group in groups if group[0] == "assert"]

    def is_met(self, values: Values) -> bool:
        """Whether all of them are true of inputs ``X_i`` and outputs ``Y_j``."""
        return all(_truth(one, values) for one in self._asserted)


def _truth(expression: Expression, values: Values) -> bool:
    assert isinstance(expression, list)
    word, *parts = expression
    if word == "and":
        return all(_truth(part, values) for part in parts)
    if word == "or":
        return any(_truth(part, values) for part in parts)
    first, second = (_number(part, values) for part in parts)
    return _COMPARISONS[word](first, second)


def _number(expression: Expression, values: Values) -> Fraction:
    if isinstance(expression, str):
        return values[expression] if expression in values else Fraction(float(expression))
    word, *parts = expression
    numbers = [_number(part, values) for part in parts]
    if word == "-":
        return numbers[0] - sum(numbers[1:]) if len(numbers) > 1 else -numbers[0]
    return reduce({"+": operator.add, "*": operator.mul}[word], numbers)

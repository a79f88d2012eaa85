"""VNN-LIB 2.0 files, parsed by the PyPI package ``vnnlib`` where it is installed.

The package checks syntax and types; this module converts its tree into the formulas of VNN-LIB 1.0.
It accepts one network with one real input and one real output, and refuses anything else by name.
Elements are numbered in row-major order, as everywhere.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from verify_pipeline.errors import DataError, DependencyError
from verify_pipeline.interop.cases import build_cases
from verify_pipeline.interop.formulas import (
    Formula,
    LinearTerm,
    Unexpected,
    formula,
    number,
    reduce,
)
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.tokens import Source

DEEPEST = 200
"""Nesting depth; the package's parser is recursive."""

TYPES = ("Real", "F32", "F64")
"""Of elements, as the package calls them."""

OPERATORS: Mapping[str, str] = {
    "And": "and",
    "Or": "or",
    "LessEqual": "<=",
    "LessThan": "<",
    "GreaterEqual": ">=",
    "GreaterThan": ">",
    "Equal": "=",
    "Plus": "+",
    "Minus": "-",
    "Negate": "-",
    "Multiply": "*",
}
"""The package's kinds of nodes, and what they are called in VNN-LIB 1.0."""


def is_version_2(source: Source) -> bool:
    """Whether the first command is one that only VNN-LIB 2.0 has."""
    words = [word for _, word in islice(source.words(), 2)]
    return words in (["(", "vnnlib-version"], ["(", "declare-network"])


def parse_version_2(source: Source) -> VnnlibProperty:
    """The property in a text.

    Raises:
        DependencyError: the package is not installed.
        DataError: it is no VNN-LIB 2.0, or says what is not covered here.
    """
    package = _package(source.name)
    _refuse_depth(source)
    try:
        query = package.parse_query_string(source.text)
    except package.VNNLibException as error:
        raise DataError(source.name, expected="VNN-LIB 2.0", got=_first_problem(error)) from None
    try:
        sizes = _sizes(query)
        variables = {f"{kind}_{i}": i for kind, size in sizes.items() for i in range(size)}
        assertions = [_assertion(one, variables) for one in query.assertions]
        counts = sizes["X"], sizes["Y"]
        cases = build_cases(assertions, [], variables, counts)
    except Unexpected as error:
        raise DataError(source.name, expected=error.expected, got=error.got) from None
    return VnnlibProperty(*counts, cases, source.name)


def _package(name: str) -> Any:
    try:
        return importlib.import_module("vnnlib")
    except ImportError:
        raise DependencyError(
            f"{name}, a file in VNN-LIB 2.0",
            expected="the package vnnlib, version 1.0.2 or later",
            got="none",
            remedy="pip install 'verify_pipeline[vnnlib2]'",
        ) from None


def _first_problem(error: Exception) -> str:
    """The first of the package's messages, which are JSON where types are wrong."""
    try:
        (first, *_) = json.loads(str(error))["errors"]
        return f"line {first['line']}: {first['message']}. {first['hint']}"
    except (ValueError, LookupError, TypeError):
        return str(error).strip().partition("\n")[0]


def _refuse_depth(source: Source) -> None:
    depth = 0
    for bracket in re.finditer(r"[()]", source.text):
        depth += 1 if bracket[0] == "(" else -1
        if depth > DEEPEST:
            raise source.error(bracket.start(), f"at most {DEEPEST} brackets in another", "more")


def _sizes(query: Any) -> dict[str, int]:
    """Numbers of elements of the input, ``X``, and of the output, ``Y``."""
    if len(query.networks) != 1:
        raise Unexpected("one network", f"{len(query.networks)} networks")
    (network,) = query.networks
    if network.hidden:
        raise Unexpected("inputs and outputs", f"the hidden value {network.hidden[0].name}")
    sizes = {}
    for letter, what, found in (("X", "input", network.inputs), ("Y", "output", network.outputs)):
        if len(found) != 1:
            raise Unexpected(f"one {what}", f"{len(found)} {what}s of network {network.name}")
        (definition,) = found
        if definition.dtype.name not in TYPES:
            raise Unexpected(f"{what}s of type real, float32 or float64", definition.dtype.name)
        sizes[letter] = math.prod(definition.shape)
    return sizes


def _assertion(assertion: Any, variables: dict[str, int]) -> Formula:
    (expression,) = assertion.children()
    return formula(_operand(expression, variables))


def _operand(node: Any, variables: dict[str, int]) -> LinearTerm | Formula:
    """A node of the package's tree as a term or a formula."""
    kind = type(node).__name__
    if kind == "Var":
        letter = "X" if node.kind.name == "Input" else "Y"
        return LinearTerm({f"{letter}_{_place(node)}": 1.0}, 0.0)
    if kind in ("Float", "Int", "IntExpr", "Literal"):
        return LinearTerm({}, number(node.lexeme))
    if kind not in OPERATORS:
        raise Unexpected("linear constraints joined by and and or", f"{kind} ({node})"[:80])
    parts = [_operand(part, variables) for part in node.children()]
    return reduce([OPERATORS[kind], *parts], variables)


def _place(variable: Any) -> int:
    """In row-major order."""
    place = 0
    for index, size in zip(variable.indices, variable.shape, strict=True):
        place = place * size + index
    return place

"""VNN-LIB 1.0 files: properties of networks, as VNN-COMP 2021 to 2024 used them.

The format (Demarchi, Guidotti, Pulina, Tacchella 2023, "Supporting standardization of neural
networks verification with VNN-LIB and CoCoNet"; in the competition's form) is a part of SMT-LIB:
``(declare-const X_i Real)``, ``(declare-const Y_j Real)`` and ``(assert …)`` of ``and``, ``or``,
``<=``, ``>=``, ``<``, ``>``, ``=`` and linear terms. X are the inputs in row-major order, Y the
outputs. A constraint is about one input, or about outputs. Anything else is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from verify_pipeline.errors import DataError
from verify_pipeline.interop.cases import build_cases
from verify_pipeline.interop.formulas import (
    Disjunct,
    Formula,
    Limit,
    Operand,
    Unexpected,
    formula,
    reduce,
    refuse_too_many,
)
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.tokens import NUMBER, TOKEN, VARIABLE, Source
from verify_pipeline.interop.vnnlib2 import is_version_2, parse_version_2


def read_vnnlib(path: Path) -> VnnlibProperty:
    """The property in a file, which may be compressed with gzip; VNN-LIB 1.0, or 2.0.

    Raises:
        DataError: the file cannot be read, or is no VNN-LIB; with the line.
        DependencyError: it is VNN-LIB 2.0, and the package that parses it is not installed.
    """
    return _parse(Source.read(path))


def parse_vnnlib(text: str, name: str = "property") -> VnnlibProperty:
    """The property in a text; ``name`` is how messages call it.

    Raises:
        DataError: it is no VNN-LIB; with the line.
        DependencyError: it is VNN-LIB 2.0, and the package that parses it is not installed.
    """
    return _parse(Source(text, name))


SPACE = r"(?:\s|;[^\r\n]*)*+"

# side, input, number; or number, input
COMPARED = rf"([<>])=\s+(?:(X_[0-9]+)\s+({NUMBER.pattern})|({NUMBER.pattern})\s+(X_[0-9]+))"

USUAL = re.compile(
    rf"{SPACE}\({SPACE}(?:assert{SPACE}\({SPACE}{COMPARED}\s*\)"
    rf"|declare-const\s+({VARIABLE.pattern})\s+Real){SPACE}\)",
    re.ASCII,
)
"""A limit of one input or a declaration: nearly all of a large file. It saves half of the time."""

LIMIT = re.compile(rf"\(\s*{COMPARED}\s*\)", re.ASCII)

RUN = re.compile(rf"(?:\s*\(\s*{re.sub(r'[(](?![?])', '(?:', COMPARED)}\s*\))++", re.ASCII)
"""Limits of inputs, one after another, as conjunctions of large files have them."""


def _parse(source: Source) -> VnnlibProperty:
    """Read the property; common commands take a faster path to the same result."""
    if is_version_2(source):
        return parse_version_2(source)
    _refuse_size(source)
    script, offset, end = _Script(), 0, len(source.text)
    while offset < end:
        match = USUAL.match(source.text, offset)
        if match is not None and script.usual(match.groups()[:5], match[6]):
            offset = match.end()
        else:
            offset = _command(source, offset, script)
    return _property(script, source.name)


def _refuse_size(source: Source) -> None:
    """Refuse a text with too many constraints in formulas, before parsing it.

    One that is asserted alone is none of these.
    """
    text = source.text
    count = text.count("<") + text.count(">") - text.count("assert")
    try:
        refuse_too_many(count)
    except Unexpected as error:
        raise DataError(source.name, expected=error.expected, got=error.got) from None


def _command(source: Source, offset: int, script: _Script) -> int:
    """Read the command at ``offset``; returns where it ends."""
    open_groups: list[list[Operand]] = []
    starts: list[int] = []
    while (match := TOKEN.search(source.text, offset)) is not None:
        place, word, offset = match.start(), match[1], match.end()
        if word == "(":
            open_groups.append([])
            starts.append(place)
        elif word == ")":
            if not open_groups:
                raise source.error(place, "a command", "a closing bracket")
            group, start = open_groups.pop(), starts.pop()
            try:
                if not open_groups:
                    script.command(group)
                    return offset
                open_groups[-1].append(reduce(group, script.variables))
            except Unexpected as error:
                raise source.error(start, error.expected, error.got) from None
        elif word and not open_groups:
            raise source.error(place, "a command in brackets", word)
        elif word:
            open_groups[-1].append(word)
        if open_groups and open_groups[-1][:1] == ["and"]:
            limits, offset = script.run(source.text, offset)
            open_groups[-1] += [Formula([limits])] if limits else []
    if open_groups:
        raise source.error(starts[-1], "a closing bracket", "the end of the file")
    return len(source.text)


class _Script:
    """The declarations and assertions read so far."""

    def __init__(self) -> None:
        self.variables: dict[str, int] = {}
        self.limits: list[Limit] = []
        self.assertions: list[Formula] = []

    def usual(self, compared: Sequence[str | None], declared: str | None) -> bool:
        """Take a command that :data:`USUAL` has matched; False if it is not to be taken so."""
        if declared is None:
            limit = self._limit(*compared)
            self.limits += [] if limit is None else [limit]
            return limit is not None
        is_new = declared not in self.variables
        if is_new:
            self._declare(declared)
        return is_new

    def run(self, text: str, offset: int) -> tuple[Disjunct, int]:
        """Limits that stand one after another from an offset on, if any, and where they end."""
        found = RUN.match(text, offset)
        if found is None:
            return [], offset
        limits = [self._limit(*words) for words in LIMIT.findall(text, offset, found.end())]
        taken: Disjunct = [limit for limit in limits if limit is not None]
        # anything else is parsed word by word, and its errors are reported
        return (taken, found.end()) if len(taken) == len(limits) else ([], offset)

    def _limit(self, side: str | None, *words: str | None) -> Limit | None:
        """What :data:`COMPARED` has matched; None if the input or the number is none."""
        name, limit, other_limit, other_name = words
        place = self.variables.get(name or other_name or "")
        value = float(limit or other_limit or "nan")
        if place is None or not math.isfinite(value):
            return None
        return Limit(place, (side == "<") == bool(name), value + 0.0, False)

    def command(self, group: Sequence[Operand]) -> None:
        match group:
            case ["declare-const", str(name), "Real"]:
                self._declare(name)
            case ["assert", operand]:
                self.assertions.append(formula(operand))
            case _:
                raise Unexpected(
                    "(declare-const X_i Real), (declare-const Y_j Real) or (assert formula)",
                    f"({' '.join(one if isinstance(one, str) else '…' for one in group)})"[:80],
                )

    def _declare(self, name: str) -> None:
        match = VARIABLE.fullmatch(name)
        if match is None:
            raise Unexpected("a variable X_i or Y_j", name)
        if name in self.variables:
            raise Unexpected("each variable declared once", f"{name} again")
        self.variables[name] = int(match[2])


def _property(script: _Script, name: str) -> VnnlibProperty:
    counts = []
    for kind in "XY":
        declared = {place for word, place in script.variables.items() if word[0] == kind}
        if not declared:
            raise DataError(name, expected=f"a declared variable {kind}_0", got="none")
        missing = next(place for place in range(len(declared) + 1) if place not in declared)
        if missing < len(declared):
            raise DataError(
                name, expected=f"{kind}_0 to {kind}_{max(declared)}", got=f"no {kind}_{missing}"
            )
        counts.append(len(declared))
    inputs, outputs = counts
    try:
        cases = build_cases(script.assertions, script.limits, script.variables, (inputs, outputs))
    except Unexpected as error:
        raise DataError(name, expected=error.expected, got=error.got) from None
    return VnnlibProperty(inputs, outputs, cases, name)

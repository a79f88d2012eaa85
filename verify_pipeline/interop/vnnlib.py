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
from verify_pipeline.interop.cases import Limit, build_cases
from verify_pipeline.interop.formulas import Formula, Operand, Unexpected, formula, reduce
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.tokens import NUMBER, VARIABLE, Source
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

USUAL = re.compile(
    rf"{SPACE}\({SPACE}(?:assert{SPACE}\({SPACE}([<>])=\s+(X_[0-9]+)\s+({NUMBER.pattern})\s*\)"
    rf"|declare-const\s+({VARIABLE.pattern})\s+Real){SPACE}\)",
    re.ASCII,
)
"""A limit of one input or a declaration: nearly all of a large file. It saves half of the time."""


def _parse(source: Source) -> VnnlibProperty:
    """The property; usual commands go a shorter way to the same result."""
    if is_version_2(source):
        return parse_version_2(source)
    script, offset, end = _Script(), 0, len(source.text)
    while offset < end:
        match = USUAL.match(source.text, offset)
        if match is not None and script.usual(*match.groups()[:4]):
            offset = match.end()
        else:
            offset = _command(source, offset, script)
    return _property(script, source.name)


def _command(source: Source, offset: int, script: _Script) -> int:
    """Read the command at ``offset``; returns where it ends."""
    open_groups: list[list[Operand]] = []
    starts: list[int] = []
    for place, word in source.words(offset):
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
                    return place + 1
                open_groups[-1].append(reduce(group, script.variables))
            except Unexpected as error:
                raise source.error(start, error.expected, error.got) from None
        elif not open_groups:
            raise source.error(place, "a command in brackets", word)
        else:
            open_groups[-1].append(word)
    if open_groups:
        raise source.error(starts[-1], "a closing bracket", "the end of the file")
    return len(source.text)


class _Script:
    """What the commands so far have declared and asserted."""

    def __init__(self) -> None:
        self.variables: dict[str, int] = {}
        self.limits: list[Limit] = []
        self.assertions: list[Formula] = []

    def usual(self, side: str | None, name: str, limit: str, declared: str) -> bool:
        """Take a command that :data:`USUAL` has matched; False if it is not to be taken so."""
        if side is None:
            is_new = declared not in self.variables
            if is_new:
                self._declare(declared)
            return is_new
        place, value = self.variables.get(name), float(limit)
        if place is None or not math.isfinite(value):
            return False
        self.limits.append(Limit(place, side == "<", value + 0.0, False))
        return True

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

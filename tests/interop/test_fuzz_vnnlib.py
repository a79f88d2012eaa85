"""Broken VNN-LIB files: an error of ours or a property, never anything else."""

from __future__ import annotations

import math
import operator
import random
import re
from collections.abc import Callable
from pathlib import Path

import torch

from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.interop.counterexamples import read_counterexample
from verify_pipeline.interop.vnnlib import parse_vnnlib, read_vnnlib

SEEDS = (
    """; a comment
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 -1.5e-3)) (assert (<= X_0 1))
(assert (or (and (<= X_1 0.5) (>= X_1 0)) (and (<= X_1 2) (>= X_1 1))))
(assert (or (and (<= Y_0 Y_1) (< (+ Y_0 (* 2 Y_1) -1) 3)) (= Y_0 0.25)))
""",
    "((X_0 0.5)\n(X_1 -1e-3)\n(Y_0 1.25)\n(Y_1 7))\n",
)
PIECES = (
    *(b"(", b")", b"((", b"))", b";", b"\n", b"\r", b" ", b"\0", b"\xff", b"\x1f\x8b", b"-", b"e9"),
    *(b"1e999", b"nan", b"X_0", b"Y_1", b"X_7", b"(and ", b"(or ", b"(not ", b"(* ", b"(+ ", b"<="),
    *(b"assert", b"declare-const", b"Real", b"()", b'"', b"|", "½".encode(), "٣".encode()),
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few cuts, copies, insertions and flips."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        stop = min(len(data), start + rng.randint(0, 30))
        change = rng.choice(["cut", "copy", "insert", "flip", "end"])
        if change == "cut":
            data = data[:start] + data[stop:]
        elif change == "copy":
            at = rng.randrange(len(data) + 1)
            data = data[:at] + data[start:stop] + data[at:]
        elif change == "insert":
            data = data[:start] + rng.choice(PIECES) + data[start:]
        elif change == "flip" and start < len(data):
            data = data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :]
        elif change == "end":
            data = data[:start]
    return data


def answer(text: bytes, path: Path) -> object:
    """What the reader makes of a text: numbers to compare, or an error's message."""
    path.write_bytes(text)
    try:
        found = read_vnnlib(path)
    except VerifyPipelineError as error:
        return str(error)
    sides = [(c.lower, c.upper, c.lower_open, c.upper_open) for c in found.cases]
    rows = [(k.rows, k.bounds, k.strict) for case in found.cases for k in case.conjunctions]
    return [[one.tolist() for one in part] for part in (*sides, *rows)]


def said(group: object, values: dict[str, float]) -> bool | float:
    """What a formula or a term says at a point, straight from its brackets."""
    if isinstance(group, str):
        return values[group] if group in values else float(group)
    assert isinstance(group, list)
    parts = [said(one, values) for one in group[1:]]
    comparisons: dict[str, Callable[[float, float], bool]] = {
        "<=": operator.le,
        "<": operator.lt,
        ">=": operator.ge,
        ">": operator.gt,
        "=": operator.eq,
    }
    match group[0]:
        case "and":
            return all(parts)
        case "or":
            return any(parts)
        case "+":
            return sum(parts)
        case "*":
            return math.prod(parts)
        case "-":
            return parts[0] - sum(parts[1:]) if len(parts) > 1 else -parts[0]
    assert isinstance(group[0], str)
    return comparisons[group[0]](*parts)


def groups_of(text: str) -> list[object]:
    """Brackets as lists, comments left out."""
    stack: list[list[object]] = [[]]
    for word in re.findall(r"[()]|[^\s();]+", re.sub(r";[^\r\n]*", "", text)):
        if word == "(":
            stack.append([])
        elif word == ")":
            group = stack.pop()
            stack[-1].append(group)
        else:
            stack[-1].append(word)
    (groups,) = stack
    return groups


def test_what_is_read_means_what_is_written() -> None:
    """Of mutated properties that are accepted: at points on a grid and between."""
    rng = random.Random(24)
    torch.manual_seed(0)
    grid = torch.tensor([-1.0, 0, 0.25, 0.5, 1, 2])[torch.randint(6, (100, 4))]
    points = torch.cat([grid, torch.rand(20, 4) * 3 - 1])
    read = met = 0
    while read < 40:
        text = mutated(SEEDS[0].encode(), rng).decode(errors="replace")
        try:
            found = parse_vnnlib(text)
        except VerifyPipelineError:
            continue
        read += 1
        if (found.inputs, found.outputs) != (2, 2):
            continue
        asserted = [g[1] for g in groups_of(text) if g[0] == "assert"]  # type: ignore[index]
        names = ("X_0", "X_1", "Y_0", "Y_1")
        at = [dict(zip(names, point, strict=True)) for point in points.double().tolist()]
        expected = [all(said(one, values) for one in asserted) for values in at]
        assert found.is_counterexample(points[:, :2], points[:, 2:]).tolist() == expected
        met += any(expected)
    assert met > 10


def test_the_short_way_for_usual_commands_ends_where_the_long_one_does(tmp_path: Path) -> None:
    """A wide space ends words, too, but is not usual."""
    rng = random.Random(23)
    path = tmp_path / "a.vnnlib"
    usual = SEEDS[0] + "(assert (<= X_1 1.75))(assert (>= X_1 -0))(assert(<= X_0 1e-1))\n"
    read = 0
    for trial in range(200):
        limits = [
            f"(assert ({rng.choice(['<=', '>='])} X_{rng.randrange(2)} {rng.gauss(0, 2)!r}))"
            for _ in range(rng.randrange(4))
        ]
        text = (usual + "".join(limits)).encode()
        if trial % 2:
            text = mutated(text, rng)
        longer = text.replace(b"= X_", "=\u2003X_".encode()).replace(
            b" Real", "\u2003Real".encode()
        )
        expected = answer(longer, path)
        assert answer(text, path) == expected
        read += isinstance(expected, list)
    assert 20 < read < 180


def test_limits_in_formulas_are_read_as_they_are_word_by_word(tmp_path: Path) -> None:
    rng = random.Random(24)
    path = tmp_path / "a.vnnlib"

    def limit() -> str:
        words = [f"X_{rng.randrange(3)}", repr(rng.gauss(0, 2))]
        rng.shuffle(words)
        operator = rng.choice(["<=", ">=", "<=", ">=", "<", "=", "<= "])
        return f"({operator} {' '.join(words)})"

    read = 0
    for trial in range(300):
        around = [f"(>= X_{i} -9) (<= X_{i} 9)" for i in range(2)]
        parts = [
            f"(and {' '.join([*around, *(limit() for _ in range(rng.randrange(3)))])} (<= Y_0 1))"
            for _ in range(rng.randrange(1, 4))
        ]
        text = (SEEDS[0] + f"(assert (or {' '.join(parts)}))").encode()
        if trial % 2:
            text = mutated(text, rng)
        longer = text.replace(b"= ", "=\u2003".encode())
        expected = answer(longer, path)
        assert answer(text, path) == expected
        read += isinstance(expected, list)
    assert 50 < read < 290


def test_300_mutated_properties(tmp_path: Path) -> None:
    rng = random.Random(20)
    path = tmp_path / "a.vnnlib"
    refused = 0
    for _ in range(300):
        path.write_bytes(mutated(SEEDS[0].encode(), rng))
        try:
            found = read_vnnlib(path)
        except VerifyPipelineError:
            refused += 1
        else:
            for case in found.cases:
                assert bool((case.lower <= case.upper).all())
                assert bool(torch.isfinite(torch.stack([case.lower, case.upper])).all())
                assert all(bool(torch.isfinite(one.rows).all()) for one in case.conjunctions)
    assert 100 < refused < 300


def test_300_mutated_counterexamples(tmp_path: Path) -> None:
    rng = random.Random(21)
    path = tmp_path / "a.counterexample"
    refused = 0
    for _ in range(300):
        path.write_bytes(mutated(SEEDS[1].encode(), rng))
        try:
            found = read_counterexample(path)
        except VerifyPipelineError:
            refused += 1
        else:
            assert bool(torch.isfinite(found.inputs).all())
    assert 100 < refused < 300

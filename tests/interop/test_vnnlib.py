"""The VNN-LIB reader: by hand, and on every property of VNN-COMP beside the repository."""

from __future__ import annotations

import gzip
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from verify_pipeline.errors import DataError
from verify_pipeline.interop import formulas, vnnlib
from verify_pipeline.interop.formulas import Formula, LinearTerm, Operand, reduce
from verify_pipeline.interop.properties import Case, Conjunction, VnnlibProperty
from verify_pipeline.interop.text_files import read_plain
from verify_pipeline.interop.vnnlib import parse_vnnlib, read_vnnlib

DECLARED = """; two inputs, three outputs
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(declare-const Y_2 Real)
"""
UNIT = "(assert (>= X_0 0)) (assert (<= X_0 1)) (assert (>= X_1 0)) (assert (<= X_1 1))"


def parse(assertions: str, limits: str = UNIT) -> VnnlibProperty:
    return parse_vnnlib(DECLARED + limits + assertions)


def only_case(found: VnnlibProperty) -> Case:
    (case,) = found.cases
    return case


def only_conjunction(found: VnnlibProperty) -> Conjunction:
    (conjunction,) = only_case(found).conjunctions
    return conjunction


def test_limits_and_a_disjunction_over_one_box() -> None:
    limits = """(assert (>= X_0 -1.5e-2)) (assert (<= X_0 .25))\r
                (assert (<= -3. X_1)) (assert (= X_1 2))"""
    found = parse("(assert (or (and (>= Y_0 Y_1)) (and (>= Y_2 Y_1)))) ; end", limits)
    case = only_case(found)
    assert (found.inputs, found.outputs) == (2, 3)
    assert case.lower.tolist() == [-0.015, 2.0]
    assert case.upper.tolist() == [0.25, 2.0]
    assert [c.rows.tolist() for c in case.conjunctions] == [[[-1, 1, 0]], [[0, 1, -1]]]
    assert [c.bounds.tolist() for c in case.conjunctions] == [[0], [0]]


def test_several_assertions_are_one_conjunction() -> None:
    found = only_conjunction(parse("(assert (<= Y_0 Y_1)) (assert (<= Y_0 0.5))"))
    assert found.rows.tolist() == [[1, -1, 0], [1, 0, 0]]
    assert found.bounds.tolist() == [0, 0.5]


def test_what_only_compares_outputs() -> None:
    comparing = "(assert (<= Y_0 Y_1)) (assert (>= (* 2 Y_2) (+ Y_1 Y_1)))"
    assert only_conjunction(parse(comparing)).compares
    for other in ("(<= Y_0 0)", "(<= Y_0 (+ Y_1 1))", "(<= (* 2 Y_0) Y_1)", "(<= (+ Y_0 Y_2) Y_1)"):
        assert not only_conjunction(parse(f"{comparing} (assert {other})")).compares


def test_a_packed_file_that_is_huge(tmp_path: Path) -> None:
    path = tmp_path / "bomb.vnnlib.gz"
    path.write_bytes(gzip.compress(b";" * 10**6))
    with pytest.raises(DataError, match="expected at most 999999 bytes; got more"):
        read_plain(path, largest=10**6 - 1)
    assert len(read_plain(path, largest=10**6)) == 10**6


def test_linear_terms() -> None:
    found = only_conjunction(
        parse("(assert (<= (+ (* 2 Y_0) (* Y_1 -3 0.5) (- 1)) (- Y_2 (+ Y_2 Y_0) 4 (* 2 3))))")
    )
    # 2 Y_0 - 1.5 Y_1 - 1 <= -Y_0 - 10
    assert found.rows.tolist() == [[3, -1.5, 0]]
    assert found.bounds.tolist() == [-9]


def test_limits_with_coefficients() -> None:
    limits = """(assert (>= (* -2 X_0) -1)) (assert (<= (- X_0) 0))
                (assert (and (<= (+ X_1 X_1 1) 3) (or (>= X_1 -1))))"""
    case = only_case(parse("(assert (<= Y_0 0))", limits))
    assert case.lower.tolist() == [0, -1]
    assert case.upper.tolist() == [0.5, 1]


def test_equality_of_outputs_is_two_constraints() -> None:
    found = only_conjunction(parse("(assert (= Y_0 2))"))
    assert found.rows.tolist() == [[1, 0, 0], [-1, 0, 0]]
    assert found.bounds.tolist() == [2, -2]
    assert found.is_met(torch.tensor([[2.0, 0, 0], [2.5, 0, 0]])).tolist() == [True, False]


def test_strict_comparisons() -> None:
    limits = "(assert (> X_0 0)) (assert (<= X_0 1)) (assert (>= X_1 0)) (assert (< X_1 1))"
    found = parse("(assert (< Y_0 1))", limits)
    case = only_case(found)
    points = torch.tensor([[0.0, 0.5], [0.5, 1.0], [1.0, 0.0]])
    assert case.contains(points).tolist() == [False, False, True]
    assert case.contains(points, tolerance=1e-4).all()
    outputs = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    assert not found.is_counterexample(points, outputs).any()
    assert found.is_counterexample(points, outputs - 0.5).tolist() == [False, False, True]


def test_boxes_in_a_disjunction_become_cases_and_equal_ones_are_merged() -> None:
    found = parse(
        """(assert (or (and (<= X_0 0.5) (<= Y_0 0))
                       (and (>= X_0 0.5) (<= Y_1 0))
                       (and (<= X_0 0.5) (<= X_0 0.7) (<= Y_2 0))
                       (and (>= X_0 2) (<= Y_2 0))))""",
    )
    assert [case.upper.tolist() for case in found.cases] == [[0.5, 1], [1, 1]]
    assert [len(case.conjunctions) for case in found.cases] == [2, 1]


def test_disjunctions_multiply() -> None:
    found = parse(
        """(assert (or (<= X_0 0.3) (>= X_0 0.6)))
           (assert (and (or (<= Y_0 0) (and (<= Y_1 0) (or (<= Y_2 1) (<= Y_2 2)))) (>= Y_0 -9)))"""
    )
    sizes = [[len(c) for c in case.conjunctions] for case in found.cases]
    assert sizes == [[2, 3, 3], [2, 3, 3]]


def test_nesting_of_any_depth() -> None:
    depth = 5000
    found = parse("(assert " + "(and (or " * depth + "(<= Y_0 0)" + "))" * depth + ")")
    assert only_conjunction(found).rows.tolist() == [[1, 0, 0]]


def test_compressed_and_marked_files(tmp_path: Path) -> None:
    text = (DECLARED + UNIT + "(assert (<= Y_0 0))").replace("\n", "\r\n")
    plain, packed = tmp_path / "a.vnnlib", tmp_path / "b.vnnlib.gz"
    plain.write_bytes(b"\xef\xbb\xbf" + text.encode())
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):
        assert read_vnnlib(path).source == path.name
        assert only_conjunction(read_vnnlib(path)).bounds.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("(assert (<= Y_0 0)", 8, "closing bracket"),
        ("\n(assert (<= Y_0 0)))", 9, "a command"),
        ("(assert (<= Y_0\n Y_9))", 8, "declared variable"),
        ("(assert (<= Y_0 1..2))", 8, "number"),
        ("(assert (<= Y_0 1e999))", 8, "float64"),
        ("(assert (<= Y_0 inf))", 8, "number"),
        ("(assert (<= Y_0 0 1))", 8, "two terms"),
        ("(assert (<= 0 1))", 8, "variable"),
        ("(assert (<= Y_0 Y_0))", 8, "variable"),
        ("(assert (* Y_0 2))", 8, "formula"),
        ("(assert (<= (* Y_0 Y_1) 2))", 8, "product"),
        ("(assert (<= (and (<= Y_0 0)) 2))", 8, "term"),
        ("(assert (not (<= Y_0 0)))", 8, "operator"),
        ("(assert (and))", 8, "something"),
        ("(assert ((<= Y_0 0)))", 8, "operator"),
        ("(assert ())", 8, "operator"),
        ("(assert (and (assert (<= Y_0 0))))", 8, "operator"),
        ("(assert Y_0)", 8, "formula"),
        ("(assert)", 8, "assert formula"),
        ("(check-sat)", 8, "assert formula"),
        ("assert", 8, "brackets"),
        ("(declare-const Y_0 Real)", 8, "once"),
        ("(declare-const Z_0 Real)", 8, "X_i or Y_j"),
        ("(declare-const Y_3 Int)", 8, "Real"),
    ],
)
def test_errors_name_line_and_what_was_expected(text: str, line: int, expected: str) -> None:
    with pytest.raises(DataError, match=expected) as caught:
        parse("\n" + text)
    assert caught.value.what == f"property, line {line}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DECLARED + UNIT, "constraint about outputs"),
        (DECLARED + UNIT + "(assert (<= X_0 Y_0))", "one input, or of outputs"),
        (DECLARED + UNIT + "(assert (<= X_0 X_1))", "one input, or of outputs"),
        (DECLARED + UNIT + "(assert (<= X_0 -1)) (assert (<= Y_0 0))", "a point in it"),
        (DECLARED + UNIT + "(assert (< X_0 0)) (assert (<= Y_0 0))", "a point in it"),
        (DECLARED + "(assert (<= X_0 0)) (assert (<= Y_0 0))", "X_0 with a lower limit"),
        (DECLARED + UNIT + "(assert (or (<= Y_0 0) (<= X_0 0.5)))", "constraint about outputs"),
        ("(declare-const X_0 Real)", "Y_0"),
        ("(declare-const X_1 Real) (declare-const Y_0 Real)", "X_0 to X_1"),
        ("", "X_0"),
    ],
)
def test_properties_without_sense_are_refused(text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        parse_vnnlib(text)


def test_a_normal_form_that_explodes_is_refused() -> None:
    choice = "(assert (or (<= Y_0 0) (<= Y_1 0)))"
    with pytest.raises(DataError, match="normal form"):
        parse(choice * 40)


def test_too_many_constraints_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formulas, "MAX_ATOMS", 4)
    alone = "(assert (<= Y_0 Y_1))"
    assert len(parse(2 * alone).cases) == 1  # what is asserted alone is not multiplied
    with pytest.raises(DataError, match="at most 4 constraints"):
        parse("(assert (or (" + 9 * "<= ")  # whoever reads it misses what ends it
    many = "(and (>= X_0 0.25) (<= X_0 0.5) (<= Y_0 Y_1))"
    with pytest.raises(DataError, match="at most 4 constraints"):
        parse(f"(assert (or {many} {many}))")


def test_limits_in_formulas_are_read_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Word by word they took ten times as long; a large file has millions."""
    groups: list[object] = []

    def watched(group: Sequence[Operand], variables: dict[str, int]) -> LinearTerm | Formula:
        groups.append(group[0])
        return reduce(group, variables)

    monkeypatch.setattr(vnnlib, "reduce", watched)
    limits = "(>= X_0 0.25)\n (<= X_0 0.5)" + "( >=  X_1 -1e-2 )\t(>= .5 X_1)" * 100
    found = parse(f"(assert (or (and (<= Y_0 Y_1) {limits}) (and {limits} (<= Y_1 Y_0))))", "")
    (case,) = found.cases
    assert case.lower.tolist() == [0.25, -0.01]
    assert len(case.conjunctions) == 2
    assert sorted(map(str, groups)) == ["<=", "<=", "and", "and", "or"]
    groups.clear()
    parse(f"(assert (and {limits} (< X_0 0.5) {limits}))(assert (<= Y_0 0))")
    assert sorted(map(str, groups)) == ["<", "<=", "and"]


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x1f\x8b broken"])
def test_files_that_are_no_text_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.vnnlib"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.vnnlib"):
        read_vnnlib(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_vnnlib(tmp_path / "a.vnnlib")


# How many of each kind each set has: cases, and sizes of the first case's conjunctions.
SETS = {
    "2021_test": {(1, 1, 1): 3, (1, 1, 4): 1},
    "2022_acasxu": {
        (1, 1, 1): 1, (1, 1, 4): 3, (1, 2, 3): 1, (1, 3, 2): 1, (1, 4, 1): 3, (2, 4, 1): 1,
    },
    "2022_rl_benchmarks": {(1, 1, 1): 200, (1, 1, 6): 91, (1, 13, 6): 1, (1, 15, 6): 4},
    "2022_mnist_fc": {(1, 9, 1): 30},
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_properties_of_vnncomp(name: str, shared_data: Path) -> None:
    archive = shared_data / "vnncomp" / f"vnncomp_{name}.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not there")
    kinds: Counter[tuple[int, int, int]] = Counter()
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".vnnlib") and (file := tar.extractfile(member)) is not None:
                found = parse_vnnlib(file.read().decode(), member.name)
                first = found.cases[0].conjunctions
                assert len({len(one) for one in first}) == 1
                kinds[len(found.cases), len(first), len(first[0])] += 1
    assert kinds == SETS[name]


def test_limits_without_a_float32_between_them_reach_the_nearest() -> None:
    single = torch.tensor([0.1, 0.3, 1.0, 0.1], dtype=torch.float32).double()
    text = "".join(f"(declare-const X_{i} Real)" for i in range(4)) + "(declare-const Y_0 Real)"
    for i, (lower, upper) in enumerate(((0.1, 0.1), (0.3, 0.3), (1.0, 1.0), (0.05, 0.1))):
        text += f"(assert (>= X_{i} {lower})) (assert (<= X_{i} {upper}))"
    (case,) = parse_vnnlib(text + "(assert (>= Y_0 0))").cases
    assert single[0] > 0.1
    assert single[1] > 0.3
    box = case.box((4,))
    assert box.lower[0].tolist() == case.lower.tolist() == [0.1, 0.3, 1.0, 0.05]
    assert box.upper[0].tolist() == [single[0].item(), single[1].item(), 1.0, 0.1]
    assert case.upper.tolist() == [0.1, 0.3, 1.0, 0.1]
    assert case.free_inputs == 1
    assert not bool(case.contains(single.unsqueeze(0).float()))  # 0.1 has a float32 below it
    inside = torch.tensor([[single[0], single[1], 1.0, 0.0999]], dtype=torch.float32)
    assert bool(case.contains(inside))

"""The checker's own reading of VNN-LIB, by hand and beside the program's reader."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest

from verify_checker import Proof, Refused
from verify_checker.instances import read_instances, read_plain
from verify_checker.vnnlib import Disjunct, read_property
from verify_pipeline.interop.instance_list import read_instances as read_list
from verify_pipeline.interop.vnnlib import read_vnnlib

HEAD = """; a comment with (brackets
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (<= X_0 0.75)) (assert (>= X_0 -2.5e-1)) (assert (> 3 X_1)) (assert (>= X_1 .5))
"""


def read(text: str) -> list[Disjunct]:
    return read_property((HEAD + text).encode())


def test_limits_and_constraints_by_hand() -> None:
    (one,) = read("(assert (<= Y_0 Y_1)) (assert (> Y_1 3.5))")
    assert (one.lower.tolist(), one.upper.tolist()) == ([-0.25, 0.5], [0.75, 3])
    assert one.rows.tolist() == [[1, -1], [0, -1]]
    assert one.bounds.tolist() == [0, -3.5]


def test_a_number_is_the_nearest_of_float64() -> None:
    (one,) = read("(assert (<= Y_0 0.1)) (assert (<= X_0 0.1))")
    assert (one.upper[0], one.bounds[0]) == (0.1, 0.1)


def test_every_choice_is_a_disjunct() -> None:
    found = read(
        "(assert (or (<= X_0 0) (and (>= X_0 0.5) (<= Y_1 1)))) (assert (or (<= Y_0 2) (>= Y_0 4)))"
    )
    assert [one.upper[0] for one in found] == [0, 0, 0.75, 0.75]
    assert [one.lower[0] for one in found] == [-0.25, -0.25, 0.5, 0.5]
    assert [one.bounds.tolist() for one in found] == [[2], [-4], [1, 2], [1, -4]]


def test_a_disjunct_without_inputs_is_none() -> None:
    (one,) = read("(assert (or (and (>= X_0 1) (<= Y_0 1)) (<= Y_0 2)))")
    assert one.bounds.tolist() == [2]


def test_an_input_without_limits_is_in_no_box() -> None:
    (one,) = read_property(b"(declare-const X_0 Real) (declare-const Y_0 Real) (assert (<= Y_0 1))")
    assert (one.lower.tolist(), one.upper.tolist()) == ([-np.inf], [np.inf])
    whole = np.array([1e308])
    assert not one.is_refuted_by(Proof({}, -whole, whole, np.ones((1, 1)), np.array([-1.0])))


REFUSED = {
    "an input against an output": "(assert (<= X_0 Y_0))",
    "two inputs": "(assert (<= X_0 X_1))",
    "a sum": "(assert (<= (+ Y_0 Y_1) 1))",
    "an equation": "(assert (= Y_0 1))",
    "a negation": "(assert (not (<= Y_0 1)))",
    "three terms": "(assert (<= Y_0 1 2))",
    "an empty disjunction": "(assert (or))",
    "an empty conjunction": "(assert (and))",
    "an empty assertion": "(assert)",
    "a word": "(assert true)",
    "an undeclared variable": "(assert (<= Y_2 1))",
    "a gap in the numbering": "(declare-const Y_3 Real)",
    "another kind of variable": "(declare-const Z_0 Real)",
    "an integer": "(declare-const Y_2 Int)",
    "another command": "(check-sat)",
    "a word between commands": "unsat",
    "an open bracket": "(assert (<= Y_0 1)",
    "a closing bracket": "(assert (<= Y_0 1)))",
    "infinity": "(assert (<= Y_0 inf))",
    "not a number": "(assert (<= Y_0 nan))",
    "an overflow": "(assert (<= Y_0 1e999))",
    "an underscore": "(assert (<= Y_0 1_0))",
    "digits of another script": "(assert (<= Y_0 ١))",
    "deep nesting": "(assert " + "(and " * 20000 + "(<= Y_0 1)" + ")" * 20001,
    "many disjuncts": "(assert (or (<= Y_0 1) (<= Y_0 2)))" * 40,
    "VNN-LIB 2": "(vnnlib-version <2.0>)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_all_else_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        read(REFUSED[name])


def test_other_bytes_are_refused() -> None:
    with pytest.raises(Refused, match="no VNN-LIB text"):
        read_property(b"\xff\xfe(")


def claimed(rows: list[list[float]], offsets: list[float], groups: list[int] | None) -> Proof:
    lower, upper = np.array([-0.25, 0.5]), np.array([0.75, 3.0])
    made = None if groups is None else np.array(groups)
    return Proof({}, lower, upper, np.array(rows), np.array(offsets), groups=made)


BOTH = "(assert (<= Y_0 1.0)) (assert (<= Y_0 Y_1))"
CLAIMS = {
    "one of two constraints": ([[1, 0]], [-1.0], None, True),
    "the other one": ([[1, -1]], [0.0], None, True),
    "one of both": ([[1, 0], [1, -1]], [-1.0, 0.0], [0, 0], True),
    "more than asked": ([[1, 0]], [-2.0], None, True),
    "less than asked, by one ulp": ([[1, 0]], [-np.nextafter(1.0, 0)], None, False),
    "another row": ([[0, 1]], [-1.0], None, False),
    "the other sign": ([[-1, 0]], [-1.0], None, False),
    "a group with another row": ([[1, 0], [0, 1]], [-1.0, -1.0], [0, 0], False),
    "two groups, of which one suffices": ([[1, 0], [0, 1]], [-1.0, -1.0], [0, 1], True),
    "outputs of another number": ([[1, 0, 0]], [-1.0], None, False),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_refutes_a_disjunct(name: str) -> None:
    rows, offsets, groups, refutes = CLAIMS[name]
    (one,) = read(BOTH)
    assert one.is_refuted_by(claimed(rows, offsets, groups)) == refutes


def test_the_proofs_box_has_to_contain_the_propertys() -> None:
    proof = claimed([[1, 0]], [-1.0], None)
    for text, refutes in (
        ("(assert (<= X_0 0.5))", True),
        ("(assert (or (<= X_0 0.5) (<= X_0 0.7)))", True),
        ("", True),
    ):
        assert all(one.is_refuted_by(proof) == refutes for one in read(BOTH + text))
    for wider in ("0.75000000000000012", "0.76", "3"):
        (one,) = read_property((HEAD + BOTH).replace("0.75", wider).encode())
        assert not one.is_refuted_by(proof)


def test_lists_name_files_compressed_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"network")
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(b"property"))
    found = {}
    for listed in ("a.onnx,p.vnnlib,1", "./a.onnx.gz, p.vnnlib.gz ,2\n\n"):
        (tmp_path / "i.csv").write_text(listed)
        found = read_instances(tmp_path / "i.csv") | found
    assert len(found) == 1
    assert read_plain(tmp_path / "p.vnnlib.gz") == b"property"
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(b"property")[:-9])
    with pytest.raises(ValueError, match=r"p\.vnnlib"):
        read_instances(tmp_path / "i.csv")


def test_the_file_that_a_list_names_comes_first(tmp_path: Path) -> None:
    """Another file of the same name, compressed or not, is not what the list asks."""
    (tmp_path / "a.onnx").write_bytes(b"network")
    (tmp_path / "p.vnnlib").write_bytes(b"plain")
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(b"packed"))
    for name in ("p.vnnlib", "p.vnnlib.gz"):
        (tmp_path / "i.csv").write_text(f"a.onnx,{name},1")
        assert [path.name for path in read_instances(tmp_path / "i.csv").values()] == [name]
        (theirs,) = read_list(tmp_path / "i.csv")
        assert theirs.vnnlib.name == name


def test_a_list_that_is_no_csv_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("a" * (1 << 18))
    with pytest.raises(ValueError, match=r"i\.csv: field larger"):
        read_instances(tmp_path / "i.csv")


SETS = ("2022_acasxu", "2022_rl_benchmarks", "2022_mnist_fc")


@pytest.mark.parametrize("name", SETS)
def test_real_properties_are_read_as_the_program_reads_them(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    archive = shared_data / "vnncomp" / f"vnncomp_{name}.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not there")
    with tarfile.open(archive) as tar:
        members = [one for one in tar.getmembers() if ".vnnlib" in one.name]
        tar.extractall(tmp_path, members[::7] if len(members) > 20 else members, filter="data")
    paths = sorted(tmp_path.rglob("*.vnnlib*"))
    assert paths
    for path in filter(Path.is_file, paths):
        mine = {_key(*_arrays(one)) for one in read_property(read_plain(path))}
        theirs = {
            _key(case.lower.numpy(), case.upper.numpy(), each.rows.numpy(), each.bounds.numpy())
            for case in read_vnnlib(path).cases
            for each in case.conjunctions
        }
        assert mine == theirs


def _arrays(one: Disjunct) -> tuple[np.ndarray, ...]:
    return one.lower, one.upper, one.rows, one.bounds


def _key(*arrays: np.ndarray) -> tuple[object, ...]:
    lower, upper, rows, bounds = arrays
    constraints = sorted(map(tuple, np.column_stack([rows, bounds]).tolist()))
    return tuple(lower.tolist()), tuple(upper.tolist()), tuple(constraints)

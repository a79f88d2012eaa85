"""Proofs of VNN-LIB properties, as `vnncomp --proofs` makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.typed import command
from tests.onnx_networks import mlp_file
from verify_checker import read_proof

# y = (3.5, 0) at (1, 1) and (5.5, 1) at (0, 2): see mlp_file; over the box, y0 is at least 1.5
BOX = """
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (>= X_0 0.5)) (assert (<= X_0 1.0)) (assert (>= X_1 0.5)) (assert (<= X_1 1.0))
"""
PROPERTIES = {
    "row": "(assert (<= Y_0 1.0))",
    "both": "(assert (<= Y_0 Y_1)) (assert (<= Y_0 1.0))",
    "either": "(assert (or (and (<= Y_0 1.0)) (and (<= Y_0 Y_1))))",
    "boxes": "(assert (or (and (<= X_0 0.75) (<= Y_0 1.0)) (and (>= X_0 0.75) (<= Y_0 1.2))))",
}
CASES = {"row": 1, "both": 1, "either": 1, "boxes": 2}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A set of one network and these properties, and one that is sat."""
    (tmp_path / "net.onnx").write_bytes(mlp_file())
    texts = {**PROPERTIES, "sat": "(assert (<= Y_0 3.0))"}
    for name, text in texts.items():
        (tmp_path / f"{name}.vnnlib").write_text(BOX + text)
    lines = [f"net.onnx,{name}.vnnlib,20" for name in texts]
    (tmp_path / "instances.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_unsat_properties_get_proofs_that_are_checked(listed: Path) -> None:
    known = ["vnncomp", listed / "instances.csv", "--out", listed / "out.csv"]
    code, out, err = command(*known, "--proofs", listed / "proofs")
    assert code == 0, err
    assert "sat 1, unsat 4" in out
    assert "proofs: 4 of 4 verdicts" in out
    names = sorted(path.name for path in (listed / "proofs").glob("*.proof"))
    expected = [
        f"net_{name}-{case:03d}.proof" for name, cases in CASES.items() for case in range(cases)
    ]
    assert names == sorted(expected)
    assert command("check-proofs", listed / "proofs")[0] == 0
    both = read_proof((listed / "proofs" / "net_both-000.proof").read_bytes())
    assert both.groups is not None
    assert both.groups.tolist() == [0, 0]  # one of two rows has to hold
    assert both.about["cases"] == 1


def test_a_proof_needs_its_whole_group(listed: Path) -> None:
    known = ["vnncomp", listed / "instances.csv", "--out", listed / "out.csv"]
    command(*known, "--proofs", listed / "proofs")
    either = read_proof((listed / "proofs" / "net_either-000.proof").read_bytes())
    assert either.groups is None  # each row has to hold
    assert len(either.rows) == 2

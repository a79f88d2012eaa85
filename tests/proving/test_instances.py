"""``check-proofs --instances``: a proof counts only for the property that it names."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.typed import command
from tests.onnx_networks import mlp_file
from tests.proving.test_properties import BOX, PROPERTIES
from verify_checker import Proof, read_proof
from verify_checker.folder import Result
from verify_pipeline.proving.proof_file import write_proof

NAMES = ("row", "both", "either", "boxes")


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of one network and properties that are unsat, with proofs."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "net.onnx").write_bytes(mlp_file())
    for name in NAMES:
        (folder / f"{name}.vnnlib").write_text(BOX + PROPERTIES[name])
    lines = [f"net.onnx,{name}.vnnlib,20" for name in NAMES]
    (folder / "instances.csv").write_text("\n".join(lines) + "\n")
    known = ["vnncomp", folder / "instances.csv", "--out", folder / "out.csv"]
    assert command(*known, "--proofs", folder / "proofs")[0] == 0
    return folder


@pytest.fixture
def folder(proved: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may alter."""
    for path in (*proved.glob("*.*"), *(proved / "proofs").glob("*.*")):
        target = tmp_path / path.relative_to(proved)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path


def checked(folder: Path) -> tuple[int, str, str]:
    return command(
        "check-proofs", folder / "proofs", "--instances", folder / "instances.csv", "--jobs", 1
    )


def results(folder: Path) -> dict[str, Result]:
    found = json.loads((folder / "proofs" / "checked.json").read_text())
    return {one["file"]: Result(**one) for one in found}


def altered(folder: Path, name: str, text: str) -> Path:
    """Change a property's file, and let its proofs name the changed file."""
    path = folder / f"{name}.vnnlib"
    path.write_text(text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for proof in (folder / "proofs").glob(f"net_{name}-*.proof"):
        rewritten(proof, lambda one: {"about": {**one.about, "sha256_of_property": digest}})
    return path


def rewritten(path: Path, change: Callable[[Proof], dict[str, Any]]) -> None:
    proof: Proof = read_proof(path.read_bytes())
    path.write_bytes(write_proof(replace(proof, **change(proof))))


def test_honest_proofs_show_their_instances(folder: Path) -> None:
    code, out, err = checked(folder)
    assert code == 0, err
    assert "checked: 5" in out
    assert "instances: 4 of 4 shown" in out
    assert results(folder)["net_boxes-001.proof"].refuted == [False, True]


def test_without_the_list_nothing_is_said_of_instances(folder: Path) -> None:
    code, out, _ = command("check-proofs", folder / "proofs")
    assert code == 0
    assert "instances" not in out


def test_the_file_is_known_by_its_bytes_compressed_or_not(folder: Path) -> None:
    for name in NAMES:
        path = folder / f"{name}.vnnlib"
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert checked(folder)[0] == 0


def test_recorded_from_a_compressed_file(folder: Path, tmp_path: Path) -> None:
    plain = folder / "row.vnnlib"
    (folder / "row.vnnlib.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    (folder / "instances.csv").write_text("net.onnx,row.vnnlib.gz,20\n")
    known = ["vnncomp", folder / "instances.csv", "--out", folder / "again.csv"]
    assert command(*known, "--proofs", folder / "more")[0] == 0
    recorded = read_proof((folder / "more" / "net_row-000.proof").read_bytes())
    expected = hashlib.sha256((BOX + PROPERTIES["row"]).encode()).hexdigest()
    assert recorded.about["sha256_of_property"] == expected


ROW = "Y_0 1.0"
REJECTED = {
    "a wider box": BOX.replace("0.5", "0.49") + PROPERTIES["row"],
    "a box wider by one ulp": BOX.replace("1.0", "1.0000000000000002") + PROPERTIES["row"],
    "an input without a limit": BOX.replace("(assert (<= X_1 1.0))", "") + PROPERTIES["row"],
    "more is asked": BOX + PROPERTIES["row"].replace("1.0", "1.0000000000000002"),
    "another output": BOX + PROPERTIES["row"].replace("Y_0", "Y_1"),
    "the other side": BOX + PROPERTIES["row"].replace("<=", ">="),
    "one more output": BOX + "(declare-const Y_2 Real)" + PROPERTIES["row"],
    "no constraint": BOX,
}


@pytest.mark.parametrize("name", REJECTED)
def test_an_easier_claim_is_no_proof_of_a_property(name: str, folder: Path) -> None:
    altered(folder, "row", REJECTED[name])
    code, out, err = checked(folder)
    assert code == 2
    assert "rejected: 1" in out
    assert "instances: 3 of 4 shown" in out
    assert "a box or rows that are not those of row.vnnlib" in err


ACCEPTED = {
    "a narrower box": BOX.replace("0.5", "0.6") + PROPERTIES["row"],
    "less is asked": BOX + PROPERTIES["row"].replace("1.0", "0.9"),
    "a further constraint of counterexamples": BOX + PROPERTIES["row"] + "(assert (<= Y_1 7))",
    "a strict constraint": BOX + PROPERTIES["row"].replace("<=", "<"),
    "a disjunct without inputs": BOX
    + "(assert (or (<= Y_0 1.0) (and (<= Y_0 9) (>= X_0 2) (<= X_0 1))))",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_stronger_claim_is_a_proof_of_a_property(name: str, folder: Path) -> None:
    altered(folder, "row", ACCEPTED[name])
    code, out, err = checked(folder)
    assert code == 0, err
    assert "instances: 4 of 4 shown" in out


LEFT = {
    "a disjunct more": ("row", BOX + "(assert (or (<= Y_0 1.0) (<= Y_1 -1)))", "1 of 2"),
    "a disjunct with another box": (
        "row",
        BOX.replace("(assert (<= X_0 1.0))", "(assert (<= X_0 2.0))")
        + "(assert (or (and (<= X_0 1.0) (<= Y_0 1.0)) (and (>= X_0 1.0) (<= Y_0 1.0))))",
        "1 of 2",
    ),
    "two disjuncts more": (
        "either",
        BOX + "(assert (or (<= Y_0 1.0) (<= Y_0 Y_1) (<= Y_0 1.1) (<= Y_1 -1)))",
        "2 of 4",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_every_disjunct_has_to_be_refuted(name: str, folder: Path) -> None:
    which, text, left = LEFT[name]
    altered(folder, which, text)
    code, out, err = checked(folder)
    assert code == 2
    assert "instances: 3 of 4 shown" in out
    assert f"{left} disjuncts of {which}.vnnlib are refuted by no proof" in err


def test_a_case_that_is_missing_takes_the_others_along(folder: Path) -> None:
    (folder / "proofs" / "net_boxes-000.proof").unlink()
    code, out, err = checked(folder)
    assert code == 2
    assert "checked: 3" in out
    assert "net_boxes-001.proof: 1 of 2 disjuncts of boxes.vnnlib are refuted by no proof" in err


def test_a_row_exchanged_in_the_proof(folder: Path) -> None:
    """The other row is true as well, but is not what the property asks."""
    rewritten(
        folder / "proofs" / "net_row-000.proof",
        lambda one: {"rows": np.array([[1.0, -1.0]]), "offsets": np.zeros(1)},
    )
    assert command("check-proofs", folder / "proofs")[0] == 0
    code, _, err = checked(folder)
    assert code == 2
    assert "net_row-000.proof: a box or rows that are not those of row.vnnlib" in err


def test_a_proof_in_another_propertys_name(folder: Path) -> None:
    about = read_proof((folder / "proofs" / "net_both-000.proof").read_bytes()).about
    rewritten(folder / "proofs" / "net_row-000.proof", lambda one: {"about": about})
    code, out, _ = checked(folder)  # a row of both is enough, but row itself has no proof now
    assert code == 0
    assert "instances: 3 of 4 shown" in out


def test_a_proof_of_nothing_on_the_list_is_rejected(folder: Path) -> None:
    (folder / "instances.csv").write_text("net.onnx,row.vnnlib,20\n")
    code, out, err = checked(folder)
    assert code == 2
    assert "rejected: 4" in out
    assert "a proof that names no network and property of the list" in err
    assert "instances: 1 of 1 shown" in out


def test_a_proof_of_another_network_of_the_list(folder: Path) -> None:
    """Its bytes differ, although its outputs do not."""
    (folder / "other.onnx").write_bytes(mlp_file(opset=14))
    assert (folder / "other.onnx").read_bytes() != (folder / "net.onnx").read_bytes()
    text = (folder / "instances.csv").read_text().replace("net.onnx,row", "other.onnx,row")
    (folder / "instances.csv").write_text(text)
    code, out, _ = checked(folder)
    assert code == 2
    assert "instances: 3 of 4 shown" in out


def test_a_property_that_the_checker_cannot_read_is_refused(folder: Path) -> None:
    altered(folder, "row", BOX + "(assert (<= (+ Y_0 Y_1) 1.0))")
    code, out, _ = checked(folder)
    assert code == 0
    assert "refused: 1" in out
    assert "VNN-LIB formula" in out
    assert "instances: 3 of 4 shown" in out


BAD = {
    "net.onnx,row.vnnlib\n": "other lines than onnx,vnnlib,seconds",
    "": "other lines than onnx,vnnlib,seconds",
    "net.onnx,none.vnnlib,20\n": "No such file",
}


@pytest.mark.parametrize("text", BAD)
def test_lists_that_cannot_be_used(text: str, folder: Path) -> None:
    (folder / "instances.csv").write_text(text)
    code, _, err = checked(folder)
    assert code == 2
    assert BAD[text] in err
    assert not (folder / "proofs" / "checked.json").exists()


def test_the_checkers_own_command_says_the_same(folder: Path) -> None:
    words = [sys.executable, "-m", "verify_checker", folder / "proofs", "--instances"]
    run = subprocess.run(
        [*words, folder / "instances.csv"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "instances: 4 of 4 shown" in run.stdout
    altered(folder, "row", REJECTED["a wider box"])
    run = subprocess.run(
        [*words, folder / "instances.csv"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "instances: 3 of 4 shown" in run.stdout


REAL = ("ACASXU_run2a_4_5_batch_2000", "ACASXU_run2a_5_9_batch_2000")


def test_real_properties(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "vnncomp" / "vnncomp_2022_acasxu.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not there")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    place = tmp_path / "2022" / "acasxu"
    pairs = [f"onnx/{net}.onnx,vnnlib/prop_{p}.vnnlib,60" for net in REAL for p in (3, 4)]
    (place / "some.csv").write_text("\n".join(pairs) + "\n")
    proofs = tmp_path / "proofs"
    known = ["vnncomp", place / "some.csv", "--out", tmp_path / "out.csv", "--proofs", proofs]
    assert "unsat 4" in command(*known)[1]
    words = ["check-proofs", proofs, "--instances", place / "instances.csv"]
    code, out, err = command(*words)
    assert code == 0, err
    assert "instances: 4 of 186 shown" in out
    # proofs of property 3 in the name of property 4, whose box is another one
    other = hashlib.sha256((place / "vnnlib" / "prop_4.vnnlib").read_bytes()).hexdigest()
    for path in proofs.glob("*prop_3-000.proof"):
        rewritten(path, lambda one: {"about": {**one.about, "sha256_of_property": other}})
    code, out, err = command(*words)
    assert code == 2
    assert "rejected: 2" in out
    assert "a box or rows that are not those of prop_4.vnnlib" in err
    assert "instances: 2 of 186 shown" in out

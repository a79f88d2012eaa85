"""Proofs as users make, check and count them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checker.proofs import CLASSES, INPUTS, network_file
from tests.cli.typed import command
from tests.onnx_networks import layers_file
from verify_checker import read_proof
from verify_checker.folder import RESULTS
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.proving.proof_file import leaf_only, write_proof
from verify_pipeline.proving.results import REAL_ONLY

EPSILON, COUNT = 0.45, 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, images with the classes that it gives them, and a certification with proofs."""
    folder = tmp_path_factory.mktemp("proofs")
    (folder / "net.onnx").write_bytes(network_file())
    images = np.random.default_rng(3).random((COUNT, INPUTS)).astype(np.float32)
    outputs = network_from_bytes(network_file()).replay(torch.from_numpy(images))
    np.save(folder / "x.npy", images)
    np.save(folder / "y.npy", outputs.argmax(1).numpy())
    code, out, _ = command(*certify(folder), "--proofs", folder / "proofs")
    assert code == 0
    assert f"proofs: {COUNT} of {COUNT} verdicts" in out
    return folder


def own(folder: Path) -> list[object]:
    return ["--images", folder / "x.npy", "--labels", folder / "y.npy"]


def certify(folder: Path, *more: object) -> list[object]:
    """A certification of all images."""
    known = ["certify", folder / "net.onnx", *own(folder), "--epsilon", EPSILON]
    return [*known, "--ledger", folder / "ledger.sqlite", *more]


def test_proofs_are_checked_by_both_commands(made: Path) -> None:
    code, out, _ = command("check-proofs", made / "proofs")
    assert code == 0
    assert f"checked: {COUNT}\n" in out
    assert "rejected: 0\n" in out
    apart = [sys.executable, "-m", "verify_checker", str(made / "proofs")]
    run = subprocess.run(apart, capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert f"checked: {COUNT}\n" in run.stdout
    assert len(json.loads((made / "proofs" / RESULTS).read_text())) == COUNT


def test_the_table_counts_checked_verdicts(made: Path) -> None:
    command("check-proofs", made / "proofs")
    code, out, _ = command("table", made / "ledger.sqlite", "--proofs", made / "proofs")
    assert code == 0
    assert f"{COUNT} of {COUNT} verified images have a proof that the checker has checked" in out


def test_recheck_checks_counterexamples_and_proofs(made: Path) -> None:
    known = ["recheck", made / "net.onnx", *own(made), "--ledger", made / "ledger.sqlite"]
    code, out, _ = command(*known, "--proofs", made / "proofs")
    assert code == 0
    assert "0 of 0 counterexamples hold" in out
    assert f"checked: {COUNT}\n" in out


def test_recheck_rejects_a_proof_that_is_about_another_image(made: Path, tmp_path: Path) -> None:
    some = sorted((made / "proofs").rglob("*.proof"))
    first, second = (read_proof(path.read_bytes()) for path in some[:2])
    first.about["index"] = second.about["index"]
    (tmp_path / "one.proof").write_bytes(write_proof(first))
    known = ["recheck", made / "net.onnx", *own(made), "--ledger", made / "ledger.sqlite"]
    code, out, err = command(*known, "--proofs", tmp_path)
    assert code == 2
    assert "rejected: 1\n" in out
    assert f"not those of image {second.about['index']}" in err


@pytest.mark.parametrize("key", ["instance", "label", "split", "data_set", "network"])
def test_recheck_rejects_a_proof_with_another_name(made: Path, tmp_path: Path, key: str) -> None:
    # the box and the rows are those of its image, but a table would count it for another one
    proof = read_proof(sorted((made / "proofs").rglob("*.proof"))[0].read_bytes())
    proof.about[key] = CLASSES if key == "label" else "0" * 64
    (tmp_path / "one.proof").write_bytes(write_proof(proof))
    known = ["recheck", made / "net.onnx", *own(made), "--ledger", made / "ledger.sqlite"]
    code, out, _ = command(*known, "--proofs", tmp_path)
    assert code == 2
    assert "rejected: 1\n" in out


def counted(made: Path, proofs: Path) -> int:
    """How many verified images the table says have a checked proof."""
    code, out, _ = command("table", made / "ledger.sqlite", "--proofs", proofs)
    assert code == 0
    line = next(line for line in out.splitlines() if f"of {COUNT} verified images" in line)
    return int(line.split(f" of {COUNT}")[0].split()[-1])


def test_the_table_counts_no_proof_of_another_image_box_or_network(
    made: Path, tmp_path: Path
) -> None:
    some = sorted((made / "proofs").rglob("*.proof"))
    for changes in (
        {},
        {"index": 99},
        {"instance": "0" * 32},
        {"split": "train"},
        {"data_set": "another"},
        {"perturbation": "linf 0.44"},
        {"specification": "rows of another kind"},
        {"network": "0" * 64},
    ):
        folder = tmp_path / "-".join(["proofs", *changes])
        shutil.copytree(made / "proofs", folder)
        path = folder / some[0].relative_to(made / "proofs")
        proof = read_proof(path.read_bytes())
        proof.about.update(changes)
        path.write_bytes(write_proof(proof))
        command("check-proofs", folder)
        assert counted(made, folder) == COUNT - len(changes), changes


NESTED: list[object] = []
for _ in range(800):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    "changes",
    [
        {"note": NESTED},
        {"index": [1]},
        {"instance": {"a": 1}},
        {"note": 0.5},
        {"network": "\ud800"},
    ],
    ids=["nested", "list", "object", "fraction", "surrogate"],
)
def test_a_proof_with_odd_names_is_rejected_and_the_others_are_not(
    made: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    folder = tmp_path / "proofs"
    shutil.copytree(made / "proofs", folder)
    path = sorted(folder.rglob("*.proof"))[0]
    proof = read_proof(path.read_bytes())
    proof.about.update(changes)
    path.write_bytes(write_proof(proof))
    code, out, err = command("check-proofs", folder)
    assert code == 2
    assert f"checked: {COUNT - 1}\n" in out
    assert "rejected: 1\n" in out
    assert "damaged file" in err
    assert counted(made, folder) == COUNT - 1


def test_what_only_looks_like_a_network_is_left_out(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "proofs"
    shutil.copytree(made / "proofs", folder)
    (folder / "folder.onnx").mkdir()
    (folder / "dangling.onnx").symlink_to(folder / "nothing")
    code, out, _ = command("check-proofs", folder)
    assert code == 0
    assert f"checked: {COUNT}\n" in out


def test_proofs_of_verdicts_as_deployed_are_said_to_be_for_real_numbers(
    made: Path, tmp_path: Path
) -> None:
    """Errors of the file's evaluation are no part of a proof: no output may suggest that."""
    ledger, proofs = tmp_path / "ledger.sqlite", tmp_path / "proofs"
    known = ["certify", made / "net.onnx", *own(made), "--epsilon", EPSILON, "--ledger", ledger]
    code, out, _ = command(*known, "--arithmetic", "float32", "--proofs", proofs)
    assert code == 0
    assert "verdicts" in out
    assert f"proofs are {REAL_ONLY}" in out
    command("check-proofs", proofs)
    code, out, _ = command("table", ledger, "--proofs", proofs)
    assert code == 0
    assert f"a proof that the checker has checked, {REAL_ONLY}" in out
    _, out, _ = command("table", made / "ledger.sqlite", "--proofs", proofs)
    assert "a proof that the checker has checked" in out
    assert REAL_ONLY not in out


def test_the_table_counts_no_proof_that_changed_after_it_was_checked(
    made: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "proofs"
    shutil.copytree(made / "proofs", folder)
    command("check-proofs", folder)
    first, second = sorted(folder.rglob("*.proof"))[:2]
    first.write_bytes(second.read_bytes())
    second.unlink()
    assert counted(made, folder) == COUNT - 2


def test_recheck_rejects_a_proof_that_one_of_several_rows_is_above_zero(tmp_path: Path) -> None:
    # rows of one's own: the checker accepts the weaker claim, but it is not the ledger's
    (tmp_path / "net.onnx").write_bytes(network_file())
    image = np.random.default_rng(3).random((1, INPUTS)).astype(np.float32)
    outputs = network_from_bytes(network_file()).replay(torch.from_numpy(image))[0].numpy()
    np.save(tmp_path / "x.npy", image)
    np.save(tmp_path / "y.npy", outputs.argmax(keepdims=True))
    np.save(tmp_path / "rows.npy", np.eye(CLASSES, dtype=np.float64))
    np.save(tmp_path / "offsets.npy", 10.0 - outputs.astype(np.float64))
    asked = ["--rows", tmp_path / "rows.npy", "--offsets", tmp_path / "offsets.npy"]
    folder = tmp_path / "proofs"
    code, out, _ = command(*certify(tmp_path), *asked, "--proofs", folder)
    assert code == 0
    assert "proofs: 1 of 1 verdicts" in out
    known = ["recheck", tmp_path / "net.onnx", *own(tmp_path), *asked]
    known += ["--ledger", tmp_path / "ledger.sqlite", "--proofs", folder]
    code, out, _ = command(*known)
    assert code == 0
    assert "checked: 1\n" in out
    (path,) = folder.rglob("*.proof")
    proof = read_proof(path.read_bytes())
    assert proof.claims_every_row
    own_groups = replace(proof, groups=np.arange(CLASSES))
    assert own_groups.claims_every_row
    joined = replace(leaf_only(np.arange(CLASSES), intervals=True), any_row=True)
    weaker = replace(proof, groups=np.zeros(CLASSES, dtype=np.int64), trees=(joined,))
    assert not weaker.claims_every_row
    path.write_bytes(write_proof(weaker))
    code, out, _ = command("check-proofs", folder)
    assert code == 0
    assert "checked: 1\n" in out
    code, out, err = command(*known)
    assert code == 2
    assert "only one of several rows of image 0" in err


def test_a_recording_that_was_stopped_is_continued(made: Path, tmp_path: Path) -> None:
    some = sorted((made / "proofs").rglob("*.proof"))
    before = {path: path.stat().st_mtime_ns for path in some}
    some[0].unlink()
    some[3].unlink()
    code, out, _ = command(*certify(made), "--proofs", made / "proofs")
    assert code == 0
    assert f"proofs: {COUNT} of {COUNT} verdicts" in out
    after = {path: path.stat().st_mtime_ns for path in sorted((made / "proofs").rglob("*.proof"))}
    assert list(after) == list(before)
    changed = [path for path in some if after[path] != before[path]]
    assert changed == [some[0], some[3]]


def test_several_processes_write_the_same_proofs(made: Path, tmp_path: Path) -> None:
    code, out, _ = command(*certify(made), "--proofs", tmp_path / "two", "--jobs", "2")
    assert code == 0
    assert f"proofs: {COUNT} of {COUNT} verdicts" in out
    names = [sorted(p.name for p in f.rglob("*.proof")) for f in (made / "proofs", tmp_path)]
    assert names[0] == names[1]


def test_a_changed_proof_ends_the_command_with_2(made: Path, tmp_path: Path) -> None:
    path = min((made / "proofs").rglob("*.proof"))
    (tmp_path / "net.onnx").write_bytes(network_file())
    (tmp_path / "cut.proof").write_bytes(path.read_bytes()[:-9])
    code, out, err = command("check-proofs", tmp_path)
    assert code == 2
    assert "rejected: 1\n" in out
    assert "cut.proof: a file that is cut off" in err


def test_a_network_beside_the_folder_is_named(made: Path, tmp_path: Path) -> None:
    path = min((made / "proofs").rglob("*.proof"))
    (tmp_path / "one.proof").write_bytes(path.read_bytes())
    assert command("check-proofs", tmp_path)[0] == 2
    assert command("check-proofs", tmp_path, "--network", made / "net.onnx")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check-proofs", "nowhere"], "nothing there"),
        (["check-proofs", "."], "files *.proof; got none"),
        (["table", "ledger.sqlite", "--proofs", "."], "Check the proofs first"),
    ],
    ids=str,
)
def test_mistakes_are_told(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes((made / "ledger.sqlite").read_bytes())
    code, _, err = command(*arguments)
    assert code == 2
    assert words in err


def test_what_the_checker_refuses_is_said(made: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    first = (rng.normal(size=(6, INPUTS)), rng.normal(size=6))
    data = layers_file(
        ("n", INPUTS), first, "Erf", (0.01 * rng.normal(size=(CLASSES, 6)), [1, 0, 0])
    )
    (tmp_path / "net.onnx").write_bytes(data)
    np.save(tmp_path / "x.npy", np.load(made / "x.npy"))
    np.save(tmp_path / "y.npy", np.zeros(COUNT, dtype=np.int64))
    code, out, _ = command(*certify(tmp_path), "--proofs", tmp_path / "proofs")
    assert code == 0
    assert f"proofs: 0 of {COUNT} verdicts" in out
    assert f"no proof of {COUNT}: the checker refuses the network: operator Erf" in out


def test_proofs_of_a_question_with_preprocessing_are_refused(made: Path, tmp_path: Path) -> None:
    more = ["--mean", "0.5", "--std", "0.5", "--proofs", tmp_path / "proofs"]
    code, _, err = command(*certify(made), *more)
    assert code == 2
    assert "preprocessing" in err

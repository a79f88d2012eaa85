"""`plan RECIPE` as a user types it: alone, and with a network that is like the one to come."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bad_input import RECIPE
from tests.cli.test_dry_run import state
from tests.cli.typed import command

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of one of two epochs, and one that is finished, exported and certified."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    assert command("run", folder / "tiny.yaml", "--out", folder / "done", "--quiet")[0] == 0
    assert command("train", folder / "tiny.yaml", "--out", folder / "so-far", "--quiet")[0] == 0
    return folder


def planned(run: Path, *more: object) -> dict[str, Any]:
    before = state(run)
    code, out, err = command("plan", run / "tiny.yaml", "--measure", 0.2, "--json", *more)
    assert (code, err) == (0, "")
    assert state(run) == before
    (line,) = out.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_a_recipe_alone(run: Path) -> None:
    found = planned(run)
    assert (found["recipe"], found["data_set"], found["images"]) == ("tiny", "digits", 1437)
    assert (found["epochs"], found["steps"]) == (2, 6)
    assert [(each["phase"], each["epochs"]) for each in found["phases"]] == [
        ("ramp", 1),
        ("full ε", 1),
    ]
    ends = found["seconds_at_least"], found["seconds_at_most"]
    assert 0 < ends[0] <= ends[1]
    assert ends[0] == pytest.approx(sum(each["seconds_at_least"] for each in found["phases"]))
    best = {each["processes"]: each["seconds_at_best"] for each in found["processes"]}
    assert best[4] == pytest.approx(ends[0] / 4)
    certify = found["certification"]
    assert (certify["images"], certify["seconds_at_most"], certify["like"]) == (2, 2 * 360.0, None)
    assert found["disk"]["checkpoint"] > found["disk"]["network"] > 0
    assert found["memory"]["process"] > 0


def test_sizes_are_those_of_the_files(run: Path) -> None:
    sizes = planned(run)["disk"]
    (checkpoint,) = (run / "done").glob("*.safetensors")
    assert checkpoint.stat().st_size == pytest.approx(sizes["checkpoint"], rel=0.5)
    assert (run / "done" / "tiny.onnx").stat().st_size == pytest.approx(sizes["network"], rel=0.5)


def test_the_text(run: Path) -> None:
    code, out, _ = command("plan", run / "tiny.yaml", "--measure", 0.2)
    assert code == 0
    rows = {line[:12].strip(): line[12:] for line in out.splitlines() if line[:1].strip()}
    assert rows["training"] == "1,437 images of digits, 2 epochs of 6 steps"
    assert rows["certify"] == "at most 12 min by one process: 2 images, each at most 6 min"
    assert "depends on the trained network" in out
    assert "fewer than 20 steps of some phase were measured" in out  # an epoch has 6
    assert all(len(line) <= 100 for line in out.splitlines())
    shares = re.findall(r"\d+: ([\d.e-]+) s", " ".join(out.split("torchrun")[1].split()))
    assert len(shares) >= 5
    assert all(float(share) > 0 for share in shares)


def test_a_finished_run_is_measured_whatever_its_ledger_has(run: Path) -> None:
    """The network to come has no verdicts yet."""
    like = planned(run, "--like", run / "done")["certification"]["like"]
    assert (like["images"], like["done"], like["left"], like["measured"]) == (2, 0, 2, 2)
    assert like["workers"][0]["seconds_at_least"] > 0
    file = planned(run, "--like", run / "done" / "tiny.onnx")["certification"]["like"]
    assert file["network_sha256"] == like["network_sha256"]


def test_a_training_without_its_file_is_measured(run: Path) -> None:
    found = planned(run, "--like", run / "so-far")["certification"]
    assert found["like_epochs"] == 2
    like = found["like"]
    assert (like["images"], like["left"], like["measured"]) == (2, 2, 2)
    assert like["start"] is None
    assert like["ledger"] is None


def test_a_training_of_other_settings_is_refused(run: Path) -> None:
    typed = ("plan", run / "tiny.yaml", "--like", run / "so-far", "--set", "train.seed=1")
    code, out, err = command(*typed)
    assert (code, out) == (2, "")
    assert "expected a training of the recipe tiny; got one with other settings" in err

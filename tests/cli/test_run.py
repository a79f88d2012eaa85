"""The main job as a user types it, on a few digits: run, and the same in single steps."""

import csv
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.cli.typed import command
from verify_pipeline import data, pipeline, reports
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.network import zoo
from verify_pipeline.problem import Status

pytest.importorskip("sklearn")

RECIPE = """\
description: as small as it gets
train:
  data: {name: digits, validation: 40}
  network: {name: mlp, width: 0.1}
  loss: {name: cc-ibp, alpha: 0.5}
  epsilon: {target: 1/32, start: 1, length: 2}
  optimiser: {epochs: 4, milestones: [], batch: 64, learning_rate: 5e-3}
  watch: {every: 4, images: 40, cascade_images: 5}
certify:
  indices: ":40"
  attack: {restarts: 1, steps: 5}
  timeout: 20
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which everything was run, and what was shown."""
    out = tmp_path_factory.mktemp("run") / "out"
    code, shown, err = command("run", recipe, "--out", out)
    assert code == 0, err
    return out, shown


def table(folder: Path, name: str = "table") -> dict[str, str]:
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    return row


def test_run_leaves_everything_and_shows_the_table(done: tuple[Path, str]) -> None:
    out, shown = done
    names = {path.name for path in out.iterdir()}
    assert {"tiny.onnx", "ledger.sqlite", "recipe.yaml", "metrics.csv", "checkpoint.json"} <= names
    assert {"table.csv", "table.md", "table-seconds.csv", "table-seconds.md"} <= names
    row = table(out)
    assert (row["network"], row["data_set"], row["epsilon"]) == ("tiny", "digits", "0.03125")
    assert row["images"] == "40"
    assert float(row["verified"]) <= float(row["robust_at_most"]) <= float(row["standard"])
    assert row["verified"] in shown
    assert f"run {out.parent}" not in row["generated_by"] or "--out" in row["generated_by"]


def test_the_cascade_is_watched_while_training(done: tuple[Path, str]) -> None:
    with (done[0] / "metrics.csv").open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    assert 0 <= float(last["cascade_verified"]) <= float(last["cascade_standard"]) <= 1
    assert 0 <= float(last["validation_ibp"]) <= float(last["validation_standard"]) <= 1


def test_the_same_command_decides_nothing_twice(done: tuple[Path, str], recipe: Path) -> None:
    out, _ = done
    before = (out / "table.csv").read_bytes(), (out / "tiny.onnx").read_bytes()
    code, _, err = command("run", recipe, "--out", out)
    assert code == 0
    assert "40 of 40 images are decided already" in err
    # the command stands in the table and is pytest's own both times
    assert ((out / "table.csv").read_bytes(), (out / "tiny.onnx").read_bytes()) == before


def test_the_same_seed_gives_the_same_network_and_table(
    done: tuple[Path, str], recipe: Path, tmp_path: Path
) -> None:
    command("run", recipe, "--out", tmp_path / "again")
    again = table(tmp_path / "again")
    first = table(done[0])
    assert again["network_sha256"] == first["network_sha256"]
    assert {**again, "generated_by": ""} == {**first, "generated_by": ""}


def test_single_steps_do_what_run_does(done: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = done
    file = tmp_path / "exported.onnx"
    code, shown, err = command("export", out, "--out", file)
    assert code == 0, err
    assert "at 272 inputs" in shown
    assert file.read_bytes() == (out / "tiny.onnx").read_bytes()
    ledger = tmp_path / "own.sqlite"
    code, shown, err = command(
        *("certify", file, "--recipe", out / "recipe.yaml", "--ledger", ledger, "--indices", 20)
    )
    assert code == 0, err
    code, shown, err = command("table", ledger, "--out", tmp_path / "tables" / "mine")
    assert code == 0, err
    assert table(tmp_path / "tables", "mine")["images"] == "20"


def test_a_file_knows_its_data_set_and_epsilon(done: tuple[Path, str], tmp_path: Path) -> None:
    ledger = tmp_path / "notes.sqlite"
    arguments = ("certify", done[0] / "tiny.onnx", "--ledger", ledger, "--indices", "3,5")
    code, _, err = command(*arguments, "--stages", "clean,ibp")
    assert code == 0, err
    (summary,) = reports.read_ledgers([ledger])
    assert summary.info.epsilon == 1 / 32
    assert [record.index for record in summary.records] == [3, 5]
    assert summary.stages == ("clean", "ibp")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--epsilon", "1.5"], "epsilon"),
        (["--epsilon", "-1/255"], "epsilon"),
        (["--epsilon", "nan"], "epsilon"),
        (["--stages", "ibp"], "expected clean as the first stage"),
        (["--stages", "clean,magic"], "stages"),
        (["--timeout", "0"], "timeout"),
        (["--indices", "a:b"], "indices"),
        (["--indices", "3,5000"], "5000"),
        (["--search", "no-such-search"], "no-such-search"),
        (["--data", "mnisst"], "mnisst"),
        (["--split", "dev"], "split"),
        (["--recipe", "no-such-recipe"], "no-such-recipe"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_bad_options_are_named_and_leave_no_ledger(
    done: tuple[Path, str], tmp_path: Path, arguments: list[str], told: str
) -> None:
    ledger = tmp_path / "none.sqlite"
    code, _, err = command("certify", done[0] / "tiny.onnx", "--ledger", ledger, *arguments)
    assert code == 2
    assert told in err
    assert not ledger.exists()


def test_missing_things_are_named(tmp_path: Path) -> None:
    for arguments, told in (
        (("certify", tmp_path / "none.onnx"), "none.onnx"),
        (("export", tmp_path), "Train first"),
        (("table", tmp_path / "none.sqlite"), "none.sqlite"),
    ):
        code, _, err = command(*arguments)
        assert code == 2
        assert told in err
        assert list(tmp_path.iterdir()) == []


def test_a_ledger_without_verdicts_has_no_table(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "empty.sqlite").close()
    code, shown, err = command("table", tmp_path / "empty.sqlite", "--out", tmp_path / "t")
    assert (code, shown) == (2, "")
    assert "expected verdicts; got none" in err
    assert not (tmp_path / "t.csv").exists()


def test_an_unfinished_training_is_not_exported(recipe: Path, tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    class Stopping:
        def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
            if epoch == 3:
                raise Stop

        def step_done(self, step: int, loss: float) -> None: ...

        def epoch_done(self, metrics: dict[str, object]) -> None: ...

    loaded = pipeline.load_recipe(recipe)
    with pytest.raises(Stop):
        pipeline.train(loaded, tmp_path, device="cpu", observer=Stopping())
    code, _, err = command("export", tmp_path)
    assert code == 2
    assert "expected 4 epochs; got 2" in err
    assert not list(tmp_path.glob("*.onnx"))


def test_objects_instead_of_files(done: tuple[Path, str]) -> None:
    from verify_pipeline import api

    trained = api.load_trained(done[0])
    network = api.network_from_module(trained.module, (1, 8, 8))
    images = data.load("digits", "test").subset(slice(0, 10))
    mine = api.ImageSet("mine", "all", images.pixels(), images.labels, 10)
    summary = api.certify(network, mine, 1 / 32, device="cpu")
    from_file = api.certify(done[0] / "tiny.onnx", images, 1 / 32, device="cpu")
    assert summary.tally.images == 10
    assert summary.tally.proved == from_file.tally.proved


def test_publish_copies_the_network_and_writes_its_card(
    done: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = done
    code, shown, err = command("publish", out, "--models", tmp_path / "models")
    assert code == 0, err
    file, card = tmp_path / "models" / "tiny.onnx", tmp_path / "models" / "tiny.md"
    assert file.read_bytes() == (out / "tiny.onnx").read_bytes()
    text = card.read_text(encoding="utf-8")
    for said in ("cc-ibp", "0.03125", table(out)["network_sha256"], table(out)["verified"]):
        assert said in text
    assert shown.count("wrote") == 2


def test_publish_needs_verdicts_of_this_very_file(done: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = done
    folder = tmp_path / "run"
    shutil.copytree(out, folder)
    other = zoo.build("mlp", (1, 8, 8), 10, (0.0,), (1.0,), width=0.1)
    pipeline.export_onnx(other, folder / "tiny.onnx", input_shape=(1, 8, 8))
    code, _, err = command("publish", folder, "--models", tmp_path / "models")
    assert code == 2
    assert "Certify it first" in err
    assert not (tmp_path / "models").exists()


def test_recheck_replays_the_counterexamples(done: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = done
    code, shown, err = command("recheck", out / "tiny.onnx")
    assert code == 0, err
    with Ledger.existing(out / "ledger.sqlite") as ledger:
        (info,) = ledger.runs()
        broken = sum(r.status is Status.FALSIFIED for r in ledger.records(info.run))
    assert broken > 0
    assert f"{broken} of {broken} counterexamples hold" in shown


def test_recheck_finds_a_forged_counterexample(done: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = done
    folder = tmp_path / "run"
    shutil.copytree(out, folder)
    with sqlite3.connect(folder / "ledger.sqlite") as raw:
        query = "SELECT image, input FROM verdicts WHERE verdict = 'falsified' ORDER BY image"
        (first, point), (_, other), *_ = raw.execute(query).fetchall()
        assert point != other
        raw.execute("UPDATE verdicts SET input = ? WHERE image = ?", (other, first))
    raw.close()
    code, _, err = command("recheck", folder / "tiny.onnx")
    assert code == 2
    assert f"image {first}: it is outside its box" in err


def test_recheck_of_own_images_asks_for_them(done: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = done
    network, ledger = out / "tiny.onnx", tmp_path / "ledger.sqlite"
    test = data.load("digits", "test")
    images, labels = tmp_path / "mine.npy", tmp_path / "labels.npy"
    np.save(images, test.images[:20].numpy())
    np.save(labels, test.labels[:20].numpy())
    arrays = ("--images", images, "--labels", labels)
    stages = ("--stages", "clean", "--ledger", ledger)
    assert command("certify", network, *arrays, *stages, "--epsilon", "0.1")[0] == 0

    code, shown, err = command("recheck", network, "--ledger", ledger)
    assert (code, shown) == (2, "")
    assert "got only runs of mine arrays" in err
    assert "--images and --labels" in err

    code, _, err = command("certify", network, *stages, "--indices", 20, "--epsilon", "0.1")
    assert code == 0, err
    code, shown, err = command("recheck", network, "--ledger", ledger)
    assert code == 0, err
    assert "mine arrays, ε = 0.1: not checked" in shown
    assert "digits test, ε = 0.1: " in shown

    code, shown, err = command("recheck", network, "--ledger", ledger, *arrays)
    assert code == 0, err
    with Ledger.existing(ledger) as book:
        runs = {info.run.data_set: list(book.records(info.run)) for info in book.runs()}
    broken = sum(record.status is Status.FALSIFIED for record in runs["mine"])
    assert broken > 0
    assert f"mine arrays, ε = 0.1: {broken} of {broken} counterexamples hold" in shown
    assert "not checked" not in shown

    np.save(images, test.images[20:40].numpy())
    code, _, err = command("recheck", network, "--ledger", ledger, *arrays)
    assert code == 2
    assert "holds another image there" in err

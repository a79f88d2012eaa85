"""A run goes on as it was begun: `--set` is remembered, others are refused, and cards tell it."""

import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.bad_input import RECIPE
from tests.cli.typed import command
from verify_pipeline.config import load_recipe
from verify_pipeline.run_folders import BEGUN

pytest.importorskip("sklearn")

SETS = ("--set", "train.seed=3", "--set", "certify.indices=4", "--set", "description=two words")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("a recipe") / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(tiny: Path) -> Path:
    """A run that was begun with three values of its own."""
    out = tiny.parent / "out"
    code, _, err = command("run", tiny, "--out", out, *SETS, "--device", "cpu")
    assert code == 0, err
    return out


@pytest.fixture
def folder(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


def test_a_run_is_continued_with_what_it_was_begun_with(tiny: Path, folder: Path) -> None:
    for sets in ((), SETS[:2], SETS, ("--set", "train.seed=3", "--set", "certify.indices=:4")):
        code, _, err = command("run", tiny, "--out", folder, *sets)
        assert code == 0, err
        assert "4 of 4 images are decided already" in err
        assert "epoch" not in err
    assert load_recipe(folder / "recipe.yaml").train.seed == 3


@pytest.mark.parametrize(
    ("key", "before", "now"),
    [
        ("train.seed", 3, 4),
        ("train.seed", 3, 0),  # the recipe's own value is another one, too
        ("certify.indices", ":4", ":5"),
        ("certify.timeout", None, 9),  # was not set when it was begun
    ],
)
def test_other_values_are_refused_and_named(
    tiny: Path, folder: Path, key: str, before: object, now: object
) -> None:
    for name in ("run", "train"):
        code, _, err = command(name, tiny, "--out", folder, *SETS[4:], "--set", f"{key}={now}")
        assert code == 2
        assert f"expected what it was begun with, {key}={before}; got {key}={now}." in err


def test_another_recipe_is_refused(tiny: Path, folder: Path) -> None:
    other = folder.parent / "other.yaml"
    other.write_text(RECIPE, encoding="utf-8")
    code, _, err = command("run", other, "--out", folder)
    assert code == 2
    assert "expected the recipe that it was begun with, tiny; got other" in err


def test_a_damaged_note_is_told(tiny: Path, folder: Path) -> None:
    for text in ("{", "[]", '{"name": "tiny", "source": "x", "device": "cpu", "set": {"a": 1}}'):
        (folder / BEGUN).write_text(text, encoding="utf-8")
        code, _, err = command("run", tiny, "--out", folder)
        assert code == 2
        assert "Delete the file; every --set has to be typed again then" in err


def test_a_card_tells_the_whole_command(tiny: Path, folder: Path, tmp_path: Path) -> None:
    """Typed as the card says, it makes the same network and the same verdicts."""
    models = tmp_path / "models"
    code, _, err = command("publish", folder, "--models", models)
    assert code == 0, err
    card = (models / "tiny.md").read_text(encoding="utf-8")
    (line,) = [line for line in card.splitlines() if line.startswith("* train: `")]
    words = shlex.split(line.removeprefix("* train: `").removesuffix("`"))
    assert words[:3] == ["verify-pipeline", "run", str(tiny)]
    assert [words[n + 1] for n, word in enumerate(words) if word == "--set"] == list(SETS[1::2])
    again = [str(tmp_path / "again") if word == str(folder) else word for word in words[1:]]
    code, _, err = command(*again)
    assert code == 0, err
    network = (models / "tiny.onnx").read_bytes()
    assert (tmp_path / "again" / "tiny.onnx").read_bytes() == network


def test_a_card_of_an_older_run_names_its_whole_recipe(folder: Path, tmp_path: Path) -> None:
    (folder / BEGUN).unlink()
    assert command("publish", folder, "--models", tmp_path / "models")[0] == 0
    card = (tmp_path / "models" / "tiny.md").read_text(encoding="utf-8")
    assert f"* train: `verify-pipeline run {folder}/recipe.yaml --out {folder}`" in card


def test_another_network_is_not_replaced_without_being_told(folder: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for _ in range(2):  # the same network may be published again
        assert command("publish", folder, "--models", models)[0] == 0
    whole = {path.name: path.read_bytes() for path in models.iterdir()}
    for name, told in (("tiny.onnx", "tiny.onnx; expected none"), ("tiny.md", "tiny.md; expected")):
        other = {**whole, name: b"another one"}
        for file, content in other.items():
            (models / file).write_bytes(content)
        code, _, err = command("publish", folder, "--models", models)
        assert code == 2
        assert told in err
        assert "--overwrite" in err
        assert {path.name: path.read_bytes() for path in models.iterdir()} == other
    assert command("publish", folder, "--models", models, "--overwrite")[0] == 0
    assert {path.name: path.read_bytes() for path in models.iterdir()} == whole


def test_an_unfinished_run_is_not_published(folder: Path, tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "ledger.sqlite") as book:
        book.execute("DELETE FROM verdicts WHERE image = 2")
    book.close()
    code, _, err = command("publish", folder, "--models", tmp_path / "models")
    assert code == 2
    assert "of every image that was asked for; got 1 images without one" in err
    assert "--set train.seed=3 --set certify.indices=4 --set 'description=two words'" in err
    assert not (tmp_path / "models").exists()

"""`certify --dry-run` as a user types it: what it says, and that it leaves everything as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.typed import command, write_network
from verify_pipeline.certify.ledger import Ledger

IMAGES = 30
STAGES = ("--stages", "clean,ibp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two pixels, and images of which every third is misclassified."""
    made = tmp_path_factory.mktemp("dry")
    write_network(made / "two.onnx", np.eye(2))
    write_network(made / "other.onnx", 2 * np.eye(2))
    pixels = np.zeros((IMAGES, 1, 1, 2), np.float32)
    pixels[:, 0, 0, 0] = 1.0
    labels = np.where(np.arange(IMAGES) % 3 == 0, 1, 0)
    np.save(made / "images.npy", pixels)
    np.save(made / "labels.npy", labels)
    np.save(made / "wrong.npy", np.ones(IMAGES, np.int64))
    np.save(made / "lower.npy", pixels.astype(np.float64) - 0.1)
    np.save(made / "upper.npy", pixels.astype(np.float64) + 0.1)
    return made


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of each file."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def typed(folder: Path, *more: object, labels: str = "labels") -> tuple[object, ...]:
    own = ("--images", folder / "images.npy", "--labels", folder / f"{labels}.npy")
    return ("certify", folder / "two.onnx", *own, "--epsilon", 0.1, *STAGES, *more)


def planned(folder: Path, *more: object, labels: str = "labels") -> dict[str, Any]:
    """The object that a dry run prints; nothing may have changed."""
    before = state(folder)
    arguments = typed(folder, *more, "--dry-run", "--json", "--measure", 120, labels=labels)
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    assert state(folder) == before
    (line,) = out.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_everything_is_measured_and_nothing_is_written(folder: Path) -> None:
    found = planned(folder)
    assert (found["images"], found["done"], found["left"]) == (IMAGES, 0, IMAGES)
    assert (found["measured"], found["measured_open"]) == (IMAGES, 0)
    shares = {name: each["expected"] for name, each in found["shares"].items()}
    assert shares == pytest.approx(
        {"verified": 2 / 3, "falsified": 0, "wrong": 1 / 3, "undecided": 0}
    )
    assert found["shares"]["wrong"]["low"] == found["shares"]["wrong"]["high"]
    assert [each["workers"] for each in found["workers"]] == [1, 2, 4, 8, 16, 64]
    assert found["start"] > 0
    one, many = found["workers"][0], found["workers"][-1]
    assert found["start"] < many["seconds_at_least"] <= one["seconds_at_least"]
    assert one["seconds_at_least"] <= one["seconds_at_most"]
    assert found["ledger_bytes"] > IMAGES
    assert found["ledger_room"] > 0
    memory = found["memory"]
    assert 0 < memory["before"] <= memory["process"] <= memory["allowed"]
    assert memory["fit"] == memory["machine"] // memory["process"]
    assert set(found["stage_seconds"]) == {"clean", "ibp"}


def test_what_the_ledger_holds_is_done(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    place = tmp_path / "copy"
    assert command(*typed(place, "--indices", ":12", "--quiet"))[0] == 0
    found = planned(place, "--jobs", 3)
    assert (found["images"], found["done"], found["left"]) == (IMAGES, 12, 18)
    assert [each["workers"] for each in found["workers"]] == [1, 2, 3, 4, 8, 16, 64]
    assert found["shares"]["wrong"]["expected"] == pytest.approx(1 / 3)
    finished = planned(place, "--indices", ":12")
    assert (finished["left"], finished["measured"], finished["workers"]) == (0, 0, [])
    assert finished["shares"]["verified"]["expected"] == pytest.approx(8 / 12)
    code, out, _ = command(*typed(place, "--indices", ":12", "--dry-run"))
    assert code == 0
    assert "12 asked, 12 done, 0 left" in out
    assert "nothing is left to do" in out
    assert (found["ledger"], found["network"]) == (str(place / "ledger.sqlite"), "two")


def test_a_ledger_that_is_written_meanwhile_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    place = tmp_path / "copy"
    assert command(*typed(place, "--indices", ":12", "--quiet"))[0] == 0
    with Ledger.open(place / "ledger.sqlite") as book:
        (info,) = book.runs()
        asked = book.asked(info.run)
        assert asked is not None
        book.register(info, asked)  # leaves a log beside the ledger
        names = sorted(path.name for path in place.glob("ledger*"))
        assert names == ["ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal"]
        before = [(place / name).read_bytes() for name in names if not name.endswith("shm")]
        code, out, _ = command(*typed(place, "--indices", ":12", "--dry-run", "--json"))
        assert (code, json.loads(out)["done"]) == (0, 12)
        assert sorted(path.name for path in place.glob("ledger*")) == names
        after = [(place / name).read_bytes() for name in names if not name.endswith("shm")]
        assert after == before


def test_a_ledger_of_another_network_decides_nothing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    place = tmp_path / "copy"
    shutil.copy(place / "two.onnx", place / "first.onnx")
    assert command(*typed(place, "--quiet"))[0] == 0
    shutil.copy(place / "other.onnx", place / "two.onnx")
    found = planned(place, "--indices", ":2")
    assert (found["done"], found["left"]) == (0, 2)


def test_images_that_are_all_misclassified_say_nothing_of_proofs(folder: Path) -> None:
    found = planned(folder, labels="wrong")
    assert found["shares"]["wrong"]["expected"] == 1.0
    assert set(found["stage_seconds"]) == {"clean"}


def test_boxes_shards_and_questions_are_planned(folder: Path) -> None:
    boxes = ("--lower", folder / "lower.npy", "--upper", folder / "upper.npy")
    code, out, err = command(
        *("certify", folder / "two.onnx", *boxes, "--labels", folder / "labels.npy"),
        *(*STAGES, "--target", 0, "--shard", "2/2", "--dry-run", "--measure", 120),
    )
    assert code == 0, err
    rows = {line[:12].strip(): line[12:] for line in out.splitlines() if line[:1].strip()}
    assert rows["images"] == "5 asked, 0 done, 5 left"
    assert rows["time"].endswith("for 5 images; all of them were measured")
    assert rows["wrong"] == "100.0 %"
    assert "measured 5 images in" in err
    assert "limited by" in rows["workers"]

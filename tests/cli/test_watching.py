"""What certify, train, run and demo print: without a terminal, quietly, and as JSON."""

import csv
import json
import re
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.cli.bad_input import RECIPE
from tests.cli.typed import command, write_network
from tests.documents import ROOT, text_of
from verify_pipeline import reports
from verify_pipeline.reporting import JsonLines, ProgressBars
from verify_pipeline.reporting.progress_lines import ProgressLines

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture
def own(tmp_path: Path) -> tuple[object, ...]:
    """A certification of four own images: one wrong, two verified, one falsified at ε = 0.2."""
    network = write_network(tmp_path / "two.onnx", np.eye(2))
    pixels = np.array([[1, 0], [0, 1], [0.4, 0.6], [0.9, 0.1]], np.float32).reshape(4, 1, 1, 2)
    np.save(tmp_path / "images.npy", pixels)
    np.save(tmp_path / "labels.npy", np.array([0, 1, 1, 1]))
    arrays = ("--images", tmp_path / "images.npy", "--labels", tmp_path / "labels.npy")
    return ("certify", network, *arrays, "--epsilon", "0.2")


def lines(text: str) -> list[dict[str, Any]]:
    """Every line as an object; a line that is none, or that no standard parser takes, fails."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    found = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert all(isinstance(one["time"], float) for one in found)
    return found


def of(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


def test_without_a_terminal_there_is_a_line_a_stage(own: tuple[object, ...]) -> None:
    code, out, err = command(*own)
    assert code == 0, err
    told = [line.partition(" in ")[0] + line.rpartition(")")[2] for line in err.splitlines()]
    assert told == [
        "clean: 4 images: 1 wrong",
        "ibp: 3 images: 2 verified",
        "attack: 1 image: 1 falsified",
    ]
    assert "ledger: " in out


def test_quiet_prints_the_result_alone(own: tuple[object, ...]) -> None:
    code, out, err = command(*own, "--quiet")
    assert (code, err) == (0, "")
    assert "ledger: " not in out
    assert "Verified" in out


def test_quiet_still_prints_errors(own: tuple[object, ...]) -> None:
    code, out, err = command(*own[:-1], "2", "--quiet")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_json_has_one_object_a_line_and_the_counts_of_the_table(own: tuple[object, ...]) -> None:
    code, out, err = command(*own, "--json")
    assert (code, err) == (0, "")
    events = lines(out)
    (started,) = of(events, "started")
    assert started["job"] == "certify"
    assert (started["images"], started["done"], started["epsilon"]) == (4, 0, 0.2)
    assert started["stages"][0] == of(events, "stage started")[0]["stage"] == "clean"
    assert [(b["stage"], b["done"], b["images"]) for b in of(events, "batch")][:2] == [
        ("clean", 4, 4),
        ("ibp", 3, 3),
    ]
    verdicts = {event["image"]: event for event in of(events, "verdict")}
    assert sorted(verdicts) == [0, 1, 2, 3]
    assert verdicts[3]["verdict"] == "falsified"
    assert verdicts[3]["outcome"] == "wrong"
    assert verdicts[3]["margin"] == pytest.approx(-0.8)
    assert verdicts[0]["bound"] == pytest.approx(0.6)  # pixels stay in [0, 1]

    (finished,) = of(events, "finished")
    assert finished is events[-1]
    (summary,) = reports.read_ledgers([Path(finished["ledger"])])
    tally = summary.tally
    counts = Counter(event["outcome"] for event in verdicts.values())
    for name, count in (
        ("wrong", tally.wrong),
        ("verified", tally.proved),
        ("falsified", sum(tally.falsified.values())),
        ("undecided", tally.undecided),
    ):
        assert finished[name] == counts[name] == count
    assert finished["images"] == finished["requested"] == 4
    assert (finished["standard"], finished["robust_at_most"]) == (3, 2)


def test_json_spells_reasons_in_one_way(own: tuple[object, ...]) -> None:
    code, out, err = command(*own, "--stages", "clean,crown", "--json")
    assert (code, err) == (0, "")
    events = lines(out)
    counts = Counter(e["reason"] for e in of(events, "verdict") if e["verdict"] == "unknown")
    assert counts["not_decided"] == 1
    assert events[-1]["undecided_by_reason"] == counts


def test_json_of_a_run_is_that_of_both_jobs(recipe: Path, tmp_path: Path) -> None:
    code, out, err = command("run", recipe, "--out", tmp_path / "run", "--json")
    assert (code, err) == (0, "")
    events = lines(out)
    jobs = [(event["event"], event["job"]) for event in events if "job" in event]
    whole = [("started", "train"), ("finished", "train"), ("started", "certify")]
    assert jobs == [*whole, ("finished", "certify")]
    epochs = of(events, "epoch")
    assert [event["epoch"] for event in epochs] == [1, 2]
    with (tmp_path / "run" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for event, row in zip(epochs, rows, strict=True):
        assert {name: str(event[name]) for name in row} == row
    with (tmp_path / "run" / "table.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    finished = events[-2]
    assert str(finished["images"]) == row["images"]
    for name in ("standard", "verified", "robust_at_most"):
        assert round(100 * finished[name] / finished["images"], 2) == float(row[name])
    assert events[-1]["event"] == "wrote"
    assert all(Path(name).is_file() for name in events[-1]["files"])
    assert {"tiny.onnx", "table.csv"} <= {Path(name).name for name in events[-1]["files"]}
    code, out, _ = command("train", recipe, "--out", tmp_path / "run", "--json")
    assert code == 0
    assert [(event["event"], event["epochs"]) for event in lines(out)] == [("finished", 2)]


def test_quiet_training_prints_one_line(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, shown, err = command("train", recipe, "--out", out, "--quiet")
    assert (code, shown, err) == (0, f"trained tiny: {out}\n", "")


def test_a_ledger_with_a_finished_sample_gives_an_estimate(tmp_path: Path) -> None:
    """40 images, more than one batch of them: the first 20 are the sample of the others."""
    network = write_network(tmp_path / "two.onnx", np.eye(2))
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.random((200, 1, 1, 2), np.float32))
    np.save(tmp_path / "labels.npy", rng.integers(0, 2, 200))
    arrays = ("--images", tmp_path / "images.npy", "--labels", tmp_path / "labels.npy")
    certify = ("certify", network, *arrays, "--epsilon", "0.01")
    _, _, err = command(*certify, "--indices", 100)
    assert "expected: not known yet for 100 images" in err
    code, _, err = command(*certify)
    assert code == 0
    assert "100 of 200 images are decided already" in err
    assert "for 100 images, if none is harder than the 100 that were certified before" in err


def documented(section: str) -> dict[tuple[str, str | None], set[str]]:
    """The fields of each event and job in a section of docs/watching.md."""
    table = text_of(ROOT / "docs" / "watching.md").split(f"# {section}\n")[1].split("\n#")[0]
    found = {}
    for name, job, text in re.findall(r"(?m)^\| `([a-z ]+)`(?: of a (\w+))? \| (.+) \|$", table):
        before_colons = " ".join(part.partition(":")[0] for part in text.split(";"))
        fields = set(re.findall(r"`(\w+)`", before_colons))
        kind = {"training": "train", "certification": "certify", "": None}[job]
        found[name, kind] = fields
    return found


def test_every_field_is_documented(recipe: Path, tmp_path: Path, own: tuple[object, ...]) -> None:
    known = documented("For programs")
    sets = ("--set", "train.data.validation=20", "--set", "train.watch.every=1")
    _, of_run, err = command("run", recipe, "--out", tmp_path / "run", "--json", *sets)
    assert not err
    seen = set()
    shared = StringIO()
    events = JsonLines(shared).certification
    events.waits_for(3, ["process 7"])
    events.took_over(3, ["process 7"])
    events.lost_worker(3, "ended by signal 9")
    for event in lines(of_run) + lines(command(*own, "--json")[1]) + lines(shared.getvalue()):
        key = event["event"], event.get("job")
        seen.add(key)
        told = set(event) - {"event", "time"}
        assert told <= known[key] if key[0] == "epoch" else told == known[key]
    assert seen == set(known)


def test_who_waits_says_for_whom() -> None:
    told: list[str] = []
    watching = ProgressLines(told.append)
    watching.waits_for(12, ["process 7"])
    watching.waits_for(1, ["process 7", "process 8 on there"])
    watching.took_over(12, ["process 7"])
    watching.lost_worker(5, "ended by signal 9")
    watching.lost_worker(0, "ended by signal 9")
    assert told == [
        "waiting for 12 images that process 7 certifies; if it ends before, this command "
        "certifies them",
        "waiting for 1 image that process 7, process 8 on there certify; if one ends before, this "
        "command certifies its images",
        "12 images of process 7 are certified here, since it has ended",
        "a worker was lost (ended by signal 9) and is started again; others get its 5 images",
        "a worker was lost (ended by signal 9) and is started again",
    ]
    drawn = StringIO()
    with ProgressBars(Console(file=drawn, width=200)) as bars:
        bars.waits_for(12, ["process 7"])
        bars.took_over(12, ["process 7"])
        bars.lost_worker(5, "ended by signal 9")
    assert drawn.getvalue().splitlines() == [told[0], told[2], told[3]]

"""The benchmark: tasks, runs in alternating order that go on where they were stopped, the table."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from against import running
from against.command import main
from against.measured import Measured, collect, of_tasks, read_measured, result_file, write_job
from against.page import contradictions, of_one_run, page
from against.tasks import ENGINES, OURS, THEIRS, Job, check, read_tasks

from tests.onnx_networks import two_pixel_file
from verify_pipeline.engines import Tool
from verify_pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
JOB = Job(source="models/net.onnx", data="mnist", epsilon="0.1", indices="0:2", timeout=30.0)


def measured(engine: str, wall: float, answers: dict[str, str], **named: Any) -> Measured:
    kept = {name: (answer, 1.0) for name, answer in answers.items()}
    return Measured(engine, "1.0", wall, wall / 2, 100.0, 1.0, 40, 4.0, kept, **named)


def test_the_page_says_how_many_cores_the_engines_had() -> None:
    one = measured("cascade", 2.0, {}, cores=1)
    two = measured("abcrown-tuned", 2.0, {}, cores=2)
    old = measured("abcrown-tuned", 2.0, {})
    assert "Cores: 1 or 2." in page({"a": {"cascade": one, "abcrown-tuned": two}}, [])
    assert "Cores: a number not kept or 1." in page({"a": {"cascade": one, "old": old}}, [])


def test_ratios_and_contradictions() -> None:
    answers = {"a": "verified", "b": "falsified", "c": "unknown"}
    others = {"a": "falsified", "b": "unknown", "c": "verified"}
    by_engine = {
        "cascade": measured("cascade", 2.0, answers),
        "cascade-giving-up": measured("cascade-giving-up", 1.0, answers),
        "abcrown-tuned": measured("abcrown-tuned", 20.0, others),
    }
    text = page({"task": by_engine}, ["command"])
    assert "| 3 | 2 | 1 | 1 | 2.0 | 1.0 | 1.00 | 10 | 100 | – | – | – |" in text
    assert "| 0.100 | 0.050 | 0.100 |" in text
    assert "Contradictions: task: a." in text
    assert "Not measured: α,β-CROWN, its defaults, in 1 of 1 tasks." in text


def test_the_page_says_whether_all_rows_are_of_one_run() -> None:
    days = [f"2026-01-0{day}T10:00:00+00:00" for day in (1, 2, 3)]
    at = {"run": days[0], "ended": days[1], "commit": "abc"}
    first = measured("cascade", 2.0, {}, **at)
    second = measured("abcrown-tuned", 2.0, {}, **at | {"commit": "abd"})
    assert of_one_run({"a": {"cascade": first}, "b": {"abcrown-tuned": second}}).startswith(
        "All 2 rows are of one run without a stop, 2026-01-01 10:00:00 to 2026-01-02 10:00:00 UTC; "
        "load 1.0 to 1.0; commit abc and abd."
    )
    later = measured("abcrown-tuned", 2.0, {}, run=days[2])
    assert of_one_run({"a": {"cascade": first, "abcrown-tuned": later}}) == (
        "The rows are not of one run: 1 of the run of 2026-01-01 10:00:00, "
        "1 of the run of 2026-01-03 10:00:00."
    )
    unknown = measured("cascade", 2.0, {})
    assert "not of one run: 1 of runs before times were kept" in of_one_run(
        {"a": {"cascade": unknown}}
    )
    assert of_one_run({}) == "The rows are not of one run: there are none."


def test_what_is_measured_here_goes_before_what_was_recorded(tmp_path: Path) -> None:
    old = measured("cascade", 99.0, {"a": "verified"})
    theirs = measured("abcrown-default", 20.0, {"a": "verified"})
    recorded = tmp_path / "recorded.json"
    recorded.write_text(
        json.dumps({JOB.name: {"cascade": asdict(old), "abcrown-default": asdict(theirs)}})
    )
    work = tmp_path / "work"
    write_job(work, JOB)
    new = measured("cascade", 2.0, {"a": "verified"}, run="now")
    result_file(work, JOB, "cascade").write_text(json.dumps(asdict(new)))
    assert read_measured(result_file(work, JOB, "cascade")).run == "now"
    found = collect(work, recorded)
    assert found[JOB.name]["cascade"].wall == 2.0
    assert found[JOB.name]["abcrown-default"].wall == 20.0
    assert contradictions(found[JOB.name]) == []
    other = Job(source="lists/2020/set/instances.csv", skip=("cascade",))
    without = Job(**asdict(JOB) | {"skip": ("abcrown-default",)})
    assert of_tasks(found, (other, without)) == {
        "2020 set, :, 60 s, tuned default": {},
        JOB.name: {"cascade": found[JOB.name]["cascade"]},
    }


def test_tasks_that_look_alike_have_folders_of_their_own() -> None:
    one, other = (Job(source="a/b/c.csv", indices=indices) for indices in ("::9", "9"))
    assert one.folder != other.folder
    assert one.folder.startswith("a-b-9-60-s-tuned-default-")


class Runs:
    """Stands in for the processes that measure: notes them, and does what a test's plan says."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.do: dict[str, int | type[BaseException]] = {}

    def __call__(self, command: list[str]) -> int:
        job, engine, out, run = command[-4:]
        key = f"{json.loads(Path(job).read_text())['source']} {engine}"
        self.order.append(key)
        what = self.do.get(key, 0)
        if isinstance(what, type):
            raise what
        if what == 0:
            Path(out).write_text(json.dumps(asdict(measured(engine, 1.0, {}, run=run))))
        return what


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The stand-in, in its place."""
    stand_in = Runs()
    monkeypatch.setattr(running, "supervise", stand_in)
    return stand_in


JOBS = (Job(source="a"), Job(source="b", skip=("abcrown-default",)), Job(source="c"))


def ordered(name: str, *engines: str) -> list[str]:
    return [f"{name} {engine}" for engine in engines]


def test_which_side_goes_first_alternates(runs: Runs, tmp_path: Path) -> None:
    lines: list[str] = []
    assert running.run(JOBS, 0, ENGINES, tmp_path, lines.append) == []
    assert runs.order == [
        *ordered("a", *OURS, *THEIRS),
        *ordered("b", "abcrown-tuned", *OURS),
        *ordered("c", *OURS, *THEIRS),
    ]
    assert lines[0].startswith("[1/11]")
    runs.order.clear()
    chosen = ("cascade", "abcrown-tuned")
    assert running.run(JOBS[2:], 1, chosen, tmp_path / "new", lines.append) == []
    assert runs.order == ordered("c", "abcrown-tuned", "cascade")


def test_a_run_goes_on_where_it_was_stopped(runs: Runs, tmp_path: Path) -> None:
    runs.do["b cascade"] = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        running.run(JOBS, 0, ENGINES, tmp_path, lambda line: None)
    done, runs.do = runs.order[:-1], {}
    runs.order.clear()
    running.run(JOBS, 0, ENGINES, tmp_path, lambda line: None)
    assert runs.order == [*ordered("b", *OURS), *ordered("c", *OURS, *THEIRS)]
    assert done == [*ordered("a", *OURS, *THEIRS), "b abcrown-tuned"]
    runs.order.clear()
    running.forget(JOBS[:1], OURS, tmp_path)
    running.run(JOBS, 0, ENGINES, tmp_path, lambda line: None)
    assert runs.order == ordered("a", *OURS)


def test_what_a_run_skips_is_not_forgotten_before_it(tmp_path: Path) -> None:
    kept, taken_anew = (result_file(tmp_path, JOBS[1], engine) for engine in THEIRS)
    kept.parent.mkdir()
    for path in (kept, taken_anew):
        path.write_text("{}")
    running.forget(JOBS, ENGINES, tmp_path)
    assert kept.exists()
    assert not taken_anew.exists()


def test_one_failure_leaves_the_rest_to_be_done(runs: Runs, tmp_path: Path) -> None:
    runs.do["a cascade"] = 2
    failed = running.run(JOBS[:1], 0, ENGINES, tmp_path, lambda line: None)
    assert failed == [f"{JOBS[0].name}: cascade: exit status 2"]
    assert runs.order == ordered("a", *ENGINES)
    assert not result_file(tmp_path, JOBS[0], "cascade").exists()


def test_stopping_ends_what_was_started(tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    note = tmp_path / "pid"
    source = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            running.supervise([sys.executable, "-c", source])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_the_tasks_of_the_repository_are_those_of_its_results() -> None:
    jobs = read_tasks(ROOT / "benchmarks" / "against_abcrown.yaml")
    recorded = collect(ROOT / "nowhere", ROOT / "results" / "against_abcrown.json")
    assert {job.name for job in jobs} == recorded.keys()
    page_there = (ROOT / "results" / "against_abcrown.md").read_text(encoding="utf-8")
    assert [job.command for job in jobs if f"`{job.command}`" not in page_there] == []


def test_mistakes_in_a_file_of_tasks_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(
        "tasks:\n  - sorce: a.onnx\n    skip: [nobody]\n  - source: b\n    timeout: 0\ntwice: 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_tasks(path)
    told = str(caught.value)
    assert "tasks[0].source (line 2): missing" in told
    assert "tasks[0].sorce (line 2): unknown key; expected one of source, data" in told
    assert "tasks[0].skip[0] (line 3)" in told
    assert "tasks[1].timeout (line 5): input should be greater than 0" in told
    assert "twice (line 6): unknown key; expected one of tasks" in told
    path.write_text("tasks: [{source: a/b/c.csv}, {source: a/b/c.csv, skip: [cascade]}]\n")
    with pytest.raises(ConfigError, match="expected tasks, each once; got a b, :"):
        read_tasks(path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"source": "nowhere.onnx"}, "network file nowhere.onnx"),
        ({"source": "nowhere.csv", "data": ""}, "file nowhere.csv"),
        ({"tuned": "nobody"}, "search 'nobody'"),
        ({"search": "nobody"}, "search 'nobody'"),
    ],
)
def test_what_a_task_lacks_is_told_before_anything_runs(wrong: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match="task '") as caught:
        check(Job(**asdict(JOB) | wrong))
    assert told in str(caught.value)


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    """A list of one property, which holds: x_0 - x_1 is at least 0.7 where x is near (0.9, 0.1)."""
    (tmp_path / "net.onnx").write_bytes(two_pixel_file(np.eye(2)))
    names = [f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1")]
    limits = [("X_0", 0.85, 0.95), ("X_1", 0.05, 0.15)]
    box = [f"(assert (>= {x} {low}))(assert (<= {x} {high}))" for x, low, high in limits]
    (tmp_path / "p.vnnlib").write_text("\n".join([*names, *box, "(assert (<= Y_0 Y_1))"]))
    path = tmp_path / "instances.csv"
    path.write_text("net.onnx,p.vnnlib,10\n")
    return path


def test_a_file_of_tasks_from_end_to_end(
    fake_tool: Callable[[str], Tool], instances: Path, tmp_path: Path
) -> None:
    tool = fake_tool(json.dumps({"0": {"status": "safe", "domains": 3}}))
    tasks, out = tmp_path / "tasks.yaml", tmp_path / "table.md"
    tasks.write_text(f"tasks: [{{source: {instances}, timeout: 5, skip: [abcrown-default]}}]\n")

    words = ("all", tasks, "--out", out, "--work", tmp_path / "work")
    engines = ("--engines", "cascade,abcrown-tuned")
    done = subprocess.run(
        [sys.executable, "benchmarks/against_abcrown.py", *map(str, words), *engines],
        cwd=ROOT,
        env=os.environ | {"ABCROWN_HOME": str(tool.script.parent), "ABCROWN_PYTHON": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "[2/2]" in done.stderr
    text = out.read_text(encoding="utf-8")
    assert done.stdout.rstrip("\n") == text.rstrip("\n")
    assert "All 2 rows are of one run without a stop" in text
    assert text.count("| 1 | 1 | 1 | 0 |") == 2
    (by_engine,) = collect(tmp_path / "nowhere", out.with_suffix(".json")).values()
    assert by_engine["abcrown-tuned"].version == "9.9"
    assert by_engine["abcrown-tuned"].domains == 3


def test_a_mistake_ends_with_a_message_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process, not of a program
    monkeypatch.chdir(tmp_path)
    for words in (("all", "nowhere.yaml"), ("list", "nowhere.csv"), ("images", "no.onnx")):
        monkeypatch.setattr(sys, "argv", ["against_abcrown.py", *words])
        with pytest.raises(SystemExit) as ended:
            main("description")
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []

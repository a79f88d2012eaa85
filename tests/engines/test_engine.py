"""Questions answered by a process that crashes, hangs, lies, or does as it should."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.engines.malicious import Malicious
from verify_pipeline.engines import Engine, Limits, Tool, ToolAnswer, ToolClaim, ToolQuestion
from verify_pipeline.problem import Reason

FakeTool = Callable[[str], Tool]
CONFIG = "general:\n  complete_verifier: auto\nbab:\n  timeout: 1\n"
SAFE, UNKNOWN = {"status": "safe", "domains": 6}, {"status": "unknown (timed out)"}


def ask(
    fake_tool: FakeTool, folder: Path, plan: dict[str, Any], limits: Limits | None = None
) -> list[ToolAnswer]:
    """Answers to one question for each entry of a plan."""
    questions = [ToolQuestion(folder / "net.onnx", f"; {name}\n", 1.0) for name in plan]
    engine = Engine(fake_tool(json.dumps(plan)), CONFIG, folder / "runs", limits)
    answers = list(engine.ask(questions))
    assert [answer.place for answer in answers] == list(range(len(plan)))
    return answers


def logs(folder: Path) -> list[Path]:
    return sorted((folder / "runs").glob("*/abcrown.log"))


def test_one_process_answers_all(fake_tool: FakeTool, tmp_path: Path) -> None:
    plan = {"a": SAFE, "b": {"status": "unsafe-pgd", "point": [0.25, 1e-3]}, "c": UNKNOWN}
    safe, unsafe, unknown = ask(fake_tool, tmp_path, plan)
    assert (safe.claim, safe.domains, safe.own_seconds) == (ToolClaim.SAFE, 6, 0.5)
    assert safe.detail == "alpha-beta-CROWN 9.9: safe, 6 domains"
    assert unsafe.claim is ToolClaim.UNSAFE
    assert unsafe.point is not None
    assert unsafe.point.tolist() == [0.25, 1e-3]
    assert (unknown.claim, unknown.reason) == (ToolClaim.OPEN, Reason.TIMEOUT)
    assert len(logs(tmp_path)) == 1
    assert not list(tmp_path.glob("runs/*/*.vnnlib"))


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ({"exit": 0}, Reason.ERROR, "exit status 0"),
        ({"say": "KeyError: 'x'", "exit": 1}, Reason.ERROR, "exit status 1: KeyError: 'x'"),
        ({"kill": int(signal.SIGSEGV)}, Reason.ERROR, "signal 11"),
        ({"kill": int(signal.SIGKILL)}, Reason.MEMORY, "out of memory"),
        ({"say": "torch.OutOfMemoryError: CUDA", "exit": 1}, Reason.MEMORY, "OutOfMemoryError"),
        ({"say": "DefaultCPUAllocator: can't allocate memory", "exit": 1}, Reason.MEMORY, "memory"),
        ({"sleep": 60}, Reason.TIMEOUT, "ended after"),
    ],
)
def test_an_instance_that_breaks_it_is_unknown_and_the_others_go_on(
    fake_tool: FakeTool, tmp_path: Path, fault: dict[str, Any], reason: Reason, words: str
) -> None:
    plan = {"a": SAFE, "b": fault, "c": SAFE, "d": UNKNOWN}
    first, broken, third, fourth = ask(fake_tool, tmp_path, plan, Limits(overrun=0.4))
    assert first.claim is third.claim is ToolClaim.SAFE
    assert fourth.reason is Reason.TIMEOUT
    assert (broken.claim, broken.reason) == (ToolClaim.OPEN, reason)
    assert words in broken.detail
    assert broken.seconds > 0
    one, _ = logs(tmp_path)
    assert f"log: {one}" in broken.detail


def test_bulk_goes_also_where_whoever_asks_stops(fake_tool: FakeTool, tmp_path: Path) -> None:
    plan = json.dumps({"a": SAFE, "b": {"status": "safe", "sleep": 60}})
    engine = Engine(fake_tool(plan), CONFIG, tmp_path / "runs")
    questions = [ToolQuestion(tmp_path / "net.onnx", f"; {name}\n", 1.0) for name in "ab"]
    answers = cast("Generator[ToolAnswer, None, None]", engine.ask(questions))
    assert next(answers).claim is ToolClaim.SAFE
    assert list((tmp_path / "runs").rglob("*.vnnlib"))
    answers.close()
    assert not list((tmp_path / "runs").rglob("*.vnnlib"))
    assert logs(tmp_path)


def test_a_tool_that_does_not_start_is_given_up(fake_tool: FakeTool, tmp_path: Path) -> None:
    fault = {"say": "ModuleNotFoundError: No module named 'gurobipy'", "exit": 1}
    answers = ask(fake_tool, tmp_path, dict.fromkeys("abcdefgh", fault))
    assert len(logs(tmp_path)) == Limits().crashes
    assert all(answer.reason is Reason.ERROR for answer in answers)
    assert all("No module named 'gurobipy'" in answer.detail for answer in answers)


def test_half_a_results_file_takes_nothing_back(fake_tool: FakeTool, tmp_path: Path) -> None:
    plan = {
        "a": SAFE,
        "pause": {"status": "safe", "sleep": 0.5},
        "b": {"write": pickle.dumps({"results": []})[:7].hex(), "sleep": 0.5},
        "c": {"exit": 1},
    }
    answers = ask(fake_tool, tmp_path, plan)
    assert [answer.claim for answer in answers] == [
        ToolClaim.SAFE,
        ToolClaim.SAFE,
        ToolClaim.OPEN,
        ToolClaim.OPEN,
    ]


def test_a_malicious_results_file_decides_nothing(fake_tool: FakeTool, tmp_path: Path) -> None:
    trace = tmp_path / "was-here"
    content = pickle.dumps({"results": [["safe", 1.0]], "bab_ret": [Malicious(trace)]})
    (answer,) = ask(fake_tool, tmp_path, {"a": {"write": content.hex()}})
    assert (answer.claim, answer.reason) == (ToolClaim.OPEN, Reason.ERROR)
    assert not trace.exists()


def test_more_rows_than_questions_are_not_read(fake_tool: FakeTool, tmp_path: Path) -> None:
    content = pickle.dumps({"results": [["safe", 1.0], ["unsafe-pgd", 1.0]]})
    (answer,) = ask(fake_tool, tmp_path, {"a": {"write": content.hex()}})
    assert answer.claim is ToolClaim.SAFE


def test_a_counterexample_that_does_not_read_is_none(fake_tool: FakeTool, tmp_path: Path) -> None:
    nan, missing = ask(
        fake_tool,
        tmp_path,
        {
            "a": {"status": "unsafe-bab", "point": [float("nan")]},
            "b": {"status": "unsafe-bab"},
        },
    )
    assert nan.point is missing.point is None


def test_who_stops_asking_leaves_nothing_running(fake_tool: FakeTool, tmp_path: Path) -> None:
    plan = {"a": SAFE, "b": {"say": "pid", "sleep": 60}}
    tool = fake_tool(json.dumps(plan))
    script = tool.script.read_text(encoding="utf-8")
    pid_file = tmp_path / "pid"
    tool.script.write_text(
        f"import os\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\n" + script,
        encoding="utf-8",
    )
    engine = Engine(tool, CONFIG, tmp_path / "runs")
    answers = engine.ask([ToolQuestion(tmp_path / "n.onnx", f"; {name}\n", 30.0) for name in plan])
    assert next(answers).claim is ToolClaim.SAFE
    answers.close()  # type: ignore[attr-defined]
    pid = int(pid_file.read_text(encoding="utf-8"))
    time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_who_is_killed_takes_the_tool_along(fake_tool: FakeTool, tmp_path: Path) -> None:
    tool = fake_tool("{}")
    pid_file = tmp_path / "pid"
    tool.script.write_text(
        f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n",
        encoding="utf-8",
    )
    asking = (
        "from pathlib import Path\n"
        "from verify_pipeline.engines import Engine, ToolQuestion, find_tool\n"
        f"tool = find_tool(Path({str(tool.script)!r}))\n"
        f"engine = Engine(tool, 'general: {{}}', Path({str(tmp_path / 'runs')!r}))\n"
        "list(engine.ask([ToolQuestion(Path('n.onnx'), '; a', 60.0)]))\n"
    )
    package = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", asking], cwd=package) as asker:
        while not pid_file.exists() or not pid_file.read_text(encoding="utf-8"):
            assert asker.poll() is None
            time.sleep(0.05)
        asker.kill()
    pid = int(pid_file.read_text(encoding="utf-8"))
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} goes on")


def is_running(pid: int) -> bool:
    """Whether a process is there that is more than a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_memory_can_be_limited(fake_tool: FakeTool, tmp_path: Path) -> None:
    tool = fake_tool("{}")
    tool.script.write_text(
        "import time\ntime.sleep(0.5)\nblock = bytearray(1 << 30)\nprint(len(block))\n",
        encoding="utf-8",
    )
    question = ToolQuestion(tmp_path / "n.onnx", "; a\n", 30.0)
    limited = Engine(tool, CONFIG, tmp_path / "runs", Limits(memory=512 << 20))
    (answer,) = limited.ask([question])
    assert answer.reason is Reason.MEMORY


def test_the_files_of_a_run(fake_tool: FakeTool, tmp_path: Path) -> None:
    ask(fake_tool, tmp_path, {"a": SAFE})
    (folder,) = (tmp_path / "runs").iterdir()
    with (folder / "config.yaml").open(encoding="utf-8") as file:
        config = yaml.safe_load(file)
    assert config["general"]["complete_verifier"] == "bab"
    assert config["general"]["device"] == "cpu"
    assert config["general"]["results_file"] == str(folder / "results.pkl")
    assert "timeout" not in config["bab"]
    row = (folder / "instances.csv").read_text(encoding="utf-8")
    assert row == f"{tmp_path / 'net.onnx'},0.vnnlib,1.000\n"

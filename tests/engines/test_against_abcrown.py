"""The benchmark's table: from what was measured here, and from what was recorded elsewhere."""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "against_abcrown.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("against_abcrown", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["against_abcrown"] = module
    spec.loader.exec_module(module)
    return module


def measured(benchmark: ModuleType, engine: str, wall: float, **answers: str) -> Any:
    kept = {name: (answer, 1.0) for name, answer in answers.items()}
    return benchmark.Measured(engine, "1.0", wall, wall / 2, 100.0, 1.0, 40, 4.0, kept)


def test_ratios_and_contradictions(benchmark: ModuleType) -> None:
    ours = measured(benchmark, "cascade", 2.0, a="verified", b="falsified", c="unknown")
    theirs = measured(benchmark, "abcrown-tuned", 20.0, a="falsified", b="unknown", c="verified")
    brief = measured(benchmark, "cascade-giving-up", 1.0, a="verified", b="falsified", c="unknown")
    all_three = {"cascade": ours, "cascade-giving-up": brief, "abcrown-tuned": theirs}
    text = benchmark.page({"task": all_three}, ["command"])
    assert "| 3 | 2 | 1 | 1 | 2.0 | 1.0 | 1.00 | 10 | 100 | – | – | – |" in text
    assert "| 0.100 | 0.050 | 0.100 |" in text
    assert "Contradictions: task: a." in text


def test_what_is_measured_here_goes_before_what_was_recorded(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    job = benchmark.Job("models/net.onnx", "mnist", "0.1", "0:2", 30.0, "default", "", "cpu")
    old = measured(benchmark, "cascade", 99.0, a="verified")
    theirs = measured(benchmark, "abcrown-default", 20.0, a="verified")
    recorded = tmp_path / "recorded.json"
    recorded.write_text(
        json.dumps({job.name: {"cascade": asdict(old), "abcrown-default": asdict(theirs)}})
    )
    folder = tmp_path / "work" / "task"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    new = measured(benchmark, "cascade", 2.0, a="verified")
    (folder / "cascade.json").write_text(json.dumps(asdict(new)))
    found = benchmark.collect(tmp_path / "work", recorded)[job.name]
    assert found["cascade"].wall == 2.0
    assert found["abcrown-default"].wall == 20.0
    assert benchmark.contradictions(found) == []

"""The commands that ask another engine, with the stand-in as the tool."""

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from tests.onnx_networks import two_pixel_file
from verify_pipeline.cli.app import app
from verify_pipeline.engines import Tool
from verify_pipeline.onnx import export_onnx

FakeTool = Callable[[str], Tool]


@pytest.fixture(autouse=True)
def _no_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("ABCROWN_HOME", "ABCROWN_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Class 0 iff x_0 >= x_1, of two pixels."""
    path = tmp_path / "net.onnx"
    path.write_bytes(two_pixel_file(np.eye(2)))
    return path


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[str, ...]:
    """Options that name two images of class 0: one far from class 1, one near."""
    np.save(tmp_path / "x.npy", np.array([[[[0.9, 0.1]]], [[[0.5, 0.45]]]], np.float32))
    np.save(tmp_path / "y.npy", np.array([0, 0], np.int64))
    return "--images", "x.npy", "--labels", "y.npy", "--epsilon", "0.1"


def test_certify_asks_the_tool_about_what_is_open(
    fake_tool: FakeTool, network: Path, arrays: tuple[str, ...]
) -> None:
    home = fake_tool(json.dumps({"0": {"status": "safe"}, "1": {"status": "unknown"}})).script
    code, output = run(
        *("certify", network, *arrays, "--stages", "clean,abcrown"),
        *("--ledger", "ledger.sqlite", "--abcrown-home", home),
    )
    assert code == 0, output
    assert "by α,β-CROWN" in output
    assert Path("ledger.abcrown/0001/abcrown.log").is_file()
    code, output = run(
        *("certify", network, *arrays, "--engine", "abcrown"),
        *("--ledger", "other.sqlite", "--abcrown-home", home),
    )
    assert code == 0, output  # the cheap stages leave nothing open
    assert not Path("other.abcrown/0001").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--engine", "abcrown"), "none found"),
        (("--engine", "abcrown", "--abcrown-home", "nowhere"), "--abcrown-home names"),
        (("--engine", "marabou"), "expected builtin or abcrown"),
        (("--abcrown-home", "nowhere"), "expected --engine abcrown beside them"),
        (("--abcrown-memory", "100"), "expected --engine abcrown beside them"),
        (("--engine", "abcrown", "--search", "no-such"), "none found"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    network: Path, arrays: tuple[str, ...], options: tuple[str, ...], words: str
) -> None:
    code, output = run("certify", network, *arrays, "--ledger", "ledger.sqlite", *options)
    assert code == 2
    assert words in output
    assert "Traceback" not in output
    assert not Path("ledger.sqlite").exists()


def property_list(folder: Path, network: Path) -> Path:
    """A list of two: class 1 is reached in the first box, and not in the second."""
    for name, highest in (("first", 1.0), ("second", 0.05)):
        limits = "".join(
            f"(declare-const X_{i} Real)(declare-const Y_{i} Real)\n" for i in range(2)
        )
        (folder / f"{name}.vnnlib").write_text(
            f"; {name}\n{limits}(assert (>= X_0 0.1))\n(assert (<= X_0 0.2))\n"
            f"(assert (>= X_1 0.0))\n(assert (<= X_1 {highest}))\n(assert (>= Y_1 Y_0))\n",
            encoding="utf-8",
        )
    path = folder / "instances.csv"
    rows = [f"{network.name},{name}.vnnlib,5\n" for name in ("first", "second")]
    path.write_text("".join(rows), encoding="utf-8")
    return path


def test_crosscheck_of_a_list_agrees_and_goes_on(
    fake_tool: FakeTool, network: Path, tmp_path: Path
) -> None:
    instances = property_list(tmp_path, network)
    plan = {"first": {"status": "unsafe-pgd", "point": [0.15, 0.9]}, "second": {"status": "safe"}}
    command = ("crosscheck", "--instances", instances, "--out", "check", "--abcrown-home")
    code, output = run(*command, fake_tool(json.dumps(plan)).script)
    assert code == 0, output
    assert "2 agree, 0 CONTRADICT" in output
    page = Path("check.md").read_text(encoding="utf-8")
    assert "| net.onnx first.vnnlib | sat |" in page
    assert "verify-pipeline" in page
    assert run(*command, tmp_path / "tool")[0] == 0
    assert len(list(Path("check.builtin.abcrown").glob("0*"))) == 1


def test_a_property_that_is_no_text_is_unknown_to_both(
    fake_tool: FakeTool, network: Path, tmp_path: Path
) -> None:
    instances = property_list(tmp_path, network)
    (tmp_path / "first.vnnlib").write_bytes(b"\xff\xfe")
    home = fake_tool(json.dumps({"second": {"status": "safe"}})).script
    code, output = run(
        "crosscheck", "--instances", instances, "--out", "check", "--abcrown-home", home
    )
    assert code == 0, output
    assert "1 agree, 0 CONTRADICT, 0 builtin only, 0 abcrown only, 1 neither decided" in output


def test_crosscheck_tells_a_contradiction_with_its_exit_code(
    fake_tool: FakeTool, network: Path, tmp_path: Path
) -> None:
    instances = property_list(tmp_path, network)
    plan = {"first": {"status": "safe"}, "second": {"status": "unknown"}}
    home = fake_tool(json.dumps(plan)).script
    code, output = run(
        "crosscheck", "--instances", instances, "--out", "check", "--abcrown-home", home
    )
    assert code == 2
    assert "contradiction: net.onnx first.vnnlib" in output
    assert "CONTRADICT" in Path("check.csv").read_text(encoding="utf-8")


def test_a_claimed_counterexample_of_a_list_is_replayed(
    fake_tool: FakeTool, network: Path, tmp_path: Path
) -> None:
    instances = property_list(tmp_path, network)
    wrong = {"status": "unsafe-pgd", "point": [0.2, 0.01]}
    home = fake_tool(json.dumps({"first": wrong, "second": wrong})).script
    code, output = run(
        "crosscheck", "--instances", instances, "--out", "check", "--abcrown-home", home
    )
    assert code == 0, output
    assert "0 CONTRADICT, 2 builtin only" in output


def test_crosscheck_of_images_with_few_inputs(fake_tool: FakeTool, tmp_path: Path) -> None:
    """Their boxes are halved by our engine: that is no cheap stage, and is compared."""
    torch.manual_seed(0)
    layers = nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 2)
    module = nn.Sequential(nn.Flatten(), *layers).eval()
    with torch.no_grad():
        for weights in module.parameters():
            weights *= 2.5
    export_onnx(module, tmp_path / "few.onnx", (1, 1, 4), {})
    x = torch.rand(30, 1, 1, 4)
    np.save("x.npy", x.numpy())
    np.save("y.npy", module(x).argmax(1).numpy())
    home = fake_tool(json.dumps({str(place): {"status": "safe"} for place in range(30)})).script
    code, output = run(
        *("crosscheck", "few.onnx", "--images", "x.npy", "--labels", "y.npy", "--epsilon", "0.3"),
        *("--out", "check", "--timeout", "20", "--abcrown-home", home),
    )
    assert code == 0, output
    assert re.search(r"[1-9][0-9]* agree, 0 CONTRADICT", output)


def test_crosscheck_behind_a_preprocessing(
    fake_tool: FakeTool, network: Path, arrays: tuple[str, ...]
) -> None:
    home = fake_tool(json.dumps({"0": {"status": "unsafe-pgd", "point": [0.4, 0.55]}})).script
    code, output = run(
        *("crosscheck", network, *arrays, "--mean", "0.5", "--std", "0.25"),
        *("--out", "check", "--abcrown-home", home),
    )
    assert code == 0, output
    assert "nothing to compare" in output  # the attack breaks one, interval bounds prove the other
    with sqlite3.connect("check.sqlite") as book:
        ((asked,),) = book.execute("SELECT perturbation FROM runs").fetchall()
    assert asked.endswith("mean 0.5 std 0.25")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "a network, or --instances"),
        (("@network", "--instances", "@list"), "a network, or --instances"),
        (("--instances", "@list", "--epsilon", "0.1"), "Leave out --epsilon, or --instances"),
        (("--instances", "@list", "--data", "mnist"), "Leave out --data, or --instances"),
        (("--instances", "@list", "--mean", "0.5"), "Leave out --mean, or --instances"),
        (("--instances", "@list", "--timeout", "0"), "seconds > 0"),
        (("--instances", "@list", "--timeout", "nan"), "seconds > 0"),
        (("--instances", "@list", "--timeout", "soon"), "seconds > 0"),
        (("--instances", "@list", "--indices", "7,8"), "images from 0 to 1"),
        (("--instances", "@list", "--search", "@network"), "readable UTF-8"),
    ],
)
def test_crosscheck_refuses_what_it_would_not_heed(
    fake_tool: FakeTool, network: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    named = {"@network": str(network), "@list": str(property_list(tmp_path, network))}
    home = fake_tool("{}").script
    before = sorted(tmp_path.rglob("*"))
    code, output = run(
        *("crosscheck", *(named.get(word, word) for word in options)),
        *("--out", "check", "--abcrown-home", home),
    )
    assert code == 2
    assert words in output
    assert "Traceback" not in output
    assert sorted(tmp_path.rglob("*")) == before

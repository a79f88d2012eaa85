"""`verify-pipeline vnnlib`: one line, and a counterexample file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.typed import command
from tests.onnx_networks import layers_file, node, onnx_file, singles
from verify_pipeline.interop import text_files as files
from verify_pipeline.interop.counterexamples import read_counterexample, replay_counterexample
from verify_pipeline.interop.vnnlib import read_vnnlib
from verify_pipeline.onnx import Network, load_network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Y_0 = |X_0|."""
    path = tmp_path_factory.mktemp("network") / "abs.onnx"
    path.write_bytes(layers_file(("n", 1), ([[1], [-1]],), "Relu", ([[1, 1]],)))
    return path


def write_property(folder: Path, constraint: str) -> Path:
    path = folder / "p.vnnlib"
    path.write_text(
        "(declare-const X_0 Real) (declare-const Y_0 Real)\n"
        f"(assert (>= X_0 -1)) (assert (<= X_0 2))\n(assert {constraint})"
    )
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    return command("vnnlib", *arguments, "--device", "cpu")


def test_unsat(network: Path, tmp_path: Path) -> None:
    prop = write_property(tmp_path, "(<= Y_0 -0.01)")
    assert run("--onnx", network, "--property", prop, "--timeout", 60)[:2] == (0, "unsat\n")


def test_sat_writes_the_counterexample(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prop = write_property(tmp_path, "(>= Y_0 1.5)")
    code, out, err = run("--onnx", network, "--property", prop)
    assert (code, out) == (0, "sat\n")
    assert err == "counterexample: abs_p.counterexample\n"
    claim = read_counterexample(tmp_path / "abs_p.counterexample")
    replay = load_network(network).replay
    assert replay_counterexample(replay, read_vnnlib(prop), claim.inputs, claim.outputs).strict


def test_the_comparison_with_onnxruntime_can_be_left_out(tmp_path: Path) -> None:
    """Of a file that loses all digits in float32: Y = (X + 1e9) - 1e9."""
    nodes = [node("Add", "x", "c", "s"), node("Sub", "s", "c", "y")]
    path = tmp_path / "coarse.onnx"
    path.write_bytes(onnx_file(nodes, ("n", 1), singles(c=[1e9])))
    prop = write_property(tmp_path, "(<= Y_0 -1.01)")
    code, out, err = run("--onnx", path, "--property", prop)
    assert (code, out) == (2, "")
    assert "a graph that computes what onnxruntime does" in err
    assert run("--onnx", path, "--property", prop, "--no-parity-check")[:2] == (0, "unsat\n")


def test_what_comes_before_the_instance_is_not_charged(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the start alone took longer than a short deadline."""
    honest, real, late = files.read_network, time.perf_counter, [0.0]

    def slow(*arguments: Any) -> Network:
        late[0] += 1000.0
        return honest(*arguments)

    monkeypatch.setattr(time, "perf_counter", lambda: real() + late[0])
    monkeypatch.setattr(files, "read_network", slow)
    prop = write_property(tmp_path, "(<= Y_0 -0.01)")
    assert run("--onnx", network, "--property", prop, "--timeout", 60)[:2] == (0, "unsat\n")


def test_no_time(network: Path, tmp_path: Path) -> None:
    prop = write_property(tmp_path, "(<= Y_0 -0.01)")
    code, out, _ = run("--onnx", network, "--property", prop, "--timeout", 1e-9)
    assert (code, out) == (0, "timeout\n")


@pytest.mark.parametrize(
    ("constraint", "options", "expected"),
    [
        ("(<= Y_7 0)", (), "p.vnnlib, line 3; expected a number or a declared variable; got Y_7"),
        ("(<= Y_0 0)", ("--timeout", "-1"), "timeout; expected seconds > 0"),
        ("(<= Y_0 0)", ("--search", "no-such"), "search 'no-such'"),
    ],
)
def test_a_users_mistake_is_a_message_and_no_verdict(
    constraint: str, options: tuple[str, ...], expected: str, network: Path, tmp_path: Path
) -> None:
    prop = write_property(tmp_path, constraint)
    code, out, err = run("--onnx", network, "--property", prop, *options)
    assert (code, out) == (2, "")
    assert expected in err


def run_set(folder: Path, *arguments: object) -> tuple[int, str, str]:
    names = (folder / "instances.csv", "--out", folder / "results.csv", "--device", "cpu")
    return command("vnncomp", *names, *arguments)


def test_a_set(network: Path, tmp_path: Path) -> None:
    write_property(tmp_path, "(>= Y_0 1.5)")
    (tmp_path / "instances.csv").write_text(f"{network},p.vnnlib,30\n")
    reference = tmp_path / "known.csv"
    reference.write_text(f"onnx,vnnlib,verdict\n{network},p.vnnlib,sat\n")
    code, out, err = run_set(tmp_path, "--reference", reference)
    assert code == 0
    assert "sat 1, unsat 0, timeout 0, unknown 0\n" in out
    assert "decided 1 of 1 known; 0 contradictions\n" in out
    assert "p.vnnlib sat" in err
    assert (tmp_path / "counterexamples" / "abs_p.counterexample").is_file()

    reference.write_text(f"onnx,vnnlib,verdict\n{network},p.vnnlib,unsat\n")
    code, out, err = run_set(tmp_path, "--reference", reference)
    assert (code, err) == (2, f"contradiction: {network} p.vnnlib, known as unsat\n")
    assert "; 1 contradiction\n" in out


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    code, out, err = run_set(tmp_path)
    assert (code, out) == (2, "")
    assert "instances.csv" in err

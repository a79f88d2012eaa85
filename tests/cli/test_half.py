"""Files in float16 and bfloat16, with commands as they are typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.cli.typed import command
from tests.half_files import HALVES, converted, numbers
from tests.onnx_networks import layers_file, node, onnx_file
from verify_pipeline.interop.counterexamples import read_counterexample, strict_counterexample
from verify_pipeline.interop.vnnlib import read_vnnlib
from verify_pipeline.onnx import export_onnx, load_network
from verify_pipeline.rounding import nearest

NAMES = pytest.mark.parametrize("name", HALVES)
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16}
BOXES = ("--lower", "lower.npy", "--upper", "upper.npy", "--labels", "labels.npy")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A convolutional network of three classes."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )
    path = tmp_path_factory.mktemp("exported") / "net.onnx"
    export_onnx(module.eval(), path, (1, 6, 6), {})
    return path.read_bytes()


@pytest.fixture
def folder(exported: bytes, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The network in half precision, and three small and three large boxes around images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(converted(exported, name))
    (tmp_path / "casts.onnx").write_bytes(converted(exported, name, behind_casts=True))
    images = np.random.default_rng(0).random((6, 1, 6, 6))
    widths = np.array([0.003] * 3 + [0.5] * 3).reshape(-1, 1, 1, 1)
    graph = load_network("net.onnx").graph
    np.save("lower.npy", images - widths)
    np.save("upper.npy", images + widths)
    np.save("labels.npy", graph(torch.from_numpy(images)).argmax(1).numpy())
    return tmp_path


def certified(*options: str) -> dict[str, str]:
    """The row of a table of a new ledger."""
    code, out, err = command("certify", *options, *BOXES, "--timeout", "5", "--ledger", "l.sqlite")
    assert (code, err.count("Traceback")) == (0, 0), (out, err)
    code, out, _ = command("table", "l.sqlite", "--format", "csv")
    assert code == 0
    header, *rows = out.strip().splitlines()
    return dict(zip(header.split(","), rows[-1].split(","), strict=True))


@NAMES
@pytest.mark.parametrize("file", ["net.onnx", "casts.onnx"])
def test_certify_and_recheck(folder: Path, name: str, file: str) -> None:
    assert certified(file)["verified"] == "50.0"
    code, out, err = command("recheck", file, *BOXES, "--ledger", "l.sqlite")
    assert code == 0, (out, err)
    assert "3 of 3 counterexamples" in out


@NAMES
def test_certify_as_deployed(folder: Path, name: str) -> None:
    assert certified("net.onnx")["verified"] == "50.0"
    deployed = certified("net.onnx", "--arithmetic", name)
    # bfloat16's roundings are as large as the margins
    assert float(deployed["as_deployed"]) == {"float16": 50.0, "bfloat16": 0.0}[name]


@NAMES
def test_certify_in_mixed_precision(folder: Path, name: str) -> None:
    for file in ("net.onnx", "casts.onnx"):
        deployed = certified(file, "--arithmetic", f"mixed-{name}")
        assert float(deployed["as_deployed"]) == 50.0, file


@NAMES
def test_an_arithmetic_that_is_not_the_files_is_told(folder: Path, name: str) -> None:
    for file in ("net.onnx", "casts.onnx"):
        code, _, err = command("certify", file, *BOXES, "--arithmetic", "float32", "--ledger", "l")
        assert code == 2
        assert (
            f"arithmetic; expected {name} or mixed-{name}; "
            f"got float32, for a file that computes in {name}" in err
        )
        assert f"write --arithmetic {name}" in err


@NAMES
def test_proofs_are_checked(folder: Path, name: str) -> None:
    """The checker reads the files anew, by code of its own."""
    code, out, err = command(
        "certify",
        "net.onnx",
        *BOXES,
        "--timeout",
        "5",
        "--proofs",
        "proofs",
        "--ledger",
        "l.sqlite",
    )
    assert code == 0, (out, err)
    code, out, err = command("check-proofs", "proofs", "--network", "net.onnx")
    assert code == 0, (out, err)
    assert "checked: 3\nrefused: 0\nrejected: 0\n" in out


@NAMES
def test_mixed_files_are_told(tmp_path: Path, name: str) -> None:
    data = onnx_file(
        [node("Add", "x", "w", "y")],
        ("n", 2),
        {"w": np.zeros(2, np.float32)},
        input_type=HALVES[name],
    )
    (tmp_path / "mixed.onnx").write_bytes(data)
    (tmp_path / "p.vnnlib").write_text(
        "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
        "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))(assert (<= Y_0 0))"
    )
    code, out, err = command(
        "vnnlib", "--onnx", tmp_path / "mixed.onnx", "--property", tmp_path / "p.vnnlib"
    )
    assert (code, out) == (2, "")
    assert f"expected inputs of one type; got {name} and float32. Put a Cast in front" in err


@NAMES
def test_vnncomp(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Y_0 = |X_0|, below 0 nowhere, above 1.69 in places; 0.3 is no number of these."""
    monkeypatch.chdir(tmp_path)
    single = layers_file(("n", 1), ([[1], [-1]],), "Relu", ([[1, 1]],))
    Path("abs.onnx").write_bytes(converted(single, name))
    limits = {"unsat": ("-1", "2", "(<= Y_0 -0.1)"), "sat": ("0.3", "1.7", "(>= Y_0 1.69)")}
    lines = []
    for answer, (low, high, constraint) in limits.items():
        Path(f"{answer}.vnnlib").write_text(
            "(declare-const X_0 Real) (declare-const Y_0 Real)\n"
            f"(assert (>= X_0 {low})) (assert (<= X_0 {high}))\n(assert {constraint})"
        )
        lines.append(f"abs.onnx,{answer}.vnnlib,10")
    Path("list.csv").write_text("\n".join(lines) + "\n")
    code, out, err = command("vnncomp", "list.csv", "--out", "results.csv", "--device", "cpu")
    assert code == 0, (out, err)
    results = Path("results.csv").read_text()
    assert "unsat.vnnlib,unsat" in results
    assert "sat.vnnlib,sat" in results
    (claimed,) = Path().rglob("*.counterexample*")
    point = read_counterexample(claimed).inputs
    assert torch.equal(nearest(point.double(), TORCH[name]), point.double())
    assert 0.3 <= float(point) <= 1.7
    replay = load_network("abs.onnx").replay
    assert strict_counterexample(replay, read_vnnlib(Path("sat.vnnlib")), point, TORCH[name])
    code, out, err = command(
        "vnncomp", "list.csv", "--out", "deployed.csv", "--arithmetic", name, "--device", "cpu"
    )
    assert code == 0, (out, err)
    assert "unsat.vnnlib,unsat" in Path("deployed.csv").read_text()
    code, _, err = command("vnncomp", "list.csv", "--out", "x.csv", "--arithmetic", "float32")
    assert code == 2
    assert f"expected {name} or mixed-{name}; got float32" in err
    assert numbers(name, [0.3]).astype(float) != 0.3

"""Counterexample files, and the replay of every published one beside the repository."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from verify_pipeline.errors import DataError
from verify_pipeline.interop.counterexamples import (
    counterexample_text,
    read_counterexample,
    replay_counterexample,
    write_counterexample,
)
from verify_pipeline.interop.instance_list import read_instances
from verify_pipeline.interop.vnnlib import parse_vnnlib, read_vnnlib
from verify_pipeline.onnx import Network, load_network

PROPERTY = parse_vnnlib(
    """(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real)
       (assert (>= X_0 0)) (assert (<= X_0 1)) (assert (>= X_1 0)) (assert (<= X_1 1))
       (assert (>= Y_0 1))"""
)


def total(x: Tensor) -> Tensor:
    """A network: the sum of its inputs."""
    return x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("point", "strict", "accepted"),
    [
        ([0.5, 0.5], True, True),
        ([1.0, 1.0], True, True),
        ([0.5, 0.4], False, False),
        ([0.5, 0.49995], False, True),
        ([1.00005, 0.5], False, True),
        ([1.1, 0.5], False, False),
        ([float("nan"), 0.5], False, False),
    ],
)
def test_replay(point: list[float], strict: bool, accepted: bool) -> None:
    found = replay_counterexample(total, PROPERTY, torch.tensor(point))
    assert (found.strict, found.accepted) == (strict, accepted)


@pytest.mark.parametrize(("claimed", "accepted"), [(1.5, True), (1.5012, True), (1.6, False)])
def test_claimed_outputs_are_compared(claimed: float, accepted: bool) -> None:
    found = replay_counterexample(
        total, PROPERTY, torch.tensor([1.0, 0.5]), torch.tensor([claimed])
    )
    assert (found.strict, found.accepted) == (True, accepted)
    assert found.difference == pytest.approx(abs(claimed - 1.5), abs=1e-6)


def test_claims_of_another_network_are_refused() -> None:
    with pytest.raises(DataError, match="outputs"):
        replay_counterexample(total, PROPERTY, torch.zeros(2), torch.zeros(3))


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1), st.lists(finite, min_size=1))
def test_files_read_back(
    tmp_path_factory: pytest.TempPathFactory, x: list[float], y: list[float]
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.counterexample"
    point, output = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    write_counterexample(path, point, output)
    found = read_counterexample(path)
    assert found.outputs is not None
    assert torch.equal(found.inputs, point)
    assert torch.equal(found.outputs, output)


def test_text_of_a_small_one() -> None:
    text = counterexample_text(
        torch.tensor([[0.5, -2.0]]), torch.tensor([1e-7], dtype=torch.float64)
    )
    assert text == "((X_0 0.5)\n(X_1 -2.0)\n(Y_0 1e-07))\n"


def test_other_hands_write_them_a_little_differently(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("sat\r\n((X_0  0.5)\r\n (X_1 1)) ; no outputs")
    found = read_counterexample(path)
    assert found.inputs.tolist() == [0.5, 1.0]
    assert found.outputs is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "X_0 value"),
        ("sat", "X_0 value"),
        ("()", "values of inputs"),
        ("((Y_0 1))", "values of inputs"),
        ("((X_0 1)\n(X_2 1))", "line 2; expected X_1"),
        ("((X_0 1)\n(X_0 1))", "line 2; expected X_1"),
        ("((X_0 nan))", "a number"),
        ("((X_0 1)) more", "nothing else"),
        ("((X_0 1)", "nothing else"),
        ("((X_0 1 2))", r"expected \)"),
        ("((X_0 ()))", "a name and a number"),
        ("((Z_0 1))", "X_i or Y_j"),
        ("unsat", r"expected \("),
    ],
)
def test_broken_files_are_refused(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(text)
    with pytest.raises(DataError, match=expected):
        read_counterexample(path)


# Published counterexamples of each set, and how many of them hold without any tolerance: most of
# rl_benchmarks lie on limits that float32 does not have.
PUBLISHED = {
    "2022_acasxu": (47, 46),
    "2022_mnist_fc": (18, 18),
    "2022_rl_benchmarks": (103, 10),
    "2022_sri_resnet_a": (12, 0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counterexamples_are_accepted(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "vnncomp"
    for archive in (f"vnncomp_{name}.tar.xz", "counterexamples.tar.xz"):
        if not (folder / archive).is_file():
            pytest.skip(f"{archive} is not there")
        with tarfile.open(folder / archive) as tar:
            tar.extractall(tmp_path, filter="data")
    year, set_name = name.split("_", 1)
    instances = {
        f"{one.onnx.stem}_{one.vnnlib.stem}": one
        for one in read_instances(tmp_path / year / set_name / "instances.csv")
    }
    networks: dict[Path, Network] = {}
    accepted = strict = 0
    for path in sorted((tmp_path / f"{year}__{set_name}").glob("*.counterexample")):
        instance = instances[path.stem]
        if instance.onnx not in networks:
            networks[instance.onnx] = load_network(instance.onnx, check_parity=False)
        network = networks[instance.onnx]
        claim = read_counterexample(path)
        prop = read_vnnlib(instance.vnnlib)
        prop.check_fits(network.graph)
        point = claim.inputs.reshape(network.graph.input_shape)
        found = replay_counterexample(network.replay, prop, point, claim.outputs)
        accepted += found.accepted
        strict += found.strict
    assert (accepted, strict) == PUBLISHED[name]

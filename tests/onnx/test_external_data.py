"""Weights in other files: read, part of the network's identity, and nowhere but beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from tests.onnx_networks import onnx_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx import load_network, network_from_bytes
from verify_pipeline.onnx.model_file import LARGEST_FILE

WEIGHTS = {"w": np.array([[1, -1], [2, 1]], np.float32), "b": np.array([0.5, -1], np.float32)}


@pytest.fixture
def split_file(tmp_path: Path) -> Path:
    """y = W x + b, both constants in weights.bin."""
    model = onnx.load_model_from_string(
        onnx_file([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], ("n", 2), WEIGHTS)
    )
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def entries(path: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Rewrite what the file says about where its weights are."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        new = change({entry.key: entry.value for entry in tensor.external_data})
        del tensor.external_data[:]
        for key, value in new.items():
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def test_weights_are_read(split_file: Path) -> None:
    network = load_network(split_file)
    point = torch.tensor([[1.0, 2.0]])
    # (1 + 4 + 0.5, -1 + 2 - 1)
    assert network.graph(point.double()).tolist() == network.replay(point).tolist() == [[5.5, 0.0]]


def test_identity_is_of_all_bytes(split_file: Path) -> None:
    weights = split_file.with_name("weights.bin")
    before = load_network(split_file).digest
    assert before != hashlib.sha256(split_file.read_bytes()).hexdigest()
    assert before == load_network(split_file).digest
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    assert load_network(split_file).digest != before


def test_files_without_other_files_have_the_hash_of_their_bytes() -> None:
    data = onnx_file([helper.make_node("Relu", ["x"], ["y"])], ("n", 2))
    assert network_from_bytes(data).digest == hashlib.sha256(data).hexdigest()


def test_missing_and_truncated_weights(split_file: Path) -> None:
    weights = split_file.with_name("weights.bin")
    data = weights.read_bytes()
    weights.write_bytes(data[:5])
    with pytest.raises(NetworkError, match=r"got a file of 5 bytes\. It may be truncated"):
        load_network(split_file)
    weights.unlink()
    with pytest.raises(NetworkError, match=r"weights\.bin; expected a file beside the ONNX file"):
        load_network(split_file)
    weights.mkdir()
    with pytest.raises(NetworkError, match=r"weights\.bin"):
        load_network(split_file)


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "link", ".", "a/../../secret"])
def test_files_elsewhere_are_not_read(place: str, split_file: Path) -> None:
    home = split_file.parent / "home"
    home.mkdir()
    (split_file.parent / "secret").write_bytes(split_file.with_name("weights.bin").read_bytes())
    (home / "link").symlink_to(split_file.parent / "secret")
    moved = split_file.rename(home / "net.onnx")
    entries(moved, lambda old: {**old, "location": place})
    with pytest.raises(NetworkError, match="expected a file in the ONNX file's folder"):
        load_network(moved)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": "-4"},
        {"offset": "99999999999"},
        {"length": "99999999999"},
        {"offset": "many"},
        {"location": ""},
        {"location": "nul\0byte"},
    ],
    ids=str,
)
def test_places_that_cannot_be(change: dict[str, str], split_file: Path) -> None:
    entries(split_file, lambda old: old | change)
    with pytest.raises(NetworkError):
        load_network(split_file)


def test_weights_of_another_size(split_file: Path) -> None:
    entries(split_file, lambda old: {"location": old["location"]})
    with pytest.raises(NetworkError, match="weight"):
        load_network(split_file)


def test_weights_larger_than_one_file(split_file: Path) -> None:
    with split_file.with_name("weights.bin").open("r+b") as file:
        file.truncate(LARGEST_FILE + 1)  # takes no room on a disk
    with pytest.raises(NetworkError, match=f"at most {LARGEST_FILE} bytes; got 2147483648"):
        load_network(split_file)


def test_bytes_without_a_folder(split_file: Path) -> None:
    with pytest.raises(NetworkError, match="Save it as one file"):
        network_from_bytes(split_file.read_bytes())


def test_constant_nodes_keep_weights_elsewhere_too(tmp_path: Path) -> None:
    value: NDArray[Any] = np.array([1.5, -2], np.float32)
    tensor = onnx.numpy_helper.from_array(value)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=tensor),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    model = onnx.load_model_from_string(onnx_file(nodes, ("n", 2)))
    path = tmp_path / "net.onnx"
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    assert load_network(path).graph(torch.zeros(1, 2).double()).tolist() == [[1.5, -2]]

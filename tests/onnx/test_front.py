"""Preprocessing written into a file: onnxruntime computes what the two do one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from tests.onnx_networks import onnx_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx import Front, network_from_bytes
from verify_pipeline.onnx.front import with_front
from verify_pipeline.onnx.model_file import parse_model

MEAN = np.array([0.4914, 0.2], np.float32)[:, None, None]
STD = np.array([0.247, 0.1], np.float32)[:, None, None]
SHAPE = (2, 3, 4)

WEIGHTS = {"w": np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)}


@pytest.mark.parametrize(
    ("front", "inner"),
    [
        (Front(SHAPE, MEAN, STD), SHAPE),
        (Front(SHAPE, MEAN, STD, (1, 2, 0)), (3, 4, 2)),
        (Front(SHAPE, order=(1, 2, 0)), (3, 4, 2)),
        (Front(SHAPE, MEAN, STD, (1, 2, 0)), (24,)),
        (Front(SHAPE, MEAN[:1], STD[:1]), (1, 24, 1)),
    ],
)
@pytest.mark.parametrize("batch", ["n", 1, None])
@pytest.mark.parametrize("double", [False, True])
def test_a_file_of_pixels(
    front: Front,
    inner: tuple[int, ...],
    batch: int | str | None,
    double: bool,
) -> None:
    """Free and fixed batches, files without any, and float64 ones."""
    kind = np.float64 if double else np.float32
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["y"]),
    ]
    rows = -1 if batch == "n" else 1
    weights = {"s": np.array([rows, 24], np.int64), "w": WEIGHTS["w"].astype(kind)}
    shape = inner if batch is None else (batch, *inner)
    element = TensorProto.DOUBLE if double else TensorProto.FLOAT
    data = onnx_file(nodes, shape, weights, input_type=element)
    network = network_from_bytes(data)
    made = network_from_bytes(with_front(parse_model(data, "net"), front, "net"))
    assert made.input_shape == SHAPE
    pixels = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    x = pixels
    if front.mean is not None and front.std is not None:
        x = (x - torch.tensor(front.mean)) / torch.tensor(front.std)
    if front.order is not None:
        x = x.permute(0, *(axis + 1 for axis in front.order))
    assert torch.equal(made.replay(pixels), network.replay(x.reshape(5, *network.input_shape)))


def test_names_of_the_file_are_left_alone() -> None:
    nodes = [
        helper.make_node("Neg", ["pixels"], ["pixels_sub"]),
        helper.make_node("Neg", ["pixels_sub"], ["y"]),
    ]
    model = parse_model(onnx_file(nodes, ("n", *SHAPE)), "net")
    for value in model.graph.input:
        value.name = "pixels"
    made = network_from_bytes(with_front(model, Front(SHAPE, MEAN, STD), "net"))
    x = torch.rand(2, *SHAPE)
    expected = (x - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.equal(made.replay(x), expected.flatten(1))


def test_files_that_cannot_have_one() -> None:
    model = parse_model(onnx_file([helper.make_node("Neg", ["x"], ["y"])], ("n", *SHAPE)), "net")
    old = parse_model(model.SerializeToString(), "net")
    old.opset_import[0].version = 6
    with pytest.raises(NetworkError, match="operator set 6"):
        with_front(old, Front(SHAPE, MEAN, STD), "net")
    other = model.graph.input.add()
    other.CopyFrom(model.graph.input[0])
    other.name = "z"
    with pytest.raises(NetworkError, match="2 inputs"):
        with_front(model, Front(SHAPE, MEAN, STD), "net")

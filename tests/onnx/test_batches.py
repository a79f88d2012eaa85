"""Files that mix the inputs of a batch are refused by name, whatever samples show of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper

from tests.onnx_networks import onnx_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.network import limits, ops
from verify_pipeline.network.ops import AvgPool2d, Conv2d, Linear, MatMul, MaxPool2d, Pad
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.onnx.owners import MixingError, OwnerBuilder, owners_of

Array = NDArray[Any]
FEATURES = 4


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def node(op: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


SMALL = {"tiny": np.array(1e-9, np.float32)}
"""What is mixed in counts for so little that no sample shows it."""
ADDED = [node("Mul", "mixed tiny", "little"), node("Add", "x little", "y")]
MIXING: dict[str, tuple[list[NodeProto], dict[str, Array], str]] = {
    "the brightest of the batch, beyond a threshold": (
        [
            node("ReduceMax", "x", "most", axes=[0], keepdims=1),
            node("ReduceMin", "most", "least", axes=[1], keepdims=1),
            node("Sub", "least bright", "above"),
            node("Relu", "above", "counted"),
            node("Add", "x counted", "y"),
        ],
        {"bright": np.array(0.95, np.float32)},
        "node 'most' (ReduceMax)",
    ),
    "the first": (
        [node("Slice", "x zero one zero", "first"), node("Sub", "x first", "mixed"), *ADDED],
        {"zero": ints(0), "one": ints(1)},
        "node 'mixed' (Sub)",
    ),
    "the last": (
        [node("Gather", "x place", "mixed", axis=0), *ADDED],
        {"place": np.array(-1)},
        "node 'y' (Add)",
    ),
    "sums so far": (
        [node("CumSum", "x axis", "mixed"), *ADDED],
        {"axis": np.array(0)},
        "node 'mixed' (CumSum)",
    ),
    "shares": (
        [node("Softmax", "x", "mixed", axis=0), *ADDED],
        {},
        "node 'mixed' (Softmax)",
    ),
    "products with each other": (
        [
            node("Transpose", "x", "turned", perm=[1, 0]),
            node("MatMul", "x turned", "gram"),
            node("MatMul", "gram x", "mixed"),
            *ADDED,
        ],
        {},
        "node 'gram' (MatMul)",
    ),
    "a sum of everything": (
        [
            node("Reshape", "x flat", "all"),
            node("ReduceSum", "all axis", "mixed", keepdims=1),
            *ADDED,
        ],
        {"flat": ints(-1), "axis": ints(0)},
        "node 'mixed' (ReduceSum)",
    ),
    "windows over neighbours": (
        [
            node("Reshape", "x image", "wide"),
            node("AveragePool", "wide", "pooled", kernel_shape=[3, 1], pads=[1, 0, 1, 0]),
            node("Reshape", "pooled rows", "mixed"),
            *ADDED,
        ],
        {"image": ints(1, 1, -1, FEATURES), "rows": ints(-1, FEATURES)},
        "node 'pooled' (AveragePool)",
    ),
    "a number for each place in the batch": (
        [
            node("Shape", "x", "shape"),
            node("Gather", "shape place", "count", axis=0),
            node("Range", "zero count one", "places"),
            node("Cast", "places", "numbers", to=1),
            node("Unsqueeze", "numbers axis", "mixed"),
            *ADDED,
        ],
        {"place": np.array(0), "zero": np.array(0), "one": np.array(1), "axis": ints(1)},
        "value 'little'",
    ),
    "a large batch": (
        [
            node("Shape", "x", "shape"),
            node("Cast", "shape", "sizes", to=1),
            node("Gather", "sizes place", "count", axis=0),
            node("Sub", "count hundred", "above"),
            node("Relu", "above", "mixed"),
            *ADDED,
        ],
        {"place": np.array(0), "hundred": np.array(100, np.float32)},
        "value 'little'",
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_an_operation_over_the_batch_axis_is_refused(name: str) -> None:
    nodes, weights, where = MIXING[name]
    data = onnx_file(nodes, ("n", FEATURES), SMALL | weights)
    with pytest.raises(NetworkError) as caught:
        network_from_bytes(data, check_parity=False)
    assert f"{where}; expected outputs of each input alone" in str(caught.value)
    assert "a fixed batch of one" in str(caught.value)
    # with a batch of one there is nothing to mix
    network_from_bytes(onnx_file(nodes, (1, FEATURES), SMALL | weights))


SEPARATE: dict[str, tuple[list[NodeProto], dict[str, Array]]] = {
    "sequence first": (
        [
            node("Reshape", "x tokens", "t"),
            node("Transpose", "t", "first", perm=[1, 0, 2]),
            node("MatMul", "first w", "seen"),
            node("Softmax", "seen", "shares", axis=0),
            node("Transpose", "shares", "back", perm=[1, 0, 2]),
            node("Reshape", "back flat", "y"),
        ],
        {"tokens": ints(0, 2, 2), "flat": ints(0, -1), "w": np.ones((2, 2), np.float32)},
    ),
    "batch and heads in one axis": (
        [
            node("Reshape", "x heads", "h"),
            node("Reshape", "h joined", "j"),
            node("Transpose", "j", "t", perm=[0, 2, 1]),
            node("MatMul", "j t", "scores"),
            node("MatMul", "scores j", "mixed"),
            node("Reshape", "mixed flat", "y"),
        ],
        {"heads": ints(0, 2, 2, 1), "joined": ints(-1, 2, 1), "flat": ints(-1, FEATURES)},
    ),
    "batch last": (
        [
            node("Transpose", "x", "turned", perm=[1, 0]),
            node("MatMul", "w turned", "z"),
            node("ReduceMax", "z", "m", axes=[0], keepdims=1),
            node("Sub", "z m", "d"),
            node("Transpose", "d", "y", perm=[1, 0]),
        ],
        {"w": np.random.default_rng(0).normal(size=(3, FEATURES)).astype(np.float32)},
    ),
    "batch and steps in one axis of images": (
        [
            node("Reshape", "x images", "i"),
            node("Conv", "i kernel", "c"),
            node("MaxPool", "c", "p", kernel_shape=[1, 1]),
            node("Reshape", "p flat", "y"),
        ],
        {
            "images": ints(-1, 1, 1, 2),
            "kernel": np.ones((2, 1, 1, 2), np.float32),
            "flat": ints(-1, FEATURES),
        },
    ),
    "a token of the batch's size": (
        [
            node("Shape", "x", "shape"),
            node("Gather", "shape first", "count", axis=0),
            node("Concat", "count width", "sizes", axis=0),
            node("Expand", "token sizes", "tokens"),
            node("Concat", "tokens x", "y", axis=1),
        ],
        {"first": ints(0), "width": ints(2), "token": np.array([[1, 2]], np.float32)},
    ),
    "a scale made of a size": (
        [
            node("Shape", "x", "shape"),
            node("Cast", "shape", "sizes", to=1),
            node("Gather", "sizes second", "width", axis=0),
            node("Sqrt", "width", "root"),
            node("Div", "x root", "y"),
        ],
        {"second": np.array(1)},
    ),
}


@pytest.mark.parametrize("name", SEPARATE)
def test_a_batch_axis_is_followed_wherever_it_goes(name: str) -> None:
    nodes, weights = SEPARATE[name]
    network = network_from_bytes(onnx_file(nodes, ("n", FEATURES), weights))
    x = torch.rand(6, FEATURES)
    torch.testing.assert_close(network.graph(x.double()).float(), network.replay(x))


def test_outputs_in_another_order_are_refused() -> None:
    nodes = [node("Mul", "x zero", "z"), node("ReduceSum", "z axes", "s", keepdims=0)]
    nodes += [node("Transpose", "x", "t", perm=[1, 0]), node("Reshape", "t rows", "y")]
    weights = {"zero": np.zeros((), np.float32), "axes": ints(1), "rows": ints(-1, FEATURES)}
    with pytest.raises(NetworkError, match=r"mixes the inputs of a batch|in another order"):
        network_from_bytes(onnx_file(nodes, ("n", FEATURES), weights), check_parity=False)


def test_the_node_is_named_where_samples_show_the_mixing_too() -> None:
    nodes = [node("ReduceMax", "x", "mixed", axes=[0], keepdims=1), node("Add", "x mixed", "y")]
    with pytest.raises(NetworkError, match=r"node 'mixed' \(ReduceMax\)"):
        network_from_bytes(onnx_file(nodes, ("n", FEATURES), {}), check_parity=False)


def test_a_file_that_only_runs_alone_is_run_alone() -> None:
    """Its reshape fits one input; a batch cannot be mixed that cannot be run."""
    nodes = [node("Reshape", "x one", "t"), node("ReduceSum", "t axis", "y", keepdims=1)]
    weights = {"one": ints(1, FEATURES), "axis": ints(0)}
    network = network_from_bytes(onnx_file(nodes, ("n", FEATURES), weights))
    assert not network.replay.batched


def test_owners_follow_what_operations_read() -> None:
    owners = torch.tensor([[0.0, 1.0, 1.0]])
    image = owners.reshape(1, 1, 3)
    labelled = torch.stack([image, -image])
    apart = owners_of(MaxPool2d((1, 1), (1, 1)), labelled)
    assert apart.tolist() == labelled.tolist()
    for op in (
        MaxPool2d((1, 2), (1, 1)),
        AvgPool2d((1, 2), (1, 1)),
        Conv2d(torch.ones(4, 1, 1, 2)),
    ):
        last, first = owners_of(op, labelled)
        assert last[0].tolist() == [[1.0, 1.0]]
        assert (-first[0]).tolist() == [[0.0, 1.0]]
    padded = owners_of(Pad((1, 0)), labelled)[0, 0, 0]
    assert padded.tolist() == [-torch.inf, 0, 1, 1]
    left = torch.tensor([[[0.0], [1.0]]])
    right = torch.tensor([[[1.0, 1.0]]])
    both = owners_of(MatMul(), torch.cat([left, -left]), torch.cat([right, -right]))
    assert both[0].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert (-both[1]).tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_mixing_is_told_where_it_happens() -> None:
    builder = OwnerBuilder(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), "x")
    builder.add(Linear(torch.ones(3, 2)), 0)
    assert builder.owners(1).tolist() == [[0.0] * 3, [1.0] * 3]
    builder = OwnerBuilder(torch.tensor([0.0, 1.0]), "x")
    with pytest.raises(MixingError):
        builder.add(Linear(torch.ones(3, 2)), 0)


def test_every_operation_that_mixes_numbers_says_whose_they_are() -> None:
    """What has no rule of its own is taken for an operation that moves numbers."""
    known = [
        item
        for module in (ops, limits)
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, ops.Op)
        and item.__module__ == module.__name__
    ]
    without = {op for op in known if op not in owners_of.registry}
    moves = {ops.Reshape, ops.Transpose, ops.Slice, ops.Gather}
    assert without == moves | {ops.Op, ops.Input}

"""Operators in networks of several nodes: sizes, parts, places, masks, sums, resizing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from tests.onnx_networks import onnx_file, operator_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx import network_from_bytes

Array = NDArray[Any]


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def test_batch_normalisation_of_any_rank(normal: Callable[..., Array]) -> None:
    for shape in ((3,), (3, 5), (3, 5, 4)):
        statistics = (normal(3), normal(3), normal(3), np.abs(normal(3)) + 0.1)
        data = operator_file("BatchNormalization", ("n", *shape), *statistics, epsilon=0.01)
        network_from_bytes(data)


def test_split_in_equal_and_in_given_parts() -> None:
    for sizes in (None, ints(1, 4, 1)):
        weights = {} if sizes is None else {"sizes": sizes}
        nodes = [
            helper.make_node("Split", ["x", *weights], ["a", "b", "c"], axis=1),
            helper.make_node("Concat", ["c", "a", "b"], ["y"], axis=-1),
        ]
        network = network_from_bytes(onnx_file(nodes, ("n", 6), weights))
        expected = [4.0, 5, 0, 1, 2, 3] if sizes is None else [5.0, 0, 1, 2, 3, 4]
        assert network.graph(torch.arange(6.0).double()[None])[0].tolist() == expected


def test_shape_arithmetic_folds_away() -> None:
    """What torch writes for ``x.reshape(x.shape[0], -1) + size(x)``."""
    weights = {"zero": np.array(0), "minus": ints(-1), "axes": ints(0), "shape": ints(6)}
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["flat", "zeros"], ["y"]),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 2, 3), weights))
    assert [type(node.op).__name__ for node in network.graph.nodes] == ["Input", "Reshape"]


RESIZINGS: list[dict[str, Any]] = [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    {"mode": "cubic", "cubic_coeff_a": -0.75},
]


@pytest.mark.parametrize("attrs", RESIZINGS, ids=str)
def test_resizing(attrs: dict[str, Any]) -> None:
    scales = {"s": np.array([1, 1, 2, 1.5], np.float32)}
    sizes = {"s": ints(1, 2, 7, 3)}
    for weights, inputs in ((scales, ["x", "", "s"]), (sizes, ["x", "", "", "s"])):
        node = helper.make_node("Resize", inputs, ["y"], **attrs)
        network = network_from_bytes(onnx_file([node], (1, 2, 4, 6), weights))
        if attrs["mode"] == "nearest":
            assert {type(node.op).__name__ for node in network.graph.nodes} == {
                *("Input", "Gather", "Reshape"),
            }


def test_resizing_as_first_written() -> None:
    scales = {"s": np.array([1, 1, 2, 3], np.float32)}
    for op, opset in (("Upsample", 9), ("Resize", 10)):
        for mode in ("nearest", "linear"):
            node = helper.make_node(op, ["x", "s"], ["y"], mode=mode)
            network_from_bytes(onnx_file([node], ("n", 2, 3, 4), scales, opset=opset))


EQUATIONS = ["nij,nkj->nik", "nij,kj->nki", "ni,nj->nij", "nhd,hde->nhe", "nij,j->ni"]


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einstein_sums(equation: str, normal: Callable[..., Array]) -> None:
    sizes = {"i": 2, "j": 3, "k": 4, "h": 2, "d": 3, "e": 4}
    first, second = equation.split("->")[0].split(",")
    shape = [sizes.get(letter, "n") for letter in first]
    weights = {} if "n" in second else {"w": normal(*(sizes[letter] for letter in second))}
    if not weights:
        shape = ["n", *(sizes[letter] for letter in first[1:])]
        other = [sizes[letter] for letter in second[1:]]
        weights["m"] = normal(shape[-1], other[-1])
        if len(other) == 2:
            weights["m"] = normal(other[0], shape[1])
        inputs = ["m", "x"] if len(other) == 2 else ["x", "m"]
        nodes = [helper.make_node("MatMul", inputs, ["w"])]
    else:
        nodes = []
    nodes.append(helper.make_node("Einsum", ["x", "w"], ["y"], equation=equation))
    network_from_bytes(onnx_file(nodes, shape, weights))


def test_places_of_several_axes() -> None:
    weights = {"places": ints(2, 0, -1, 1).reshape(2, 2)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 2, 0]),
        helper.make_node("GatherND", ["t", "places"], ["g"]),
        helper.make_node("Transpose", ["g"], ["y"], perm=[1, 0]),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 3, 2), weights))
    x = torch.arange(6.0).double().reshape(1, 3, 2)
    assert network.graph(x).tolist() == [[4.0, 5.0]]
    weights["places"] = ints(3, 0).reshape(1, 2)
    with pytest.raises(NetworkError, match="an index outside of"):
        network_from_bytes(onnx_file(nodes, ("n", 3, 2), weights))


def test_a_constant_mask_chooses() -> None:
    mask = np.array([[True, False, True]])
    weights = {"m": mask, "c": np.array([[0.0, -np.inf, 5.0]], np.float32)}
    chosen = [helper.make_node("Where", ["m", "x", "c"], ["h"])]
    after = helper.make_node("Softmax", ["h"], ["y"], axis=-1)
    network = network_from_bytes(onnx_file([*chosen, after], ("n", 3), weights))
    found = network.graph(torch.tensor([[1.0, 7.0, 1.0]]).double())
    assert found.tolist() == [[0.5, 0.0, 0.5]]
    both = [*chosen, helper.make_node("Where", ["m", "c", "x"], ["y"])]
    network_from_bytes(onnx_file(both, ("n", 3), weights))


def test_a_mask_may_be_added() -> None:
    weights = {"c": np.array([[0.0, -np.inf, 1.0]], np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "c"], ["h"]),
        helper.make_node("Softmax", ["h"], ["y"], axis=-1),
    ]
    network_from_bytes(onnx_file(nodes, ("n", 3), weights))
    # nowhere else: there it would be another number
    with pytest.raises(NetworkError, match=r"value 'y'; expected -inf before a softmax only"):
        network_from_bytes(
            onnx_file([helper.make_node("Add", ["x", "c"], ["y"])], ("n", 3), weights)
        )


def test_uneven_max_pooling_of_negative_values() -> None:
    """Padded by repetition: zeros would be greater than everything in the image."""
    pool = helper.make_node(
        "MaxPool", ["r"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]
    )
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Neg", ["e"], ["r"]),
    ]
    network_from_bytes(onnx_file([*nodes, pool], ("n", 3, 8, 9)))


def test_size_of_an_activation() -> None:
    nodes = [
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Cast", ["size"], ["number"], to=1),
        helper.make_node("Mul", ["x", "number"], ["y"]),
    ]
    network = network_from_bytes(onnx_file(nodes, (1, 3)))
    assert network.graph(torch.ones(2, 3).double()).tolist() == [[3.0] * 3] * 2


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool"])
def test_windows_over_a_first_axis_that_is_no_batch(op: str, normal: Callable[..., Array]) -> None:
    """The file's input is a sequence of three images."""
    weights = (normal(2, 2, 2, 2),) if op.startswith("Conv") else ()
    attrs: dict[str, Any] = (
        {"kernel_shape": [2, 2]} if op.endswith("Pool") and "Global" not in op else {}
    )
    network = network_from_bytes(operator_file(op, (3, 2, 4, 5), *weights, **attrs))
    x = torch.rand(2, 3, 2, 4, 5)
    torch.testing.assert_close(network.graph(x.double()).float(), network.replay(x))

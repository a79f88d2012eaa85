"""onnxruntime as the judge: batches, fixed batches, shapes, quiet failures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from tests.onnx_networks import onnx_file, operator_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx import Replayer, network_from_bytes
from verify_pipeline.onnx.model_file import parse_model, signature


def replayer(data: bytes, threads: int | None = 1) -> Replayer:
    return Replayer(data, signature(parse_model(data, "net"), "net"), "net", threads)


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("threads", [1, None])
def test_any_number_of_inputs(batch: int | str, threads: int | None) -> None:
    """More than one chunk, one, and none; float64 in, N x K out."""
    replay = replayer(operator_file("Neg", (batch, 2, 3)), threads)
    assert replay.batched == (batch == "n")
    for count in (0, 1, 300):
        x = torch.randn(count, 2, 3, dtype=torch.float64)
        y = replay(x)
        assert y.dtype == torch.float32
        assert torch.equal(y, -x.float().flatten(1))


def test_a_free_axis_that_is_not_free() -> None:
    """Some exporters promise a free batch and then reshape to a batch of one."""
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["a"]),
        helper.make_node("Gemm", ["a", "w"], ["y"]),
    ]
    weights = {"s": np.array([1, 6], np.int64), "w": np.ones((6, 1), np.float32)}
    network = network_from_bytes(onnx_file(nodes, ("n", 2, 3), weights))
    assert not network.replay.batched
    assert network.replay(torch.ones(3, 2, 3)).tolist() == [[6.0]] * 3


def test_outputs_are_as_precise_as_the_file_has_them() -> None:
    """A float32 input is taken as it is, and 1 + 1e-10 does not become 1."""
    node = helper.make_node("Add", ["x", "b"], ["y"])
    weights = {"b": np.array([1e-10])}
    replay = replayer(onnx_file([node], ("n", 1), weights, input_type=TensorProto.DOUBLE))
    outputs = replay(torch.ones(300, 1))
    assert outputs.dtype == torch.float64
    assert outputs.tolist() == [[1 + 1e-10]] * 300


def test_results_do_not_keep_the_input_alive() -> None:
    """A gradient on the input is no obstacle, and the answer carries none."""
    x = torch.ones(2, 3, requires_grad=True)
    assert not replayer(operator_file("Neg", ("n", 3)))(x).requires_grad


def test_inputs_of_another_shape() -> None:
    with pytest.raises(NetworkError, match=r"expected inputs of shape \(3,\); got \(4,\)"):
        replayer(operator_file("Neg", ("n", 3)))(torch.ones(2, 4))


def test_files_that_onnxruntime_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    data = operator_file("Neg", ("n", 3), nonsense=1)
    with pytest.raises(NetworkError, match="a network that onnxruntime loads"):
        replayer(data)
    data = operator_file("MatMul", ("n", 3), np.ones((4, 4), np.float32))
    with pytest.raises(NetworkError, match="a network that onnxruntime loads"):
        replayer(data)
    assert capfd.readouterr().err == ""


def test_files_that_fail_while_running(capfd: pytest.CaptureFixture[str]) -> None:
    """A shape that is known only when the file runs."""
    nodes = [
        helper.make_node("Cast", ["x"], ["s"], to=7),
        helper.make_node("Reshape", ["x", "s"], ["y"]),
    ]
    replay = replayer(onnx_file(nodes, (2,)))
    with pytest.raises(NetworkError, match="a network that onnxruntime runs"):
        replay(torch.tensor([[5.0, 7.0]]))
    assert capfd.readouterr().err == ""


def test_names_that_are_no_text_are_an_error_and_nothing_on_the_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """onnxruntime's Python side would tell of a second try."""
    data = operator_file("Relu", ("n", 2)).replace(b"Relu", b"Rel\xf5")
    with pytest.raises(NetworkError, match="a network that onnxruntime loads"):
        replayer(data)
    assert capfd.readouterr() == ("", "")

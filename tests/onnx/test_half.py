"""Files in float16 and bfloat16: read as the network of real numbers with exactly these weights."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from tests.half_files import HALVES, converted, numbers, with_rounded_weights
from tests.onnx_networks import node, onnx_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.network.limits import AtLeast, Rounded
from verify_pipeline.onnx import Network, export_onnx, network_from_bytes
from verify_pipeline.onnx.network import check
from verify_pipeline.onnx.parity import TOLERANCE, check_at_random
from verify_pipeline.rounding import nearest

NAMES = pytest.mark.parametrize("name", HALVES)
RUNNERS = {"float16": "onnxruntime", "bfloat16": "ONNX's reference evaluator"}
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def small_convolution() -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2),
        nn.LeakyReLU(0.125),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(3, 3),
    )
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d)
    torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    torch.nn.init.normal_(norm.bias)
    return module.eval()


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("half") / "net.onnx"
    export_onnx(small_convolution(), path, (2, 6, 6), {})
    return path.read_bytes()


def rounded(network: Network) -> list[torch.dtype]:
    return [node.op.type for node in network.graph.nodes if isinstance(node.op, Rounded)]


@NAMES
@pytest.mark.parametrize("behind_casts", [False, True])
def test_a_convolutional_network_is_read(convolution: bytes, name: str, behind_casts: bool) -> None:
    network = network_from_bytes(converted(convolution, name, behind_casts))
    written = network.written
    assert written is not None
    assert written.rounded_to == {name}
    assert name in written.held_by
    assert network.input_dtype == (torch.float32 if behind_casts else TORCH[name])
    assert rounded(network) == ([TORCH[name]] if behind_casts else [])
    assert network.replay.runner == RUNNERS[name]
    assert check(network, "file") <= TOLERANCE / 4


@NAMES
def test_its_weights_are_those_of_the_file(convolution: bytes, name: str) -> None:
    """The float32 file with rounded weights computes the same of real numbers, to the last bit."""
    single = with_rounded_weights(convolution, name)
    half, other = network_from_bytes(converted(convolution, name)), network_from_bytes(single)
    x = torch.rand(4, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(half.graph(x), other.graph(x))
    assert not torch.equal(half.graph(x), network_from_bytes(convolution).graph(x))


@NAMES
def test_replays_are_the_files_own(convolution: bytes, name: str) -> None:
    """Inputs and outputs are numbers of the type, as float32."""
    network = network_from_bytes(converted(convolution, name))
    x = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    found = network.replay(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, nearest(found, TORCH[name]))
    assert torch.equal(found, network.replay(nearest(x, TORCH[name])))
    assert torch.equal(found, network.replay(x.to(TORCH[name])))
    assert not torch.equal(found.double(), network.graph(x.double()))


@NAMES
@pytest.mark.parametrize("large", [2048.0, -2048.0])
def test_constants_are_computed_in_the_files_type(name: str, large: float) -> None:
    """2048 + 1 is 2048 in both types."""
    weights = {"a": numbers(name, large), "b": numbers(name, np.sign(large))}
    nodes = [node("Add", "a", "b", "c"), node("Sub", "x", "c", "y")]
    network = network_from_bytes(onnx_file(nodes, ("n", 1), weights, input_type=HALVES[name]))
    assert network.graph(torch.tensor([[large]], dtype=torch.float64)).tolist() == [[0.0]]


@NAMES
def test_casts_to_wider_types_change_nothing(name: str) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["single"], to=TensorProto.FLOAT),
        node("Exp", "single", "large"),
        helper.make_node("CastLike", ["large", "w"], ["narrow"]),
        node("Mul", "narrow", "w", "y"),
    ]
    weights = {"w": numbers(name, [0.5])}
    data = onnx_file(nodes, ("n", 1), weights, opset=15, input_type=HALVES[name])
    network = network_from_bytes(data)
    assert rounded(network) == [TORCH[name]]
    x = torch.tensor([[0.25]], dtype=torch.float64)
    expected = nearest(x.exp(), TORCH[name]) / 2
    assert torch.equal(network.graph(x), expected)
    assert torch.equal(network.replay(x), expected.float())


def test_between_half_precisions_a_cast_rounds() -> None:
    """bfloat16 lacks float16's digits, and float16 bfloat16's small and large numbers."""
    for given, to in (("float16", "bfloat16"), ("bfloat16", "float16")):
        nodes = [
            helper.make_node("Cast", ["x"], ["other"], to=HALVES[to]),
            node("Relu", "other", "relu"),
            helper.make_node("Cast", ["relu"], ["y"], to=HALVES[given]),
        ]
        network = network_from_bytes(onnx_file(nodes, ("n", 1), input_type=HALVES[given]))
        assert rounded(network) == [TORCH[to], TORCH[given]]


def test_a_limit_of_the_type_stays() -> None:
    """A value of real numbers may be above float16's greatest."""
    weights = {"low": numbers("float16", -65504), "high": numbers("float16", 65504)}
    nodes = [node("Clip", "x", "low", "high", "y")]
    data = onnx_file(nodes, ("n", 1), weights, input_type=TensorProto.FLOAT16)
    graph = network_from_bytes(data).graph
    assert any(isinstance(node.op, AtLeast) for node in graph.nodes)
    x = torch.tensor([[1e5], [-1e5]], dtype=torch.float64)
    assert graph(x).tolist() == [[65504.0], [-65504.0]]


@NAMES
def test_mixed_files_are_refused(name: str) -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], name="sum")]
    single = {"w": np.zeros(1, np.float32)}
    with pytest.raises(NetworkError, match=rf"node 'sum' \(Add\).*{name} and float32.*Cast"):
        network_from_bytes(onnx_file(nodes, ("n", 1), single, input_type=HALVES[name]))
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    with pytest.raises(NetworkError, match=rf"output y; expected {name}.*got float32"):
        network_from_bytes(onnx_file(nodes, ("n", 1), input_type=HALVES[name]))


def test_inputs_of_both_half_precisions_are_refused() -> None:
    inputs = [helper.make_tensor_value_info(n, t, [1, 2]) for n, t in HALVES.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)
    nodes = [node("Relu", "float16", "y")]
    graph = helper.make_graph(nodes, "test", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(NetworkError, match="one half precision; got float16 and bfloat16"):
        network_from_bytes(model.SerializeToString())


@NAMES
def test_a_damaged_weight_is_refused(name: str) -> None:
    nodes = [node("Add", "x", "w", "y")]
    weights = {"w": numbers(name, [np.nan])}
    with pytest.raises(NetworkError, match="weight w; expected numbers; got NaN"):
        network_from_bytes(onnx_file(nodes, ("n", 1), weights, input_type=HALVES[name]))


@NAMES
def test_a_file_that_nothing_runs_is_refused(name: str) -> None:
    """The graph could not be compared with it, and no counterexample replayed."""
    nodes = [node("Gemm", "x", "w", "y")]
    weights = {"w": numbers(name, np.ones((3, 2)))}
    with pytest.raises(NetworkError, match="Gemm"):
        network_from_bytes(onnx_file(nodes, ("n", 2), weights, input_type=HALVES[name]))


@NAMES
def test_a_graph_of_another_function_is_told(convolution: bytes, name: str) -> None:
    network = network_from_bytes(converted(convolution, name))
    dtype = TORCH[name]
    with pytest.raises(NetworkError, match="a difference of"):
        check_at_random(network.graph, lambda x: 1.5 * network.replay(x), dtype, "file", dtype)


def _nearest(x: float, digits: int, least: int) -> Fraction:
    """By integers: the nearest multiple of the step at x, of two the even one."""
    exact = Fraction(x)
    if not exact:
        return exact
    exponent = max(int(np.frexp(x)[1]), least + 1)
    step = Fraction(2) ** (exponent - digits)
    return round(exact / step) * step


@pytest.mark.parametrize(
    ("dtype", "digits", "least"), [(torch.float16, 11, -14), (torch.bfloat16, 8, -126)]
)
def test_rounding_is_to_nearest_once(dtype: torch.dtype, digits: int, least: int) -> None:
    """Also beside ties, where a cast by way of float32 is wrong."""
    rng = np.random.default_rng(0)
    exponents = rng.integers(least - 12, 15, 400)
    ties = (rng.integers(2 ** (digits - 1), 2**digits, 400) + 0.5) * 2.0**exponents
    ties = np.ldexp(ties, -digits)
    beside = [ties * (1 + s * 2.0**-k) for s in (-1, 0, 1) for k in (20, 30, 50)]
    values = np.concatenate([*beside, rng.standard_normal(400), -ties])
    found = nearest(torch.from_numpy(values), dtype)
    assert [Fraction(v) for v in found.tolist()] == [_nearest(v, digits, least) for v in values]
    assert torch.equal(found.to(dtype).double(), found)
    special = torch.tensor([torch.inf, -torch.inf, -0.0, 1e300]).double()
    assert nearest(special, dtype).tolist() == [torch.inf, -torch.inf, 0.0, torch.inf]
    assert bool(nearest(torch.tensor([torch.nan]).double(), dtype).isnan())

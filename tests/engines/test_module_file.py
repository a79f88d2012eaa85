"""Networks written as Python compute what their graphs do; what runs inside the tool is Python."""

import ast
import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from verify_pipeline.engines.inside_tool import LOADER, SAVER
from verify_pipeline.engines.module_file import write_module
from verify_pipeline.network import ops, zoo
from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.limits import AtLeast, Maximum
from verify_pipeline.onnx import network_from_module

SHAPE = (3, 32, 32)


def outputs(path: Path, x: torch.Tensor) -> torch.Tensor:
    """Of the written module, in float64."""
    spec = importlib.util.spec_from_file_location("network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert tuple(x.shape[1:]) == module.SHAPE
    network: nn.Module = module.Network().double()
    return torch.as_tensor(network(x))


@pytest.mark.parametrize("name", ["mlp", "conv-small", "conv-medium", "cnn5", "resnet", "vit"])
def test_networks_of_the_zoo(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = zoo.build(name, SHAPE, 10, (0.5, 0.4, 0.3), (0.2, 0.2, 0.3), width=0.25)
    graph = network_from_module(module.eval(), SHAPE).graph
    path = write_module(graph, tmp_path)
    assert path is not None
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    expected = graph.to(torch.float64)(x)
    # the weights are rounded to float32 when the module is made
    torch.testing.assert_close(outputs(path, x), expected, rtol=1e-4, atol=1e-5)


def graph_of(*nodes: tuple[ops.Op, tuple[int, ...], tuple[int, ...]]) -> Graph:
    """Of an input 2 x 4 x 4 and nodes with their inputs and shapes."""
    made = [Node("x", ops.Input(), (), (2, 4, 4))]
    made += [Node(f"n{k}", op, inputs, shape) for k, (op, inputs, shape) in enumerate(nodes)]
    return Graph(tuple(made))


def test_operations_that_the_zoo_has_not(tmp_path: Path) -> None:
    graph = graph_of(
        (ops.Slice(0, 0, 1), (0,), (1, 4, 4)),
        (ops.Slice(0, 1, 2), (0,), (1, 4, 4)),
        (ops.Sub(), (1, 2), (1, 4, 4)),
        (ops.Concat(0), (3, 2, 1), (3, 4, 4)),
        (ops.LeakyRelu(0.1), (4,), (3, 4, 4)),
        (ops.Pad((1, 0, 0, 2)), (5,), (3, 6, 5)),
        (ops.AvgPool2d((2, 2), (2, 1)), (6,), (3, 3, 4)),
        (ops.Transpose((2, 0, 1)), (7,), (4, 3, 3)),
        (ops.Elementwise("tanh"), (8,), (4, 3, 3)),
        (ops.Mul(), (9, 8), (4, 3, 3)),
        (ops.Sum((2,), False), (10,), (4, 3)),
        (ops.Reshape((3, 4)), (11,), (3, 4)),
        (ops.MatMul(), (12, 11), (3, 3)),
        (ops.Softmax(1), (13,), (3, 3)),
        (ops.Mean((0,), False), (14,), (3,)),
    )
    path = write_module(graph, tmp_path)
    assert path is not None
    x = torch.rand(5, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(outputs(path, x), graph(x))


def test_places_constants_and_pools(tmp_path: Path) -> None:
    graph = graph_of(
        (ops.Slice(2, 0, 4, 3), (0,), (2, 4, 2)),
        (ops.MaxPool2d((2, 2), (2, 2), (1, 0), (1, 1), True), (0,), (2, 3, 2)),
        (ops.AvgPool2d((3, 3), (2, 2), (1, 1), True, False), (0,), (2, 3, 3)),
        (ops.Gather(1, torch.tensor([[2, 0], [1, 3]])), (1,), (2, 2, 2, 2)),
        (ops.Gather(0, torch.tensor(1)), (3,), (3, 3)),
        (ops.Constant(torch.rand(3, 2, dtype=torch.float64)), (0,), (3, 2)),
        (ops.MatMul(), (5, 6), (3, 2)),
        (ops.Reshape((16,)), (4,), (16,)),
        (ops.Reshape((6,)), (7,), (6,)),
        (ops.Reshape((12,)), (2,), (12,)),
        (ops.Concat(0), (8, 9, 10), (34,)),
    )
    path = write_module(graph, tmp_path)
    assert path is not None
    x = torch.rand(5, 2, 4, 4, dtype=torch.float64)
    # constants are rounded to float32 when the module is made
    torch.testing.assert_close(outputs(path, x), graph(x), rtol=1e-6, atol=1e-6)


def test_limits_and_maxima(tmp_path: Path) -> None:
    graph = graph_of(
        (AtLeast(torch.tensor([0.25, 0.5]).double().reshape(2, 1, 1)), (0,), (2, 4, 4)),
        (ops.Scale(torch.tensor(-1.0).double(), torch.tensor(1.0).double()), (0,), (2, 4, 4)),
        (Maximum(), (1, 2), (2, 4, 4)),
    )
    path = write_module(graph, tmp_path)
    assert path is not None
    x = torch.rand(5, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(outputs(path, x), graph(x))


@pytest.mark.parametrize("function", ops.FUNCTIONS)
def test_every_function_of_elements(function: str, tmp_path: Path) -> None:
    path = write_module(graph_of((ops.Elementwise(function), (0,), (2, 4, 4))), tmp_path)
    assert path is not None
    x = torch.rand(5, 2, 4, 4, dtype=torch.float64) + 0.1
    torch.testing.assert_close(outputs(path, x), ops.FUNCTIONS[function](x))


def test_an_operation_without_a_line_makes_no_file(tmp_path: Path) -> None:
    """One that graphs of files never have: it is written for bounds."""
    graph = graph_of((ops.Slice(0, 0, 1), (0,), (1, 4, 4)), (SoftmaxOfDifferences(3), (1,), (3,)))
    assert write_module(graph, tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [SAVER, LOADER])
def test_what_runs_inside_the_tool_is_python(text: str) -> None:
    names = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert names & {"save", "load"}

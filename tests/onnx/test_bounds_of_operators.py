"""What operators are rewritten into is bounded soundly, and linear ones exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.onnx_networks import operator_file
from verify_pipeline.bounds import crown_margins, interval_bounds
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Elementwise
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.problem import Box, Specification

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One operator of the input."""

    op: str
    shape: tuple[int, ...]
    weights: tuple[Any, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    opset: int = 17

    def __str__(self) -> str:
        return self.op


SCALES = np.array([1, 1, 2, 1.5], np.float32)
LINEAR = [
    Case(
        "ConvTranspose", (2, 3, 3), ((2, 3, 3, 2), (3,)), {"strides": [2, 1], "pads": [1, 0, 0, 1]}
    ),
    Case("Conv", (2, 3, 4, 3), ((2, 2, 2, 2, 2), (2,)), {"strides": [1, 2, 1]}),
    Case("Resize", (2, 3, 4), (None, SCALES), {"mode": "linear"}),
    Case("Resize", (2, 3, 4), (None, SCALES), {"mode": "nearest"}),
    Case("Resize", (2, 3, 4), (None, SCALES), {"mode": "cubic"}),
    Case("CumSum", (5,), (np.array(1),)),
    Case("Tile", (2, 3), (np.array([1, 2, 2]),)),
    Case("DepthToSpace", (4, 2, 2), attrs={"blocksize": 2}),
    Case("Trilu", (3, 3)),
]
OTHERS = [
    *(Case(op, (5,)) for op in ("Elu", "Selu", "Celu", "HardSwish", "Softsign", "Mish")),
    *(Case(op, (2, 3)) for op in ("LogSoftmax", "Abs", "Atan")),
    *(
        Case(f"Reduce{what}", (2, 3), attrs={"axes": [2], "keepdims": 0})
        for what in ("L1", "L2", "LogSumExp", "Max", "Min", "SumSquare")
    ),
    Case("InstanceNormalization", (2, 2, 3), ((2,), (2,))),
    Case("GroupNormalization", (4, 2), ((4,), (4,)), {"num_groups": 2}, opset=21),
    Case("LayerNormalization", (2, 3), ((3,), (3,))),
    Case("MaxPool", (1, 3, 4), attrs={"kernel_shape": [2, 3], "pads": [1, 0, 0, 2]}),
    Case("Pow", (5,), (np.array(4, np.float32),)),
    Case("Celu", (5,), attrs={"alpha": 0.3}),
    Case("Selu", (5,), attrs={"alpha": 0.7, "gamma": 1.3}),
    Case("Max", (5,), ((5,), (1,))),
    Case("Shrink", (5,), attrs={"lambd": 0.2, "bias": 0.2}, opset=13),
]


def read(case: Case, normal: Callable[..., Array]) -> Graph:
    weights = [normal(*w) if isinstance(w, tuple) else w for w in case.weights]
    opset = 18 if case.op == "Mish" else case.opset
    data = operator_file(case.op, (1, *case.shape), *weights, opset=opset, **case.attrs)
    return network_from_bytes(data).graph


def margins(graph: Graph) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of every output and its negative: interval bounds, CROWN's, and the least of samples."""
    torch.manual_seed(0)
    middle = torch.randn(3, *graph.input_shape, dtype=torch.float64)
    radius = torch.tensor([0.05, 0.3, 1.5], dtype=torch.float64)
    radius = radius.reshape(3, *(1,) * len(graph.input_shape))
    box = Box(middle - radius, middle + radius)
    rows = torch.cat([torch.eye(graph.outputs), -torch.eye(graph.outputs)]).double()
    spec = Specification(rows.expand(3, -1, -1), torch.zeros(3, len(rows)).double())
    bounds = interval_bounds(graph, box)
    last = len(graph.nodes) - 1
    by_interval = torch.cat([bounds.lower[last], -bounds.upper[last]], 1)
    by_crown = crown_margins(graph, box, spec, bounds).lower
    shares = torch.rand(400, 3, *graph.input_shape, dtype=torch.float64)
    shares[:100] = shares[:100].round()
    points = (box.lower + shares * (box.upper - box.lower)).clamp(box.lower, box.upper)
    outputs = graph(points.flatten(0, 1))
    least = (outputs @ rows.T).unflatten(0, (400, 3)).amin(0)
    return by_interval, by_crown, least


@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_samples_are_within_the_bounds(case: Case, normal: Callable[..., Array]) -> None:
    by_interval, by_crown, least = margins(read(case, normal))
    assert bool((least >= by_interval).all())
    assert bool((least >= by_crown).all())
    assert bool(torch.isfinite(by_interval[0]).all())


@pytest.mark.parametrize(
    ("operator", "attributes", "expected"),
    [
        ("Elu", {}, ["elu"]),
        ("Celu", {"alpha": 0.5}, ["elu"]),
        ("Selu", {}, ["selu"]),
        ("Elu", {"alpha": 0.5}, ["elu"]),
    ],
)
def test_exponentials_below_zero_are_one_function_where_there_is_one(
    operator: str, attributes: dict[str, Any], expected: list[str]
) -> None:
    graph = network_from_bytes(operator_file(operator, (1, 5), **attributes)).graph
    found = [node.op.function for node in graph.nodes if isinstance(node.op, Elementwise)]
    assert found == expected


def test_a_normalisation_is_bounded_beside_large_values() -> None:
    """Its variance is 0 to 1e12 or so: the ε that is added to it has to be left in the sum."""
    ones = np.ones(3, np.float32)
    data = operator_file("LayerNormalization", (1, 3), ones, opset=17, epsilon=1e-6)
    graph = network_from_bytes(data).graph
    box = Box(*(torch.full((1, 3), end, dtype=torch.float64) for end in (-1e6, 1e6)))
    last = len(graph.nodes) - 1
    assert bool(torch.isfinite(interval_bounds(graph, box).upper[last]).all())


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_linear_operators_are_bounded_exactly(case: Case, normal: Callable[..., Array]) -> None:
    graph = read(case, normal)
    by_interval, by_crown, least = margins(graph)
    assert bool((least >= by_crown).all())
    # the exact bound of a linear map: its value in the middle, less the radius times |slopes|
    torch.manual_seed(0)
    middle = torch.randn(3, *graph.input_shape, dtype=torch.float64)
    zero = graph(torch.zeros_like(middle[:1]))
    size = middle[0].numel()
    slopes = graph(torch.eye(size, dtype=torch.float64).reshape(size, *graph.input_shape)) - zero
    reach = torch.tensor([[0.05], [0.3], [1.5]], dtype=torch.float64) * slopes.abs().sum(0)
    value = graph(middle)
    expected = torch.cat([value - reach, -value - reach], 1)
    assert torch.allclose(by_crown, expected, atol=1e-9)
    assert bool((by_interval <= expected + 1e-9).all())

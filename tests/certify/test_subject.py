"""What stages are given to bound: the network's function, written so that bounds like it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from verify_pipeline.branching.tree.splittable import is_splittable
from verify_pipeline.certify.contract import Subject
from verify_pipeline.certify.settings import ALL_STAGES, CertifySettings, plan
from verify_pipeline.certify.stages import build_stages, for_few_inputs
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.limits import AtLeast
from verify_pipeline.network.ops import Linear, MaxPool2d
from verify_pipeline.onnx import network_from_module
from verify_pipeline.problem import Box

CPU = torch.device("cpu")


def test_max_pooling_is_written_with_relus_whoever_asks() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    network = network_from_module(module.eval(), (1, 6, 6))
    assert any(isinstance(node.op, MaxPool2d) for node in network.graph.nodes)
    pixels = Box(torch.zeros(1, 1, 6, 6), torch.ones(1, 1, 6, 6))
    subject = Subject.of(network.graph, network.replay, CPU, lambda: pixels)
    assert not any(isinstance(node.op, MaxPool2d) for node in subject.exact.nodes)
    x = torch.rand(3, 1, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(subject.exact(x), network.graph(x))


class Pair(nn.Module):
    """The greater, and the lesser, of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, other = self.one(x), self.other(x)
        return torch.cat([torch.maximum(one, other), torch.minimum(one, other)], 1)


CLAMPS = {
    "relu6": (nn.ReLU6(), ["Linear", "Relu", "Scale", "Relu", "Linear"]),
    "hardtanh": (nn.Hardtanh(), ["Linear", "Relu", "Scale", "Relu", "Linear"]),
    "hardsigmoid": (nn.Hardsigmoid(), ["Linear", "Relu", "Scale", "Relu", "Linear"]),
    "not reached": (nn.Hardtanh(-1e4, 1e12), ["Linear"]),
}


@pytest.mark.parametrize("name", CLAMPS)
def test_limits_are_written_with_relus_or_left_out(name: str) -> None:
    torch.manual_seed(0)
    clamp, expected = CLAMPS[name]
    module = nn.Sequential(nn.Linear(6, 4), clamp, nn.Linear(4, 2))
    network = network_from_module(module, (6,))
    box = Box(torch.zeros(1, 6).double() - 9, torch.ones(1, 6).double() + 9)
    subject = Subject.of(network.graph, network.replay, CPU, lambda: box)
    assert [type(node.op).__name__ for node in subject.exact.nodes[1:]] == expected
    x = torch.rand(50, 6, dtype=torch.float64) * 18 - 9
    torch.testing.assert_close(subject.exact(x), module.double()(x), atol=1e-6, rtol=1e-6)


def test_maxima_of_two_layers_can_be_split() -> None:
    torch.manual_seed(0)
    network = network_from_module(Pair(), (6,))
    assert not is_splittable(network.graph)
    box = Box(torch.zeros(1, 6).double(), torch.ones(1, 6).double())
    subject = Subject.of(network.graph, network.replay, CPU, lambda: box)
    assert is_splittable(subject.exact)
    x = torch.rand(50, 6, dtype=torch.float64)
    torch.testing.assert_close(subject.exact(x), network.graph(x))


@pytest.mark.parametrize("limit", [-1e30, -1e5])
def test_what_is_lost_beside_a_limit_is_not_written_as_a_sum(limit: float) -> None:
    """The limit is reached, so it stays; what is not far below zero is still there."""
    b = GraphBuilder((2,), dtype=torch.float64)
    steep = b.add(Linear(torch.tensor([[2 * limit, 0.0], [0.0, 1.0]]).double()), 0)
    graph = b.build(b.add(AtLeast(torch.tensor(limit, dtype=torch.float64)), steep))
    box = Box(torch.zeros(1, 2).double(), torch.ones(1, 2).double())
    subject = Subject.of(graph, lambda x: x, CPU, lambda: box)
    x = torch.tensor([[1.0, 1e-9]], dtype=torch.float64)
    assert subject.exact(x).tolist() == [[limit, 1e-9]]


def test_boxes_with_few_inputs_are_halved_where_relus_were_to_be_split() -> None:
    network = network_from_module(nn.Linear(2, 2), (2,))
    subject = Subject.of(network.graph, network.replay, CPU)
    made = plan(CertifySettings(epsilon=0.1, stages=ALL_STAGES))
    ours = build_stages(made, subject, 1, float)
    behind = ours[-2]  # stands for another tool's
    made_of_these = for_few_inputs((*ours, behind), made, subject, 1, float)
    assert [stage.name for stage in made_of_these] == [
        *("clean", "ibp", "attack", "crown", "input-split"),
        *("alpha-crown", "branch-and-bound"),
        behind.name,
    ]
    kept = for_few_inputs(ours[:-1], made, subject, 1, float)
    assert [stage.name for stage in kept] == list(ALL_STAGES[:-1])

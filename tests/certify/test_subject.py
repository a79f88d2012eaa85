"""What stages are given to bound: the network's function, written so that bounds like it."""

from __future__ import annotations

import torch
from torch import nn

from verify_pipeline.certify.contract import Subject
from verify_pipeline.certify.settings import ALL_STAGES, CertifySettings, plan
from verify_pipeline.certify.stages import build_stages, for_few_inputs
from verify_pipeline.network.ops import MaxPool2d
from verify_pipeline.onnx import network_from_module

CPU = torch.device("cpu")


def test_max_pooling_is_written_with_relus_whoever_asks() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    network = network_from_module(module.eval(), (1, 6, 6))
    assert any(isinstance(node.op, MaxPool2d) for node in network.graph.nodes)
    subject = Subject.of(network.graph, network.replay, CPU)
    assert not any(isinstance(node.op, MaxPool2d) for node in subject.exact.nodes)
    x = torch.rand(3, 1, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(subject.exact(x), network.graph(x))


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

"""Ends that come to their limits: what was proved, and what the file itself answers."""

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.certify import CertifySettings, certify_set
from verify_pipeline.certify.replay import confirm
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer
from verify_pipeline.interop.vnnlib import parse_vnnlib
from verify_pipeline.network.outputs import beginning
from verify_pipeline.onnx import Network, network_from_module
from verify_pipeline.problem import TIED, Box, Specification, Status
from verify_pipeline.reporting.tables import verdict_table


def steep(end: nn.Module, factors: tuple[float, float] = (60.0, 50.0)) -> Network:
    """``end(60 x)`` and ``end(50 x)``."""
    layer = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(factors)[:, None])
    return network_from_module(nn.Sequential(layer, end), (1,))


def boxes(lower: float, upper: float, point: float) -> BoxSet:
    low, high = (torch.tensor([[one]], dtype=torch.float64) for one in (lower, upper))
    return BoxSet("box", "boxes", low, high, torch.tensor([0]), torch.tensor([[point]]))


@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Tanh()])
def test_an_image_that_ties_as_deployed_is_counted_apart(end: nn.Module) -> None:
    network = steep(end)
    summary = certify_set(network, boxes(0.009, 1.0, 0.01), CertifySettings(epsilon=0.0))
    (record,) = summary.records
    tie = network.replay(torch.tensor([[1.0]]))
    assert tie[0, 0] == tie[0, 1]
    assert record.status is Status.VERIFIED
    assert record.tied
    assert TIED in record.detail
    assert "before the network's end" in record.detail
    tally = summary.tally
    assert (tally.images, tally.proved, tally.tied, tally.undecided) == (1, 0, 1, 0)
    assert tally.not_broken == 0
    frame = verdict_table([summary])
    assert frame["tied_as_deployed"].tolist() == [100.0]
    assert frame["verified"].tolist() == [0.0]


def test_the_limit_below_is_looked_at_too() -> None:
    """``e^-x`` comes to 0: of scores far below zero both outputs are."""
    network = steep(nn.Sigmoid(), (-110.0, -120.0))
    summary = certify_set(network, boxes(0.009, 1.0, 0.01), CertifySettings(epsilon=0.0))
    assert summary.tally.tied == 1


@pytest.mark.parametrize("upper", [0.02, 0.05])
def test_where_the_file_tells_the_classes_apart_it_is_verified(upper: float) -> None:
    summary = certify_set(
        steep(nn.Sigmoid()), boxes(0.009, upper, 0.01), CertifySettings(epsilon=0.0)
    )
    (record,) = summary.records
    assert (summary.tally.proved, summary.tally.tied) == (1, 0)
    assert record.detail.startswith("proved of ")
    assert "tied_as_deployed" not in verdict_table([summary])


def test_a_softmax_keeps_the_greatest_apart() -> None:
    begun = beginning(steep(nn.Softmax(1)).graph)
    assert begun is not None
    assert not begun.saturates
    assert begun.graph.outputs == 2
    images = ImageSet("one", "test", torch.tensor([[0.5]]), torch.tensor([0]), 2)
    summary = certify_set(steep(nn.Softmax(1)), images, CertifySettings(epsilon=0.3))
    (record,) = summary.records
    assert summary.tally.proved == 1
    assert record.detail == f"proved of {begun.name}, before the network's end"


def test_a_network_without_such_an_end_says_nothing() -> None:
    assert beginning(steep(nn.ReLU()).graph) is None
    images = ImageSet("one", "test", torch.tensor([[0.5]]), torch.tensor([0]), 2)
    (record,) = certify_set(steep(nn.ReLU()), images, CertifySettings(epsilon=0.3)).records
    assert record.status is Status.VERIFIED
    assert record.detail == ""


@pytest.mark.parametrize(("upper", "answer"), [(0.03, Answer.UNSAT), (1.0, Answer.SAT)])
def test_a_tie_of_the_file_is_a_counterexample_to_a_property(upper: float, answer: Answer) -> None:
    """``Y_0 <= Y_1`` is met by a tie, which onnxruntime answers for all larger inputs."""
    text = "".join(f"(declare-const {name} Real)" for name in ("X_0", "Y_0", "Y_1"))
    text += f"(assert (>= X_0 0.009)) (assert (<= X_0 {upper})) (assert (<= Y_0 Y_1))"
    network = steep(nn.Sigmoid())
    (found,) = decide(network, [parse_vnnlib(text)], property_plan(5.0))
    assert found.answer is answer
    if answer is Answer.UNSAT:
        assert found.detail.startswith("proved of ")
    else:
        assert found.point is not None
        output = network.replay(found.point.unsqueeze(0))
        assert output[0, 0] <= output[0, 1]


def in_company(x: Tensor) -> Tensor:
    """A network that answers otherwise in a batch: the first class loses only there."""
    first = torch.ones(len(x)) if len(x) == 1 else -torch.ones(len(x))
    return torch.stack([first, torch.zeros(len(x))], 1)


def by_itself(x: Tensor) -> Tensor:
    """One that loses by less where it is alone."""
    return torch.stack([torch.full((len(x),), -1.0 if len(x) > 1 else -0.5), x[:, 0] * 0], 1)


def test_counterexamples_are_replayed_alone() -> None:
    points = torch.rand(3, 2)
    box = Box(torch.zeros(3, 2).double(), torch.ones(3, 2).double())
    spec = Specification.margins(torch.zeros(3, dtype=torch.int64), 2, torch.float64)
    assert confirm(in_company, box, spec, points, torch.float32) == [None] * 3
    assert [one.margin for one in confirm(by_itself, box, spec, points, torch.float32) if one] == [
        -0.5
    ] * 3

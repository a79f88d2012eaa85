"""What lines lose, by hand; and that nothing of it keeps a graph of derivatives alive."""

from __future__ import annotations

import pytest
import torch

from tests.networks_by_hand import chain, linear
from verify_pipeline.bounds import interval_bounds
from verify_pipeline.bounds.linear.relaxation_gap import margins_and_gaps
from verify_pipeline.network.ops import AvgPool2d, Relu, Reshape
from verify_pipeline.problem import Box, Specification


def test_a_relu_loses_where_its_lines_are_off_it() -> None:
    graph = chain((1,), linear([[1], [1]]), Relu())
    box = Box(torch.tensor([[-1.0]]).double(), torch.tensor([[3.0]]).double())
    # + relu: the lower line is z itself (3 > 1), off by 0 at z = 0, 1, 2: nothing is lost there;
    # - relu: the upper line 3/4 z + 3/4 is off by 0.75, 0.5 and 0.25
    for sign, lost in ((1.0, 0.0), (-1.0, 1.5)):
        spec = Specification(torch.tensor([[[sign, 0.0]]]).double(), torch.zeros(1, 1).double())
        margins, slack = margins_and_gaps(graph, box, spec, interval_bounds(graph, box))
        assert slack[2][0].tolist() == pytest.approx([lost, 0.0])
        assert float(margins.lower) == pytest.approx(-1.0 if sign > 0 else -3.0)


def test_no_derivatives_are_kept() -> None:
    graph = chain((1, 2, 2), Relu(), AvgPool2d((2, 2), (2, 2)), Reshape((1,)))
    box = Box(-torch.ones(1, 1, 2, 2).double(), torch.ones(1, 1, 2, 2).double())
    spec = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    margins, slack = margins_and_gaps(graph, box, spec, interval_bounds(graph, box))
    assert not margins.lower.requires_grad
    assert not any(lost.requires_grad for lost in slack.values())

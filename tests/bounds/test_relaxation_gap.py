"""What lines lose, by hand; and that nothing of it keeps a graph of derivatives alive."""

import pytest
import torch

from verify_pipeline.bounds import interval_bounds
from verify_pipeline.bounds.linear.relaxation_gap import margins_and_gaps
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import AvgPool2d, Linear, Relu, Reshape
from verify_pipeline.problem import Box, Specification


def test_a_relu_loses_where_its_lines_are_off_it() -> None:
    builder = GraphBuilder((1,), dtype=torch.float64)
    builder.add(Relu(), builder.add(Linear(torch.tensor([[1.0], [1.0]]).double(), None), 0))
    graph = builder.build()
    box = Box(torch.tensor([[-1.0]]).double(), torch.tensor([[3.0]]).double())
    # + relu: the lower line is z itself (3 > 1), off by 0 at z = 0, 1, 2: nothing is lost there;
    # - relu: the upper line 3/4 z + 3/4 is off by 0.75, 0.5 and 0.25
    for sign, lost in ((1.0, 0.0), (-1.0, 1.5)):
        spec = Specification(torch.tensor([[[sign, 0.0]]]).double(), torch.zeros(1, 1).double())
        margins, slack = margins_and_gaps(graph, box, spec, interval_bounds(graph, box))
        assert slack[2][0].tolist() == pytest.approx([lost, 0.0])
        assert float(margins.lower) == pytest.approx(-1.0 if sign > 0 else -3.0)


def test_no_derivatives_are_kept() -> None:
    builder = GraphBuilder((1, 2, 2), dtype=torch.float64)
    pooled = builder.add(AvgPool2d((2, 2), (2, 2)), builder.add(Relu(), 0))
    builder.add(Reshape((1,)), pooled)
    graph = builder.build()
    box = Box(-torch.ones(1, 1, 2, 2).double(), torch.ones(1, 1, 2, 2).double())
    spec = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    margins, slack = margins_and_gaps(graph, box, spec, interval_bounds(graph, box))
    assert not margins.lower.requires_grad
    assert not any(lost.requires_grad for lost in slack.values())

"""Scores of inputs, by hand: what a bound loses goes to the inputs whose steps lead there."""

import pytest
import torch
from torch import Tensor

from verify_pipeline.bounds import NodeBounds, interval_bounds
from verify_pipeline.branching.config.search_settings import InputSplitSettings
from verify_pipeline.branching.evaluate.input_scores import input_scores
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Linear, Mul, Relu, Slice
from verify_pipeline.problem import Box


def _tensor(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def _scores(graph: Graph, box: Box, slack: dict[int, Tensor], slopes: Tensor) -> list[float]:
    bounds: NodeBounds = interval_bounds(graph, box)
    settings = InputSplitSettings()
    found = input_scores(graph, box, bounds, slack, slopes, box, settings)[0]
    # parts are the whole boxes, so that each input that varies has the same share of the widths
    varying = (box.upper[0] > box.lower[0]).double()
    return (found - settings.widths * varying / varying.sum()).tolist()


def test_an_input_that_the_bound_does_not_depend_on_is_cut_for_what_is_lost_behind_it() -> None:
    # relu(5 x0) + x1 over [-1, 1]^2: the lower line of the ReLU is 0, so that the slope of x0 is 0
    builder = GraphBuilder((2,), dtype=torch.float64)
    first = builder.add(Linear(torch.tensor([[5.0, 0.0], [0.0, 1.0]]).double(), None), 0)
    builder.add(Relu(), first)
    builder.add(Linear(torch.tensor([[1.0, 1.0]]).double(), None), 2)
    box = Box(_tensor(-1, -1), _tensor(1, 1))
    # 2.5 are lost at the first neuron, all of whose interval is x0's; x1: a quarter of 2 · 1
    found = _scores(builder.build(), box, {2: _tensor(2.5, 0)}, _tensor(0, 1))
    assert found == pytest.approx([2.5 / 3, 0.5 / 3])


def test_steps_go_through_chords_and_sums() -> None:
    # h = relu(x0 + 1) in [0, 3] and x1 in [0, 1]; then relu(h + x1 - 2) over [-2, 2]
    builder = GraphBuilder((2,), dtype=torch.float64)
    h = builder.add(Linear(_tensor(1, 0), _tensor(1)[0]), 0)
    relu = builder.add(Relu(), h)
    other = builder.add(Linear(_tensor(0, 1), _tensor(-2)[0]), 0)
    builder.add(Relu(), builder.add(Add(), relu, other))
    box = Box(_tensor(-2, 0), _tensor(2, 1))
    # the chord of relu over [-1, 3] rises by 3/4: x0's step of 4 becomes 3, x1's stays 1, of 4
    found = _scores(builder.build(), box, {5: _tensor(8)}, _tensor(0, 0))
    assert found == pytest.approx([6 / 8, 2 / 8])


def test_steps_go_through_products_by_their_derivative_in_the_middle() -> None:
    # relu(x0 · x1) over [1, 3] x [-1, 1]: in the middle (2, 0), x0 moves it by 0 and x1 by 2 · 2
    builder = GraphBuilder((2,), dtype=torch.float64)
    left, right = builder.add(Slice(0, 0, 1), 0), builder.add(Slice(0, 1, 2), 0)
    builder.add(Relu(), builder.add(Mul(), left, right))
    box = Box(_tensor(1, -1), _tensor(3, 1))
    found = _scores(builder.build(), box, {4: _tensor(1.0)}, _tensor(0, 0))
    assert found == pytest.approx([0, 1])


def test_weights_are_those_of_the_settings() -> None:
    """The bound alone: slopes, and of the whole box's widths what parts have left."""
    builder = GraphBuilder((2,), dtype=torch.float64)
    graph = builder.build(builder.add(Linear(_tensor(3, 1), None), 0))
    part, whole = Box(_tensor(0, 0), _tensor(1, 1)), Box(_tensor(0, 0), _tensor(4, 1))
    for widths in (0.0, 0.5):
        settings = InputSplitSettings(slopes=1.0, widths=widths)
        found = input_scores(graph, part, NodeBounds({}, {}), {}, _tensor(3, 1), whole, settings)
        # slopes 3 and 1; a quarter of the first input is left, and all of the second
        assert found[0].tolist() == pytest.approx([0.75 + widths * 0.2, 0.25 + widths * 0.8])


def test_inputs_that_do_not_vary_are_not_cut() -> None:
    builder = GraphBuilder((2,), dtype=torch.float64)
    builder.add(Relu(), builder.add(Linear(_tensor(1, 100), None), 0))
    box = Box(_tensor(-1, 0), _tensor(1, 0))
    found = _scores(builder.build(), box, {2: _tensor(1.0)}, _tensor(0.5, 50))
    assert found == pytest.approx([1, 0])

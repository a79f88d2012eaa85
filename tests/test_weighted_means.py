"""Weighted means whose weights sum to one: by hand, where they are attained, inside products."""

import pytest
import torch

from tests.networks import attention
from verify_pipeline.bounds.interval.ibp import enclose, interval_bounds
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.means import mean_of
from verify_pipeline.network.ops import MatMul, Reshape, Softmax
from verify_pipeline.problem import Box
from verify_pipeline.weighted_means import MOST_PRICES, mean_interval

Interval = tuple[torch.Tensor, torch.Tensor]


def test_by_hand() -> None:
    # weights in [0.2, 0.6] and [0.1, 0.8] sum to one: the second is 0.4 to 0.8
    weights = torch.tensor([[0.2, 0.1]]), torch.tensor([[0.6, 0.8]])
    values = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [3.0]])
    lower, upper = mean_interval(weights, values)
    assert lower.item() == pytest.approx(0.6 * 1 + 0.4 * 3)
    assert upper.item() == pytest.approx(0.2 * 2 + 0.8 * 3)


def test_nothing_known_of_the_weights_leaves_the_range_of_the_values() -> None:
    weights = torch.zeros(2, 5), torch.ones(2, 5)
    values = torch.randn(5, 3), torch.randn(5, 3) + 9
    lower, upper = mean_interval(weights, values)
    torch.testing.assert_close(lower, values[0].amin(0).expand(2, 3))
    torch.testing.assert_close(upper, values[1].amax(0).expand(2, 3))


def drawn(tokens: int, seed: int) -> tuple[Interval, Interval]:
    """Weights around a softmax, ``2 x 3 x J``, and values ``2 x J x 2``."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scores, width = draw(2, 3, tokens) * 2, draw(2, 3, tokens).abs()
    weights = enclose(Softmax(1), (scores - width, scores + width))
    values = draw(2, tokens, 2) * 3
    return weights, (values, values + draw(2, tokens, 2).abs())


@pytest.mark.parametrize("tokens", [1, 2, 5, MOST_PRICES])
@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_attained_by_weights_that_go_to_the_best_values_first(
    tokens: int, seed: int
) -> None:
    weights, values = drawn(tokens, seed)
    lower, upper = mean_interval(weights, values)
    for d in range(2):
        for bound, of, sign in ((lower, values[0], 1), (upper, values[1], -1)):
            column = of[:, :, d]
            best = feasible(weights, sign * column.unsqueeze(1).expand(2, 3, tokens))
            torch.testing.assert_close(best.sum(-1), torch.ones(2, 3, dtype=torch.float64))
            torch.testing.assert_close(bound[:, :, d], (best @ column.unsqueeze(2)).squeeze(2))


@pytest.mark.parametrize("tokens", [3, MOST_PRICES + 1, 40])
def test_it_contains_means_and_lies_within_values(tokens: int) -> None:
    weights, values = drawn(tokens, 5)
    lower, upper = mean_interval(weights, values)
    assert bool((lower >= values[0].amin(1, keepdim=True) - 1e-12).all())
    assert bool((upper <= values[1].amax(1, keepdim=True) + 1e-12).all())
    product_lower, product_upper = enclose(MatMul(), weights, values)
    if tokens > MOST_PRICES:
        assert bool((upper - lower < product_upper - product_lower).all())
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        share = torch.rand(2, 3, tokens, generator=generator, dtype=torch.float64)
        weight = feasible(weights, share)
        value = (
            values[0]
            + (values[1] - values[0])
            * torch.rand(2, tokens, 2, generator=generator, dtype=torch.float64).round()
        )
        mean = weight @ value
        assert bool((mean >= lower - 1e-9).all() and (mean <= upper + 1e-9).all())


def feasible(weights: Interval, share: torch.Tensor) -> torch.Tensor:
    """Weights within their bounds that sum to one: filled up in a drawn order."""
    least, most = weights
    order = share.argsort(-1)
    room = (most - least).gather(-1, order)
    left = (1 - least.sum(-1, keepdim=True)) - (room.cumsum(-1) - room)
    filled = torch.zeros_like(least).scatter(-1, order, left.clamp(min=0).minimum(room))
    return least + filled


def test_gradients_reach_weights_and_values() -> None:
    weights, values = drawn(4, 1)
    leaves = [each.detach().requires_grad_() for each in (*weights, *values)]
    lower, upper = mean_interval((leaves[0], leaves[1]), (leaves[2], leaves[3]))
    (upper - lower).sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0)


def matrix_product(axis: int, weights_first: bool = True) -> Graph:
    """Softmax along an axis of ``x``, ``4 x 4``, times ``x``, or the other way round."""
    b = GraphBuilder((16,))
    x = b.add(Reshape((4, 4)), 0)
    weights = b.add(Softmax(axis), x)
    pair = (weights, x) if weights_first else (x, weights)
    b.add(MatMul(), *pair)
    return b.build()


@pytest.mark.parametrize(
    ("graph", "is_mean"),
    [
        (matrix_product(1), True),
        (matrix_product(0), False),
        (matrix_product(1, weights_first=False), False),
    ],
)
def test_only_a_softmax_along_the_summed_axis_makes_a_mean(graph: Graph, is_mean: bool) -> None:
    place = len(graph.nodes) - 1
    assert (mean_of(graph, place) is not None) is is_mean
    torch.manual_seed(0)
    x = torch.randn(3, 16, dtype=torch.float64)
    box = Box(x - 0.5, x + 0.5)
    bounds = interval_bounds(graph, box)
    lower, upper = bounds.lower[place], bounds.upper[place]
    for _ in range(200):
        value = graph(box.lower + (box.upper - box.lower) * torch.rand_like(x).round())
        assert bool((value >= lower - 1e-9).all() and (value <= upper + 1e-9).all())


def test_attention_is_bounded_by_its_values() -> None:
    graph = attention(tokens=7).to(torch.float64)
    place = next(i for i in range(len(graph.nodes)) if mean_of(graph, i) is not None)
    _, values = mean_of(graph, place) or (0, 0)
    x = torch.randn(2, *graph.nodes[0].shape, dtype=torch.float64)
    bounds = interval_bounds(graph, Box(x - 3, x + 3))
    assert bool((bounds.upper[place] <= bounds.upper[values].amax(-2, keepdim=True) + 1e-9).all())
    assert bool((bounds.lower[place] >= bounds.lower[values].amin(-2, keepdim=True) - 1e-9).all())

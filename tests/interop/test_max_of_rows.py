"""The greatest row as layers of the network."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from tests.exact_graph import fractions
from tests.networks import mlp
from tests.networks_by_hand import chain
from verify_pipeline.bounds import crown_margins, interval_bounds
from verify_pipeline.errors import NetworkError
from verify_pipeline.interop.max_of_rows import AnyOf, append_any_of, replay_any_of
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Linear
from verify_pipeline.problem import Box, Specification


def network() -> Graph:
    return mlp(0, 3, (6,), outputs=4).to(torch.float64)


def groups_of(sizes: list[int], outputs: int = 4) -> list[AnyOf]:
    generator = torch.Generator().manual_seed(1)
    return [
        AnyOf(
            torch.randn(size, outputs, generator=generator, dtype=torch.float64),
            torch.randn(size, generator=generator, dtype=torch.float64),
        )
        for size in sizes
    ]


def test_of_two_outputs_by_hand() -> None:
    group = AnyOf(torch.eye(2, dtype=torch.float64), torch.tensor([0.0, -1.0]).double())
    identity = chain((2,), Linear(torch.eye(2)), dtype=torch.float32)
    found = append_any_of(identity, [group])
    x = torch.tensor([[3.0, 2.0], [3.0, 8.0], [-5.0, -4.0], [1.0, 2.0]])
    assert found(x).tolist() == [[3.0], [7.0], [-5.0], [1.0]]
    assert found.outputs == 1


@pytest.mark.parametrize("sizes", [[1], [2], [3], [7], [8], [1, 1], [1, 2, 5], [6] * 15, [3, 1]])
def test_the_greatest_row_of_each_group(sizes: list[int]) -> None:
    graph, groups = network(), groups_of(sizes)
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    extended = append_any_of(graph, groups)
    expected = torch.stack([g.values(graph(x)) for g in groups], dim=1)
    assert torch.allclose(extended(x), expected, rtol=0, atol=1e-13)
    assert torch.equal(replay_any_of(graph, groups)(x), expected)
    assert len({node.name for node in extended.nodes}) == len(extended.nodes)


def test_whole_numbers_are_exact() -> None:
    rows = torch.tensor([[1, 0, 0, 0], [0, 1, 0, -1], [0, 0, 2, 0]]).double()
    groups = [AnyOf(rows, torch.tensor([0.0, 1, -2]).double())]
    x = torch.randint(-9, 9, (500, 4), generator=torch.Generator().manual_seed(3)).float()
    found = append_any_of(chain((4,), Linear(torch.eye(4)), dtype=torch.float32), groups)(x)
    assert torch.equal(found[:, 0], groups[0].values(x.double()).float())


def test_differences_of_rows_count_what_they_round() -> None:
    groups = groups_of([4], outputs=2)
    identity = chain((2,), Linear(torch.eye(2).double()), dtype=torch.float64)
    ones = torch.ones(1, 2, dtype=torch.float64)
    graph = append_any_of(identity, groups, Box(-ones, ones))
    one, other = fractions(groups[0].rows[0::2]), fractions(groups[0].rows[1::2])
    first = next(node.op for node in graph.nodes if isinstance(node.op, Linear) and node.op.error)
    lost = abs(other - one - fractions(first.weight)).sum(axis=1)
    assert 0 < max(lost) <= Fraction(first.error.gain)
    before, behind = (fractions(groups[0].offsets[n::2]) for n in range(2))
    assert first.bias is not None
    changed = abs(behind - before - fractions(first.bias))
    assert 0 < max(changed) <= Fraction(first.error.constant)


def test_bounds_of_the_extended_network_are_sound() -> None:
    graph, groups = network(), groups_of([3, 2])
    extended = append_any_of(graph, groups)
    center = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)
    box = Box(center - 0.2, center + 0.2)
    spec = Specification(torch.eye(2).double().unsqueeze(0), torch.zeros(1, 2).double())
    lower = crown_margins(extended, box, spec, interval_bounds(extended, box)).lower
    x = box.lower + torch.rand(2000, 3, dtype=torch.float64) * (box.upper - box.lower)
    values = torch.stack([g.values(graph(x)) for g in groups], dim=1)
    assert bool((values.amin(0) >= lower[0]).all())


def test_a_network_with_other_outputs_is_refused() -> None:
    with pytest.raises(NetworkError, match="vector of 5 numbers"):
        append_any_of(network(), groups_of([2], outputs=5))

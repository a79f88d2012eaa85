"""Networks of ReLUs and smooth functions: what the search says is what a fine grid says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.branching.grids import least_on_grid, random_image, robust
from tests.branching.searching import by_graph, query_of, ticking
from verify_pipeline.bounds import (
    MemoryBudget,
    OptimiseSettings,
    crown_margins,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.search.portfolio import relu_search
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Elementwise, Linear, Relu
from verify_pipeline.problem import Status

F64 = torch.float64


def mixed(seed: int, function: str) -> Graph:
    """ReLU, the function, ReLU, the function; two inputs, three outputs."""
    generator = torch.Generator().manual_seed(seed)
    builder, place, width = GraphBuilder((2,)), 0, 2
    for layer, size in enumerate((6, 6, 6, 6, 3)):
        weight = torch.randn(size, width, generator=generator) * (2 / width) ** 0.5
        place = builder.add(Linear(weight, 0.5 * torch.randn(size, generator=generator)), place)
        if layer < 4:
            place = builder.add(Elementwise(function) if layer % 2 else Relu(), place)
        width = size
    return builder.build().to(F64)


@pytest.mark.parametrize("function", ["tanh", "sigmoid", "elu", "selu"])
def test_verdicts_are_those_of_a_fine_grid(function: str) -> None:
    verified, falsified, few = 0, 0, OptimiseSettings(iterations=4)
    for seed in range(3):
        problem = robust(mixed(seed, function), random_image(seed), 0.3)
        graph, box = problem.graph, problem.box
        crown = query_of(problem).root
        root = optimise_intermediate(graph, box, crown, few, MemoryBudget())
        gap = least_on_grid(problem) - float(
            crown_margins(graph, box, problem.spec, root).lower.min()
        )
        for wanted in (0.6 * gap + 1e-3, -0.05):
            moved = problem.with_least(wanted)
            _, start = optimise(graph, box, moved.spec, root, few)
            query = replace(query_of(moved, start=start), root=root)
            settings = SearchSettings(max_domains=100)
            replay = by_graph(query.spec, graph)
            (end,) = relu_search(query, settings, replay, ticking(1e-6)).run()
            if end.status is Status.VERIFIED:
                assert end.bound is not None
                assert 0 < end.bound <= wanted
                verified += 1
            if end.status is Status.FALSIFIED:
                assert end.counterexample is not None
                point = end.counterexample.input.double().unsqueeze(0)
                assert float(moved.spec.values(graph(point)).min()) <= 0
                falsified += 1
            assert end.status is not (Status.VERIFIED if wanted < 0 else Status.FALSIFIED)
    assert verified >= 1
    assert falsified >= 2  # of 3: where no ReLU is left to split, a search may end before

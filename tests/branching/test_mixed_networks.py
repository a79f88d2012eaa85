"""Networks of ReLUs and smooth functions: what the search says is what a fine grid says."""

from __future__ import annotations

import pytest
import torch

from tests.branching.test_pieces import least_on_grid
from verify_pipeline.bounds import (
    MemoryBudget,
    OptimiseSettings,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.relu_split import search
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Elementwise, Linear, Relu
from verify_pipeline.problem import Box, Specification, Status

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
    verified = 0
    for seed in range(3):
        graph = mixed(seed, function)
        image = torch.rand(1, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))
        box = Box.around(image, 0.3, clip=None)
        spec = Specification.margins(graph(image).argmax(1), 3, F64)
        least = least_on_grid(graph, box, spec)
        crown = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
        few = OptimiseSettings(iterations=4)
        root = optimise_intermediate(graph, box, crown, few, MemoryBudget())
        gap = least - float(crown_margins(graph, box, spec, root).lower.min())
        for wanted in (0.6 * gap + 1e-3, -0.05):  # the least margin becomes this
            moved = Specification(spec.rows, spec.offsets - least + wanted)
            _, start = optimise(graph, box, moved, root, few)
            patience = Deadlines.alone(torch.full((1,), 1e6))
            settings = SearchSettings(max_domains=100)
            (end,) = search(graph, box, moved, root, settings, patience, start)
            if end.status is Status.VERIFIED:
                assert end.bound is not None
                assert 0 < end.bound <= wanted + 1e-9
                verified += 1
            assert wanted > 0 or end.status is Status.FALSIFIED
    assert verified >= 1

"""Activations that auto_LiRPA 0.3 lacks, against this package's own interval pass and by hand."""

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.bounds import interval_margins
from verify_pipeline.lirpa import AutoLirpaBounder, load
from verify_pipeline.lirpa.more_activations import prelu_interval
from verify_pipeline.onnx import network_from_module
from verify_pipeline.problem import Box, Specification, margin_matrix

pytestmark = pytest.mark.skipif(
    not load().version.startswith("0.3"), reason="later releases have rules of their own"
)


def between(activation: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), activation, nn.Linear(8, 8), activation, nn.Linear(8, 3))


def bounds(module: nn.Module, box: Box) -> Tensor:
    rows = margin_matrix(torch.tensor([0, 1, 2, 0]), 3)
    return AutoLirpaBounder(module.eval(), (6,)).ibp(box, rows)


def boxes() -> Box:
    x = 4 * torch.randn(4, 6, generator=torch.Generator().manual_seed(5))
    return Box(x - 0.3, x + 0.3)


@pytest.mark.parametrize(
    "activation",
    [
        nn.ELU(),
        nn.ELU(0.4),
        nn.CELU(0.7),
        nn.SELU(),
        nn.Hardsigmoid(),
        nn.PReLU(8, init=0.25),
    ],
    ids=repr,
)
def test_bounds_are_those_of_our_own_interval_pass(activation: nn.Module) -> None:
    module, box = between(activation), boxes()
    rows = margin_matrix(torch.tensor([0, 1, 2, 0]), 3, torch.float64)
    graph = network_from_module(module, (6,)).graph
    wide = Box(box.lower.double(), box.upper.double())
    own = interval_margins(graph, wide, Specification(rows, rows.new_zeros(4, 2)))
    torch.testing.assert_close(bounds(module, box).double(), own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.Hardswish(), nn.PReLU(1, -0.5)], ids=repr)
def test_bounds_hold_at_points(activation: nn.Module) -> None:
    module, box = between(activation), boxes()
    lower = bounds(module, box).detach()
    rows = margin_matrix(torch.tensor([0, 1, 2, 0]), 3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        x = box.lower + (box.upper - box.lower) * torch.rand(4, 6, generator=generator)
        margins = torch.einsum("nsk,nk->ns", rows, module(x))
        assert bool((margins >= lower - 1e-4).all())


def test_gradients_reach_the_slopes_of_prelu() -> None:
    module = between(nn.PReLU(8))
    bounds(module, boxes()).sum().backward()
    gradient = module[1].weight.grad
    assert gradient is not None
    assert bool(torch.isfinite(gradient).all())
    assert bool((gradient != 0).any())


def test_prelu_by_hand() -> None:
    lower = torch.tensor([-2.0, -2.0, -2.0, 1.0, -2.0])
    upper = torch.tensor([3.0, 3.0, -1.0, 2.0, 0.5])
    slope = torch.tensor([0.5, -0.5, -0.5, -0.5, -1.0])
    least, most = prelu_interval(lower, upper, slope)
    # -2 gives -1 and 1; with a falling branch the least value is at the turn, 0
    assert least.tolist() == [-1.0, 0.0, 0.5, 1.0, 0.0]
    assert most.tolist() == [3.0, 3.0, 1.0, 2.0, 2.0]

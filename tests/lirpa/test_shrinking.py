"""SABR's shrunk ReLU, by hand and against a plain interval pass."""

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.lirpa.shrinking import shrunk
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box, margin_matrix


def test_only_unstable_neurons_lose_a_part_of_their_upper_side() -> None:
    lower = torch.tensor([-3.0, -1.0, 0.0, 0.5, -2.0, -1.0])
    upper = torch.tensor([-1.0, 2.0, 2.0, 2.0, 0.0, 10.0])
    low, high = shrunk(lower, upper, 0.8)
    assert torch.equal(low, lower)
    torch.testing.assert_close(high, torch.tensor([-1.0, 1.6, 2.0, 2.0, 0.0, 8.0]))


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)
    )


def by_hand(module: nn.Sequential, box: Box, rows: Tensor, share: float) -> Tensor:
    """Interval bounds of the margins, with c times the upper side of unstable neurons."""
    lower, upper = box.lower, box.upper
    *before, last = module
    for layer in before:
        if isinstance(layer, nn.ReLU):
            upper = torch.where((lower < 0) & (upper > 0), upper * share, upper)
            lower, upper = lower.relu(), upper.relu()
        else:
            center = layer((lower + upper) / 2)
            radius = (upper - lower) / 2 @ layer.weight.abs().T
            lower, upper = center - radius, center + radius
    weight, bias = rows @ last.weight, rows @ last.bias
    center = torch.einsum("nsh,nh->ns", weight, (lower + upper) / 2)
    return center + bias - torch.einsum("nsh,nh->ns", weight.abs(), (upper - lower) / 2)


@pytest.mark.parametrize("share", [0.3, 0.8, 1.0])
def test_bounds_are_those_of_a_plain_pass(share: float) -> None:
    module = perceptron()
    box = Box.around(torch.rand(8, 6, generator=torch.Generator().manual_seed(1)), 0.2)
    rows = margin_matrix(torch.arange(8) % 3, 3)
    bounder = AutoLirpaBounder(module, (6,), relu_shrinkage=share)
    found, expected = bounder.ibp(box, rows), by_hand(module, box, rows, share)
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad(value.sum(), module[0].weight, retain_graph=True)[0]
        for value in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_inputs_of_relus_are_not_shrunk_and_outputs_are() -> None:
    module = perceptron()
    box = Box.around(torch.rand(8, 6, generator=torch.Generator().manual_seed(1)), 0.2)
    bounder = AutoLirpaBounder(module, (6,), relu_shrinkage=0.5)
    bounder.ibp(box, margin_matrix(torch.arange(8) % 3, 3))
    plain = AutoLirpaBounder(module, (6,))
    plain.ibp(box, margin_matrix(torch.arange(8) % 3, 3))
    (first, _), (plain_first, _) = bounder.relu_inputs(), plain.relu_inputs()
    assert all(torch.equal(a, b) for a, b in zip(first, plain_first, strict=True))
    lower, upper = first
    unstable = (lower < 0) & (upper > 0)
    assert bool(unstable.any())
    _, passed = bounder.relu_outputs()[0]
    torch.testing.assert_close(passed[unstable], 0.5 * upper[unstable])
    assert torch.equal(passed[~unstable], upper.relu()[~unstable])


def test_every_relu_of_a_network_with_batch_norm_shrinks() -> None:
    torch.manual_seed(0)
    module = zoo.build("cnn5", (1, 8, 8), 3, (0.4,), (0.3,), width=0.1)
    images = torch.rand(6, 1, 8, 8)
    rows = margin_matrix(torch.arange(6) % 3, 3)
    found = []
    for share in (1.0, 0.5):
        bounder = AutoLirpaBounder(module, (1, 8, 8), relu_shrinkage=share)
        bounder.train(True)
        bounder.forward(images)
        bounder.ibp(Box.around(images, 0.1), rows)
        widths = [(upper - lower).mean().item() for lower, upper in bounder.relu_outputs()]
        found.append(widths)
    ratios = [narrow / wide for wide, narrow in zip(*found, strict=True)]
    # each layer shrinks, and intervals that came in narrower get narrower still
    assert ratios == sorted(ratios, reverse=True)
    assert 0.5 <= ratios[0] < 0.9
    assert ratios[-1] < 0.5**2

"""The quick interval rules say what auto_LiRPA's own say, in values and in gradients."""

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.bounds import interval_margins
from verify_pipeline.lirpa import AutoLirpaBounder, bounder, load
from verify_pipeline.lirpa.quick_ops import BatchStatistics, batch_norm_interval, softmax_interval
from verify_pipeline.network import zoo
from verify_pipeline.onnx import network_from_module
from verify_pipeline.problem import Box, Specification, margin_matrix

pytestmark = pytest.mark.skipif(
    not load().version.startswith("0.3"), reason="the quick rules are for auto_LiRPA 0.3"
)


def margins_and_gradient(module: nn.Module, training: bool) -> tuple[Tensor, Tensor]:
    module.zero_grad()
    made = AutoLirpaBounder(module, (1, 8, 8))
    made.train(training)
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    made.forward(images)
    rows = margin_matrix(torch.tensor([0, 1, 2, 0, 1, 2]), 3)
    lower = made.ibp(Box.around(images, 0.03), rows)
    lower.square().sum().backward()
    gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return lower.detach(), torch.cat(gradients)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["conv-small", "cnn5", "resnet"])
def test_same_values_and_gradients(
    name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    module = zoo.build(name, (1, 8, 8), 3, (0.3,), (0.5,), width=0.2).double()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            # some scales below zero, which swap lower and upper
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.running_mean)
    module = module.float()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    quick, quick_gradient = margins_and_gradient(module, training)
    module.load_state_dict(state)
    monkeypatch.setattr(bounder, "quick_ops", dict)
    own, own_gradient = margins_and_gradient(module, training)
    torch.testing.assert_close(quick, own, rtol=1e-3, atol=1e-3 * float(own.abs().max()))
    scale = float(own_gradient.abs().max())
    torch.testing.assert_close(quick_gradient, own_gradient, rtol=1e-2, atol=1e-3 * scale)


def test_statistics_gradients() -> None:
    x = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)

    def through_function(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            variance, mean = torch.var_mean(x, (0, 2), correction=0)
        mean, variance = BatchStatistics.apply(x, mean, variance)
        return mean, variance

    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    mean, variance = through_function(x)
    (ours,) = torch.autograd.grad((weights * mean + weights.square() * variance).sum(), x)
    variance, mean = torch.var_mean(x, (0, 2), correction=0)
    (expected,) = torch.autograd.grad((weights * mean + weights.square() * variance).sum(), x)
    torch.testing.assert_close(ours, expected)


def test_batch_norm_interval_by_hand() -> None:
    lower, upper = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 3.0]])
    low, high = batch_norm_interval(
        lower, upper, torch.tensor([2.0, -1.0]), torch.tensor([0.0, 10.0])
    )
    assert low.tolist() == [[2.0, 7.0]]
    assert high.tolist() == [[4.0, 9.0]]


def test_softmax_interval_is_attained_and_contains() -> None:
    generator = torch.Generator().manual_seed(0)
    lower = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    upper = lower + torch.rand(3, 4, 5, generator=generator, dtype=torch.float64)
    low, high = softmax_interval(lower, upper, -1)
    for i in range(5):
        corner = upper.clone()
        corner[..., i] = lower[..., i]
        torch.testing.assert_close(corner.softmax(-1)[..., i], low[..., i])
    for _ in range(100):
        point = lower + torch.rand(3, 4, 5, generator=generator, dtype=torch.float64) * (
            upper - lower
        )
        value = point.softmax(-1)
        assert bool((value >= low - 1e-12).all() and (value <= high + 1e-12).all())


def test_softmax_interval_is_finite_on_huge_bounds() -> None:
    lower = torch.full((1, 3), -1e30, requires_grad=True)
    low, high = softmax_interval(lower, torch.full((1, 3), 1e30), 1)
    assert low.tolist() == [[0.0] * 3]
    assert high.tolist() == [[1.0] * 3]
    (low + high).sum().backward()
    assert lower.grad is not None
    assert torch.isfinite(lower.grad).all()


def test_the_adapter_bounds_attention_as_a_weighted_mean() -> None:
    torch.manual_seed(0)
    module = zoo.build("vit", (1, 8, 8), 3, (0.3,), (0.5,), width=0.25).eval()
    boxes = Box.around(torch.rand(4, 1, 8, 8), 0.1)
    rows = margin_matrix(torch.tensor([0, 1, 2, 0]), 3)
    lower = AutoLirpaBounder(module, (1, 8, 8)).ibp(boxes, rows)
    graph = network_from_module(module, (1, 8, 8)).graph
    specification = Specification(rows.double(), torch.zeros(rows.shape[:2], dtype=torch.float64))
    exact = Box(boxes.lower.double(), boxes.upper.double())
    own = interval_margins(graph, exact, specification)
    # products of scores are bounded a little better by auto_LiRPA, weighted means the same
    assert bool((lower >= own - 1e-3).all())
    assert bool((lower <= own / 3).all())

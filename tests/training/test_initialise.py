"""IBP initialisation, L1 and Shi's regulariser against closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline.bounds import interval_bounds
from verify_pipeline.network import zoo
from verify_pipeline.network.ops import Mean, Transpose
from verify_pipeline.onnx import network_from_module
from verify_pipeline.problem import Box
from verify_pipeline.training.initialise import (
    ibp_init,
    l1_norm,
    weight_layers,
    width_gains,
)
from verify_pipeline.training.regulariser import relu_balance, shi_regulariser, tightness


def test_ibp_init_has_the_right_deviation_in_all_layers_but_the_last() -> None:
    torch.manual_seed(0)
    module = zoo.build("cnn5", (3, 16, 16), 10, (0.5,) * 3, (0.2,) * 3)
    last = weight_layers(module)[-1].weight.clone()
    ibp_init(module)
    layers = weight_layers(module)
    assert len(layers) == 5
    for layer in layers[:-1]:
        expected = math.sqrt(2 * math.pi) / layer.weight[0].numel()
        # four standard errors of a standard deviation
        tolerance = 4 * expected / math.sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(expected, abs=tolerance)
        assert abs(layer.weight.mean().item()) < 4 * expected / math.sqrt(layer.weight.numel())
    assert torch.equal(layers[-1].weight, last)


def test_ibp_init_keeps_widths_through_a_deep_network() -> None:
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Linear(400, 400), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Linear(400, 2))
    ibp_init(module)
    radius = torch.full((400,), 0.01)
    for layer in weight_layers(module)[:-1]:
        # a ReLU that is half the time off halves the mean width
        radius = layer.weight.detach().abs() @ radius / 2
    assert 0.3 < radius.mean().item() / 0.01 < 3


def test_ibp_init_halves_the_gain_behind_residual_sums() -> None:
    torch.manual_seed(0)
    module = zoo.build("resnet", (3, 16, 16), 10, (0.5,) * 3, (0.2,) * 3, width=4)
    ibp_init(module)
    gains = {
        name: layer.weight.std().item() * layer.weight[0].numel() / math.sqrt(2 * math.pi)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    # blocks 4, 5 and 6 add; what reads the sums of 4, 5 and 6 gets half, a 1x1 shortcut too
    halved = {"5.branch.0", "5.shortcut.0", "6.branch.0", "6.shortcut.0", "8"}
    assert halved <= gains.keys()
    last = list(gains)[-1]
    for name, gain in gains.items():
        if name != last:
            assert gain == pytest.approx(0.5 if name in halved else 1.0, rel=0.05), name


class AddsPositions(nn.Module):
    """A sum with a constant, which widens nothing, and one through ``torch.add`` and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.third, self.last = nn.Linear(3, 3), nn.Linear(3, 2)
        self.positions, self.relu = nn.Parameter(torch.zeros(3)), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x) + self.positions)
        out: torch.Tensor = self.last(self.third(self.relu(torch.add(x, self.first(x)))))
        return out


def test_gains_halve_behind_sums_of_two_branches_and_without_a_relu() -> None:
    module = AddsPositions()
    gains = width_gains(module)
    # `first` is called twice, also behind `second`
    assert list(gains.values()) == [0.5] * 4


def test_gains_are_1_behind_the_input_and_a_relu() -> None:
    layers = [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(8, 4), nn.Linear(4, 2)]
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), nn.Flatten(), *layers[2:])
    assert list(width_gains(module).values()) == [1, 1, 1, 0.5]


def test_gains_of_a_transformer_by_what_each_layer_reads() -> None:
    module = zoo.build("vit", (1, 8, 8), 4, (0.5,), (0.2,))
    gains = width_gains(module)
    names = {layer: name for name, layer in module.named_modules()}
    found = {names[layer]: gain for layer, gain in gains.items()}
    # patches + positions is no sum of two branches; the second block reads the first one's sum
    first = {f"blocks.0.attention.{n}": 0.5 for n in ("query", "key", "value", "out")}
    second = {f"blocks.1.attention.{n}": 0.25 for n in ("query", "key", "value")}
    dense = {"blocks.0.dense.0": 0.25, "blocks.0.dense.2": 1, "blocks.1.dense.0": 0.25}
    rest = {"patches": 1, "blocks.1.attention.out": 0.5, "blocks.1.dense.2": 1, "head": 0.25}
    assert found == first | second | dense | rest


def test_ibp_init_keeps_widths_through_a_transformer() -> None:
    torch.manual_seed(0)
    module = zoo.build("vit", (1, 8, 8), 4, (0.5,), (0.2,))
    ibp_init(module)
    graph = network_from_module(module.eval(), (1, 8, 8)).graph
    bounds = interval_bounds(graph, Box.around(torch.rand(20, 1, 8, 8).double(), 0.05))
    tokens = next(i for i, node in enumerate(graph.nodes) if isinstance(node.op, Transpose))
    mean = next(i for i, node in enumerate(graph.nodes) if isinstance(node.op, Mean))
    widths = [(bounds.upper[i] - bounds.lower[i]).mean().item() for i in (tokens, mean)]
    # each of two blocks adds two branches, which doubles at most twice
    assert widths[1] < 16 * widths[0]


def test_l1_by_hand() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, -2.0]]))
        module[2].weight.fill_(-0.5)
        module[0].bias.fill_(100.0)
    assert l1_norm(module).item() == 3.5


def test_tightness_by_hand() -> None:
    # δ_0 = 0.1; half-widths 0.1 (ratio 1, no term) and 0.5 (ratio 0.2: (0.5 - 0.2) / 0.5 = 0.6)
    zero = torch.zeros(1, 4)
    bounds = [(zero - 0.1, zero + 0.1), (zero - 0.5, zero + 0.5)]
    assert tightness(bounds, torch.tensor(0.1), 0.5).item() == pytest.approx(0.3)


def test_relu_balance_by_hand() -> None:
    # centres 1, 2 (active) and -6 (inactive), mean -1: sums 3 and 6 → 0.5; squares 4+9, 25 → 0.52
    centers = torch.tensor([[1.0, 2.0, -6.0]])
    assert relu_balance([(centers - 0.1, centers + 0.1)], 0.5).item() == pytest.approx(0.0)
    # with tolerance 0.6: (0.1 + 0.08) / 0.6
    assert relu_balance([(centers - 0.1, centers + 0.1)], 0.6).item() == pytest.approx(0.3)


def test_gradient_of_relu_balance_is_that_of_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(3, 4, 2, 2, generator=generator, dtype=torch.float64)
    widths = torch.rand(centers.shape, generator=generator, dtype=torch.float64) / 4
    lower, upper = (centers - widths).requires_grad_(), (centers + widths).requires_grad_()

    def plainly() -> Tensor:
        c = (lower + upper) / 2
        active, inactive = lower > 0, upper < 0
        spread = (c - c.mean()) ** 2
        r = c[active].sum() / -c[inactive].sum()
        s = spread[active].sum() / spread[inactive].sum()
        return (
            F.relu(0.99 - torch.minimum(r, 1 / r)) + F.relu(0.99 - torch.minimum(s, 1 / s))
        ) / 0.99

    ours, formula = relu_balance([(lower, upper)], 0.99), plainly()
    assert ours.item() == pytest.approx(formula.item(), rel=1e-14)
    assert min(ours.item(), formula.item()) > 0.1
    for own, its in zip(
        torch.autograd.grad(ours, [lower, upper]),
        torch.autograd.grad(formula, [lower, upper]),
        strict=True,
    ):
        assert torch.allclose(own, its, rtol=1e-12, atol=1e-16)


def test_a_layer_without_inactive_neurons_has_no_balance() -> None:
    ones = torch.ones(2, 3)
    assert relu_balance([(ones, 2 * ones)], 0.5).item() == 0


def test_regulariser_has_finite_gradients_at_points() -> None:
    lower = torch.randn(2, 5, requires_grad=True)
    loss = shi_regulariser([(lower, lower)], torch.tensor(1e-6), 0.5)
    loss.backward()
    assert torch.isfinite(loss)
    assert lower.grad is not None
    assert torch.isfinite(lower.grad).all()


class Partly(nn.Module):
    """Has a frozen layer, a layer that reads a constant, and one that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.frozen = nn.Linear(4, 4), nn.Linear(4, 4)
        self.constant, self.unused, self.last = nn.Linear(2, 4), nn.Linear(4, 1), nn.Linear(4, 2)
        self.token = nn.Parameter(torch.ones(1, 2))
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.frozen(torch.relu(self.first(x))))
        out: torch.Tensor = self.last(x + self.constant(self.token))
        return out


def test_ibp_init_draws_only_what_is_trained_and_has_an_interval() -> None:
    torch.manual_seed(0)
    module = Partly()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    ibp_init(module)
    after = module.state_dict()
    assert [key for key in before if not torch.equal(before[key], after[key])] == ["first.weight"]


def test_ibp_init_leaves_weights_that_are_computed() -> None:
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    ibp_init(module)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())

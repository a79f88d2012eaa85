"""The backward pass says what auto_LiRPA's CROWN-IBP says, in values and in gradients."""

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.lirpa import AutoLirpaBounder, load
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box, margin_matrix

pytestmark = pytest.mark.skipif(
    not load().version.startswith("0.3"), reason="the backward pass is for auto_LiRPA 0.3"
)

LABELS = torch.tensor([0, 1, 2, 0, 1])
ROWS = margin_matrix(LABELS, 3, torch.float64)
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def double(name: str) -> nn.Module:
    """A small network in float64 with scales of both signs."""
    torch.manual_seed(1)
    module = zoo.build(name, (1, 8, 8), 3, (0.3,), (0.5,), width=0.2).double()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
    return module


def both_ways(
    module: nn.Module, shape: tuple[int, ...], images: Tensor, rows: Tensor, training: bool
) -> list[tuple[Tensor, Tensor]]:
    """Bounds and their gradient, by our pass and by auto_LiRPA's."""
    found = []
    for ours in (True, False):
        module.zero_grad()
        made = AutoLirpaBounder(module, shape)
        assert made._backward is not None
        if not ours:
            made._backward = None
        made.train(training)
        made.forward(images)
        box = Box.around(images, 0.03)
        ibp = made.ibp(box, rows)
        lower = made.crown_of_last_ibp(rows) if ours else made.crown_ibp(box, rows)
        assert bool((lower != ibp).any())
        lower.square().sum().backward()
        gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        found.append((lower.detach(), torch.cat(gradients)))
    return found


def assert_same(
    ours: tuple[Tensor, Tensor], lirpa: tuple[Tensor, Tensor], tolerance: float
) -> None:
    """Bounds and gradients agree, relative to the greatest of them."""
    for mine, theirs in zip(ours, lirpa, strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["mlp", "conv-small", "conv-medium", "cnn5", "cnn7", "resnet"])
def test_same_values_and_gradients(name: str, training: bool) -> None:
    assert_same(*both_ways(double(name), (1, 8, 8), IMAGES, ROWS, training), 1e-9)


def test_in_float32_the_difference_is_rounding() -> None:
    module = double("cnn5").float()
    assert_same(*both_ways(module, (1, 8, 8), IMAGES.float(), ROWS.float(), True), 1e-5)


def test_convolutions_of_every_kind() -> None:
    # strides that do not fit, padding, dilation, groups, with and without bias
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 2, stride=(3, 2), groups=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 6, 2, padding=1, dilation=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
    )
    images = torch.rand(5, 2, 13, 12, dtype=torch.float64)
    flat = int(module(images.float()).shape[1])
    module = nn.Sequential(*module, nn.Linear(flat, 3)).double()
    assert_same(*both_ways(module, (2, 13, 12), images, ROWS, True), 1e-9)


def test_by_hand() -> None:
    # f_0 - f_1 = relu(x + 0.5) - relu(x - 0.5) over [0.4, 0.7]; see test_step.py: at least 0.9
    module = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.copy_(torch.tensor([-0.5, 0.5]))
        module[2].weight.copy_(torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
        module[2].bias.zero_()
    made = AutoLirpaBounder(module, (1,))
    box = Box(torch.tensor([[0.4]]), torch.tensor([[0.7]]))
    lower, upper = made.ibp_interval(box, torch.tensor([[[1.0, -1.0]]]))
    assert (lower.item(), upper.item()) == pytest.approx((0.7, 1.2))
    assert made.crown_of_last_ibp(torch.tensor([[[1.0, -1.0]]])).item() == pytest.approx(0.9)
    # the other sign: relu(x - 0.5) >= 0, as -0.1 and 0.2 are of slope 1: x - 0.5; so >= -1
    assert made.crown_of_last_ibp(torch.tensor([[[-1.0, 1.0]]])).item() == pytest.approx(-1.0)


def test_rows_of_the_backward_pass_may_be_others_than_those_of_ibp() -> None:
    module = double("cnn5")
    made = AutoLirpaBounder(module, (1, 8, 8))
    box = Box.around(IMAGES, 0.03)
    combined = ROWS.sum(1, keepdim=True)
    made.ibp(box, ROWS)
    lower = made.crown_of_last_ibp(combined)
    torch.testing.assert_close(lower, made.crown_ibp(box, combined))


def test_a_network_with_other_operations_is_left_to_lirpa() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 3))
    made = AutoLirpaBounder(module, (3,))
    assert made._backward is None
    box = Box.around(torch.rand(5, 3), 0.1)
    ibp = made.ibp(box, ROWS.float())
    lower = made.crown_of_last_ibp(ROWS.float())
    torch.testing.assert_close(lower, made.crown_ibp(box, ROWS.float()))
    assert bool((lower != ibp).any())


def test_bounds_hold_at_points_of_the_box() -> None:
    module = double("resnet").eval()
    made = AutoLirpaBounder(module, (1, 8, 8))
    made.train(False)
    box = Box.around(IMAGES, 0.02)
    lower = made.crown_ibp(box, ROWS)
    for _ in range(50):
        points = box.lower + torch.rand_like(IMAGES) * (box.upper - box.lower)
        margins = torch.einsum("nsk,nk->ns", ROWS, module(points))
        assert bool((margins >= lower - 1e-9).all())


class Broadcasting(nn.Module):
    """Adds one value to each of several, as duelling heads do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.last = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        values: Tensor = self.last(hidden) + self.one(hidden)
        return values


def test_a_value_that_a_sum_repeats_is_left_to_lirpa() -> None:
    torch.manual_seed(0)
    module = Broadcasting()
    made = AutoLirpaBounder(module, (3,))
    assert made._backward is None
    box = Box.around(torch.rand(5, 3), 0.1)
    margins = torch.einsum("nsk,nk->ns", ROWS.float(), module(box.center))
    assert bool((made.crown_ibp(box, ROWS.float()) <= margins).all())

"""CROWN-IBP with loss fusion: its equation, and that it bounds the loss."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline import losses
from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import (
    chord_slopes,
    crown_ibp_fused_loss,
    ibp_loss,
    margin_cross_entropy,
)
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box, margin_matrix

LABELS = torch.tensor([0, 1, 2, 3, 0])


def bounds(seed: int, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """IBP lower bounds, CROWN's above them, and IBP upper bounds."""
    generator = torch.Generator().manual_seed(seed)
    lower = scale * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    width = scale * torch.rand(6, 4, generator=generator, dtype=torch.float64)
    share = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    return lower, lower + share * width, lower + width


def by_chords(combined: Tensor, lower: Tensor, upper: Tensor, weight: float) -> Tensor:
    """The mean of log(1 + the mixed bounds of the sum), with chords of exp as one draws them.

    Args:
        combined: a lower bound of the sum of margins with the chords' slopes, ``N``.
        lower: of the margins.
        upper: of the margins.
        weight: of the linear bound; the rest is interval arithmetic's.
    """
    least, most = -upper, -lower
    slope = (most.exp() - least.exp()) / (most - least)
    linear = (least.exp() - slope * least).sum(1) - combined
    return (1 + weight * linear + (1 - weight) * most.exp().sum(1)).log().mean()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_is_the_equation(seed: int, weight: float) -> None:
    lower, crown, upper = (each.requires_grad_() for each in bounds(seed))
    scaled = (chord_slopes(lower, upper) * crown).sum(1, keepdim=True)
    ours = crown_ibp_fused_loss(scaled, lower, upper, weight)
    slope = ((-lower).exp() - (-upper).exp()) / (upper - lower)
    expected = by_chords((slope * crown).sum(1), lower, upper, weight)
    torch.testing.assert_close(ours, expected)
    inputs = (lower, crown, upper)
    for mine, theirs in zip(
        torch.autograd.grad(ours, inputs, materialize_grads=True, allow_unused=True),
        torch.autograd.grad(expected, inputs, materialize_grads=True, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-8)


def test_by_hand() -> None:
    # one margin in [-log 3, 0]: exp(-z) in [1, 3], chord slope 2 / log 3. With z >= -(log 3)/2, the
    # chord is at 2, so the loss is log 3; IBP's is log 4, and half of each log 3.5
    lower = torch.tensor([[-math.log(3)]], dtype=torch.float64)
    upper = torch.zeros(1, 1, dtype=torch.float64)
    slopes = chord_slopes(lower, upper)
    assert slopes.item() == pytest.approx(2 / math.log(3) / 3)  # scaled by 1/3
    crown = slopes * lower / 2
    assert crown_ibp_fused_loss(crown, lower, upper, 1.0).item() == pytest.approx(math.log(3))
    assert crown_ibp_fused_loss(crown, lower, upper, 0.5).item() == pytest.approx(math.log(3.5))
    assert crown_ibp_fused_loss(crown, lower, upper, 0.0).item() == pytest.approx(math.log(4))


def test_without_gain_it_is_the_ibp_loss() -> None:
    lower, _, upper = bounds(1)
    combined = (chord_slopes(lower, upper) * lower).sum(1, keepdim=True)
    for weight in (0.0, 0.4, 1.0):
        value = crown_ibp_fused_loss(combined, lower, upper, weight)
        torch.testing.assert_close(value, ibp_loss(lower))


def test_a_gain_of_nearly_the_whole_sum() -> None:
    # u = 2, l = -8, and CROWN's bound of the margin is 7.99 instead of -2: v <= -7.99
    lower, upper = torch.tensor([[-2.0]]).double(), torch.tensor([[8.0]]).double()
    slope = (math.exp(2) - math.exp(-8)) / 10
    combined = chord_slopes(lower, upper) * 7.99
    found = crown_ibp_fused_loss(combined, lower, upper, 1.0)
    expected = math.log1p(math.exp(-8) + slope * 0.01)
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_between_the_loss_at_the_bounds_and_ibps(seed: int) -> None:
    # a chord is above its exponential, and IBP's corner above the chord
    lower, crown, upper = bounds(seed)
    combined = (chord_slopes(lower, upper) * crown).sum(1, keepdim=True)
    value = crown_ibp_fused_loss(combined, lower, upper, 1.0).item()
    assert margin_cross_entropy(crown).mean().item() - 1e-12 <= value
    assert value <= ibp_loss(lower).item() + 1e-12


def test_points_instead_of_intervals() -> None:
    lower, _, _ = bounds(2)
    combined = (chord_slopes(lower, lower) * lower).sum(1, keepdim=True)
    value = crown_ibp_fused_loss(combined, lower, lower, 1.0)
    torch.testing.assert_close(value, margin_cross_entropy(lower).mean())


@pytest.mark.parametrize(("low", "high"), [(-1e4, 1e4), (-1e4, -1e4), (1e4, 1e4), (-200.0, 0.0)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_extreme_bounds_keep_finite_gradients(low: float, high: float, share: float) -> None:
    lower = torch.full((2, 3), low, requires_grad=True)
    upper = torch.full((2, 3), high, requires_grad=True)
    middle = lower + share * (upper - lower)
    combined = (chord_slopes(lower, upper) * middle).sum(1, keepdim=True)
    value = crown_ibp_fused_loss(combined, lower, upper, 1.0)
    gradients = torch.autograd.grad(value, (lower, upper))
    assert torch.isfinite(value)
    assert all(bool(torch.isfinite(each).all()) for each in gradients)


@pytest.mark.parametrize("name", ["mlp", "conv-small", "cnn5", "resnet"])
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.1])
def test_not_below_the_loss_at_attacked_points(name: str, epsilon: float) -> None:
    torch.manual_seed(0)
    module = zoo.build(name, (1, 8, 8), 4, (0.3,), (0.5,), width=0.2).double().eval()
    made = AutoLirpaBounder(module, (1, 8, 8))
    made.train(False)
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    box, rows = Box.around(images, epsilon), margin_matrix(LABELS, 4, torch.float64)
    points = pgd(
        lambda x: F.cross_entropy(module(x), LABELS, reduction="none"),
        box,
        steps=20,
        step_size=0.2,
        generator=torch.Generator().manual_seed(0),
    )
    lower, upper = made.ibp_interval(box, rows)
    combined = made.crown_of_last_ibp(chord_slopes(lower, upper).unsqueeze(1) @ rows)
    attacked = F.cross_entropy(module(points), LABELS, reduction="none")
    for weight in (0.0, 0.5, 1.0):
        for n in range(5):
            one = slice(n, n + 1)
            bound = crown_ibp_fused_loss(combined[one], lower[one], upper[one], weight).item()
            assert bound >= attacked[n].item() - 1e-9
    # the combination's bound is at least the sum of the margins' bounds
    margins = made.crown_ibp(box, rows)
    assert bool((combined[:, 0] >= (chord_slopes(lower, upper) * margins).sum(1) - 1e-9).all())


def test_asks_for_one_combination() -> None:
    assert losses.get("crown-ibp-fused").combination is chord_slopes
    assert losses.get("crown-ibp").combination is None

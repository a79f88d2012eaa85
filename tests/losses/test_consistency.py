"""MART, ARoW and the adversarial certainty: by hand, and as their authors' formulas have them."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline import losses
from verify_pipeline.losses import (
    LossMargins,
    LossNumbers,
    adversarial_certainty,
    arow_loss,
    mart_loss,
)
from verify_pipeline.losses.consistency import divergence_attack
from verify_pipeline.losses.probabilities import divergence, doubt, log_probabilities
from verify_pipeline.problem import margin_matrix

LABELS = torch.tensor([2, 0, 4, 1, 3, 3])


def logits(seed: int, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(6, 5, generator=generator, dtype=torch.float64)


def margins(at: Tensor) -> Tensor:
    return torch.einsum("nsk,nk->ns", margin_matrix(LABELS, 5, torch.float64), at)


def probabilities(at: Tensor) -> tuple[Tensor, Tensor]:
    """Of all classes, and of the label."""
    every = at.softmax(1)
    return every, every.gather(1, LABELS.unsqueeze(1)).squeeze(1)


def mart_by_probabilities(clean: Tensor, attacked: Tensor, weight: float) -> Tensor:
    """Wang et al. 2020 with the probabilities that they write."""
    before, of_label = probabilities(clean)
    after, after_label = probabilities(attacked)
    others = after.scatter(1, LABELS.unsqueeze(1), 0.0)
    boosted = -after_label.log() - (1 - others.max(1).values).log()
    regulariser = (before * (before / after).log()).sum(1) * (1 - of_label)
    return (boosted + weight * regulariser).mean()


def arow_by_probabilities(
    clean: Tensor, attacked: Tensor, weight: float, smoothing: float
) -> Tensor:
    """Yang et al. 2023 with the probabilities that they write."""
    before, _ = probabilities(clean)
    after, after_label = probabilities(attacked)
    smoothed = F.cross_entropy(clean, LABELS, label_smoothing=smoothing, reduction="none")
    regulariser = (before * (before / after).log()).sum(1) * (1 - after_label)
    return (smoothed + weight * regulariser).mean()


@pytest.mark.parametrize("weight", [0.0, 2.0, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_mart_is_the_authors_formula(seed: int, weight: float) -> None:
    clean, attacked = logits(seed).requires_grad_(), logits(seed + 50).requires_grad_()
    ours = mart_loss(margins(clean), margins(attacked), weight)
    expected = mart_by_probabilities(clean, attacked, weight)
    torch.testing.assert_close(ours, expected)
    inputs = (clean, attacked)
    for mine, theirs in zip(
        torch.autograd.grad(ours, inputs, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(("weight", "smoothing"), [(7.0, 0.2), (2.0, 0.0), (0.0, 0.4)])
@pytest.mark.parametrize("seed", range(4))
def test_arow_is_the_authors_formula(seed: int, weight: float, smoothing: float) -> None:
    clean, attacked = logits(seed).requires_grad_(), logits(seed + 50).requires_grad_()
    ours = arow_loss(margins(clean), margins(attacked), weight, smoothing)
    expected = arow_by_probabilities(clean, attacked, weight, smoothing)
    torch.testing.assert_close(ours, expected)
    inputs = (clean, attacked)
    for mine, theirs in zip(
        torch.autograd.grad(ours, inputs, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-9)


def test_by_hand() -> None:
    # two classes; p = (1/2, 1/2) at the image, q = (1/4, 3/4) at the point
    clean = torch.zeros(1, 1, dtype=torch.float64)
    attacked = torch.tensor([[-math.log(3)]], dtype=torch.float64)
    kl = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    # the runner-up has 3/4: BCE = log 4 + log 4; 1 - p_y = 1/2
    mart = 2 * math.log(4) + 5 * kl / 2
    assert mart_loss(clean, attacked).item() == pytest.approx(mart)
    # labels do not matter at 1/2; 1 - q_y = 3/4
    assert arow_loss(clean, attacked).item() == pytest.approx(math.log(2) + 7 * kl * 3 / 4)
    # at margins z = log 3, CE_s = log(4/3) + (s/2) log 3
    right = -attacked
    smoothed = math.log(4 / 3) + 0.1 * math.log(3)
    assert arow_loss(right, right).item() == pytest.approx(smoothed)


def test_the_runner_up_is_the_most_probable_other_class() -> None:
    # p_y = 1/8; others 4/8 and 3/8: -log(1/8) - log(1/2)
    attacked = torch.tensor([[math.log(1 / 4), math.log(1 / 3)]], dtype=torch.float64)
    assert mart_loss(attacked, attacked).item() == pytest.approx(math.log(8) + math.log(2))


@pytest.mark.parametrize("value", [1e4, -1e4, 0.0])
@pytest.mark.parametrize("loss", [mart_loss, arow_loss])
@pytest.mark.parametrize("classes", [2, 5])
def test_extreme_margins_keep_finite_gradients(loss: object, value: float, classes: int) -> None:
    assert callable(loss)
    clean = torch.full((3, classes - 1), value, requires_grad=True)
    for attacked_at in (value, -value):
        attacked = torch.full((3, classes - 1), attacked_at, requires_grad=True)
        made = loss(clean, attacked)
        gradients = torch.autograd.grad(made, (clean, attacked))
        assert torch.isfinite(made)
        assert all(bool(torch.isfinite(each).all()) for each in gradients)


def test_numbers_reach_the_losses() -> None:
    clean, attacked = margins(logits(1)), margins(logits(2))
    given = LossMargins(clean, attacked)
    numbers = LossNumbers(kl_weight=1.5, label_smoothing=0.35)
    mart, arow = losses.get("mart", numbers), losses.get("arow", numbers)
    torch.testing.assert_close(mart.value(given, 0.0), mart_loss(clean, attacked, 1.5))
    torch.testing.assert_close(arow.value(given, 0.0), arow_loss(clean, attacked, 1.5, 0.35))
    # without numbers, those of the papers
    torch.testing.assert_close(
        losses.get("mart", LossNumbers()).value(given, 0.0), mart_loss(clean, attacked, 5.0)
    )
    torch.testing.assert_close(
        losses.get("arow").value(given, 0.0), arow_loss(clean, attacked, 7.0, 0.2)
    )
    assert losses.get("ibp", numbers) is losses.get("ibp")


def test_divergence() -> None:
    first, second = (log_probabilities(margins(logits(seed))) for seed in (1, 2))
    torch.testing.assert_close(divergence(first, first), torch.zeros(6, dtype=torch.float64))
    assert bool((divergence(first, second) > 0).all())
    expected = F.kl_div(second, first, log_target=True, reduction="none").sum(1)
    torch.testing.assert_close(divergence(first, second), expected)


def test_doubt_has_digits_where_the_label_is_almost_certain() -> None:
    assert doubt(torch.tensor(-1e-12)).item() == pytest.approx(1e-12)


def test_arows_attack_maximises_the_divergence_from_the_image() -> None:
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    def network(x: Tensor) -> Tensor:
        return x @ weight

    images = torch.rand(5, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    points = (images + 0.1).detach()
    objective = divergence_attack(network, images, torch.zeros(5, dtype=torch.long))
    p, q = network(images).softmax(1), network(points).softmax(1)
    torch.testing.assert_close(objective(points), (p * (p / q).log()).sum(1))
    # the image's own probabilities are constants
    (gradient,) = torch.autograd.grad(
        objective(points.requires_grad_()).sum(), images, allow_unused=True, materialize_grads=True
    )
    assert not bool(gradient.any())
    assert losses.get("arow").attack_objective is divergence_attack


def test_certainty_is_the_deviation_of_the_logits() -> None:
    at = logits(3).requires_grad_()
    ours, expected = adversarial_certainty(margins(at)), at.std(1).mean()
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, at), torch.autograd.grad(expected, at), atol=1e-12, rtol=1e-9
    )
    # logits 0 and 3: mean 1.5, deviations 1.5, divided by K - 1 = 1
    assert adversarial_certainty(torch.tensor([[3.0]])).item() == pytest.approx(math.sqrt(4.5))


def test_certainty_of_equal_logits_has_a_finite_gradient() -> None:
    at = torch.zeros(2, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(adversarial_certainty(at), at)
    assert bool(torch.isfinite(gradient).all())

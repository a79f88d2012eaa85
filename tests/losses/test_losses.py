"""One battery over all losses, and hand-computed values."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify_pipeline import losses
from verify_pipeline.errors import ConfigError
from verify_pipeline.losses import LOSSES, Loss, LossMargins, Perturbed, margin_cross_entropy
from verify_pipeline.losses.sabr import small_box
from verify_pipeline.problem import Box, margin_matrix

KINDS = ("clean", "adversarial", "ibp", "crown", "latent", "ibp_upper")
EXPRESSIVE = ("cc-ibp", "mtl-ibp", "mtl-sabr", "exp-ibp")


def random_margins(seed: int, instances: int = 6, rows: int = 9, scale: float = 5.0) -> LossMargins:
    """Bounds below adversarial margins below clean ones below bounds, as a training has them."""
    generator = torch.Generator().manual_seed(seed)
    clean = scale * torch.randn(instances, rows, generator=generator, dtype=torch.float64)
    adversarial = clean - scale * torch.rand(clean.shape, generator=generator, dtype=torch.float64)
    crown = adversarial - scale * torch.rand(clean.shape, generator=generator, dtype=torch.float64)
    ibp = crown - scale * torch.rand(clean.shape, generator=generator, dtype=torch.float64)
    upper = clean + scale * torch.rand(clean.shape, generator=generator, dtype=torch.float64)
    return LossMargins(clean, adversarial, ibp, crown, (adversarial + ibp) / 2, upper)


def value_of(name: str, margins: LossMargins, alpha: float) -> torch.Tensor:
    """The loss; where it has a combination, the CROWN bounds are combined."""
    loss = losses.get(name)
    if loss.combination is not None and margins.ibp is not None:
        assert margins.ibp_upper is not None
        assert margins.crown is not None
        weights = loss.combination(margins.ibp, margins.ibp_upper)
        margins = replace(margins, crown=(weights * margins.crown).sum(1, keepdim=True))
    return loss.value(margins, alpha)


def adversarial_loss(margins: LossMargins) -> torch.Tensor:
    return LOSSES["adversarial"].value(margins, 0.0)


def ibp_loss(margins: LossMargins) -> torch.Tensor:
    return LOSSES["ibp"].value(margins, 1.0)


class TestMarginCrossEntropy:
    def test_by_hand(self) -> None:
        # log(1 + e^0 + e^-log 2) = log 2.5
        margins = torch.tensor([[0.0, math.log(2)]], dtype=torch.float64)
        assert margin_cross_entropy(margins).item() == pytest.approx(math.log(2.5), rel=1e-14)

    def test_is_cross_entropy_of_the_logits(self) -> None:
        logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).double()
        labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
        margins = torch.einsum("nsk,nk->ns", margin_matrix(labels, 5, torch.float64), logits)
        expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(margin_cross_entropy(margins), expected)

    @pytest.mark.parametrize("value", [1e4, -1e4])
    def test_huge_margins_keep_finite_gradients(self, value: float) -> None:
        margins = torch.full((2, 3), value, requires_grad=True)
        loss = margin_cross_entropy(margins).sum()
        loss.backward()
        assert torch.isfinite(loss)
        assert margins.grad is not None
        assert torch.isfinite(margins.grad).all()


@pytest.mark.parametrize("name", EXPRESSIVE)
class TestExpressive:
    @pytest.mark.parametrize("seed", range(5))
    def test_ends(self, name: str, seed: int) -> None:
        margins = random_margins(seed)
        loss = losses.get(name).value
        torch.testing.assert_close(loss(margins, 0.0), adversarial_loss(margins))
        torch.testing.assert_close(loss(margins, 1.0), ibp_loss(margins))

    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 10_000), first=st.floats(0, 1), second=st.floats(0, 1))
    def test_monotone_in_alpha(self, name: str, seed: int, first: float, second: float) -> None:
        margins = random_margins(seed)
        low, high = sorted((first, second))
        loss = losses.get(name).value
        assert loss(margins, low).item() <= loss(margins, high).item() + 1e-9

    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1))
    def test_not_above_mtl(self, name: str, seed: int, alpha: float) -> None:
        margins = random_margins(seed)
        mtl = losses.get("mtl-ibp").value(margins, alpha).item()
        assert losses.get(name).value(margins, alpha).item() <= mtl + 1e-9

    def test_strictly_between_inside(self, name: str) -> None:
        margins = random_margins(3)
        value = losses.get(name).value(margins, 0.5).item()
        assert adversarial_loss(margins).item() < value < ibp_loss(margins).item()


@pytest.mark.parametrize("name", sorted(LOSSES))
class TestEveryLoss:
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
    def test_finite_gradients(self, name: str, scale: float) -> None:
        start = random_margins(11, scale=scale)
        parts = {kind: getattr(start, kind).float().requires_grad_() for kind in KINDS}
        loss = value_of(name, LossMargins(**parts), 0.3)
        loss.backward()
        assert torch.isfinite(loss)
        gradients = [part.grad for part in parts.values() if part.grad is not None]
        assert gradients
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)

    def test_translation_of_the_logits_changes_nothing(self, name: str) -> None:
        generator = torch.Generator().manual_seed(5)
        labels = torch.tensor([2, 0, 4, 1])
        rows = margin_matrix(labels, 5, torch.float64)
        logits = torch.randn(4, 5, generator=generator, dtype=torch.float64)
        shift = torch.randn(4, 1, generator=generator, dtype=torch.float64)

        def value(at: torch.Tensor) -> float:
            margins = torch.einsum("nsk,nk->ns", rows, at)
            all_kinds = LossMargins(margins, *(margins - by for by in (1, 3, 2, 2.5, -1)))
            return value_of(name, all_kinds, 0.4).item()

        assert value(logits + shift) == pytest.approx(value(logits), rel=1e-12)

    def test_missing_margins_are_an_error(self, name: str) -> None:
        with pytest.raises(ValueError, match="margins"):
            losses.get(name).value(LossMargins(), 0.5)

    def test_wide_margins_lose_nothing(self, name: str) -> None:
        # a network that is right by far has a loss close to 0, and never below
        margins = torch.full((3, 9), 30.0, dtype=torch.float64)
        value = value_of(name, LossMargins(*[margins] * 6), 0.5).item()
        # ARoW's smoothed labels want margins of log(K (1 - s) / s + 1), no more
        assert 0 <= value - (0.2 / 10 * 9 * 30.0 if name == "arow" else 0.0) < 1e-11

    def test_the_mean_over_instances(self, name: str) -> None:
        # of equal instances, it does not depend on their number
        one = random_margins(4, instances=1)
        repeated = {kind: getattr(one, kind).repeat(5, 1) for kind in KINDS}
        expected = value_of(name, one, 0.3).item()
        assert value_of(name, LossMargins(**repeated), 0.3).item() == pytest.approx(expected)


def test_hand_computed_expressive_losses() -> None:
    # one row: L(z) = log(1 + e^-z); e^-z_adv = 1 and e^-z_ibp = 3, so L_adv = log 2, L_ver = log 4
    margins = LossMargins(
        adversarial=torch.zeros(1, 1, dtype=torch.float64),
        ibp=torch.tensor([[-math.log(3)]], dtype=torch.float64),
    )
    assert losses.get("mtl-ibp").value(margins, 0.5).item() == pytest.approx(1.5 * math.log(2))
    geometric = math.sqrt(2) * math.log(2)
    assert losses.get("exp-ibp").value(margins, 0.5).item() == pytest.approx(geometric)
    combined = math.log(1 + math.sqrt(3))
    assert losses.get("cc-ibp").value(margins, 0.5).item() == pytest.approx(combined)


def test_crown_ibp_mixes_margins() -> None:
    margins = random_margins(2)
    loss = losses.get("crown-ibp").value
    torch.testing.assert_close(loss(margins, 0.0), ibp_loss(margins))
    assert margins.crown is not None
    torch.testing.assert_close(loss(margins, 1.0), margin_cross_entropy(margins.crown).mean())


class TestSabrBox:
    def test_by_hand(self) -> None:
        # the attack's ε = 0.1, λ = 0.4: τ = 0.04; centres at least τ inside [max(0, x - ε), …]
        images = torch.tensor([[0.5, 0.5, 0.0, 0.02, 1.0, 1.0]])
        points = torch.tensor([[0.6, 0.47, 0.0, 0.12, 0.93, 1.0]])
        small = small_box(Perturbed(images, 0.1, 0.1, points), 0.4)
        expected_lower = torch.tensor([[0.52, 0.43, 0.0, 0.04, 0.90, 0.92]])
        expected_upper = torch.tensor([[0.60, 0.51, 0.08, 0.12, 0.98, 1.0]])
        torch.testing.assert_close(small.lower, expected_lower)
        torch.testing.assert_close(small.upper, expected_upper)

    def test_its_epsilon_is_the_attacks(self) -> None:
        images, points = torch.tensor([[0.5, 0.0]]), torch.tensor([[0.7, 0.2]])
        small = small_box(Perturbed(images, 0.1, 0.2, points), 0.25)
        torch.testing.assert_close(small.lower, torch.tensor([[0.6, 0.1]]))
        torch.testing.assert_close(small.upper, torch.tensor([[0.7, 0.2]]))

    @pytest.mark.parametrize("share", [0.1, 0.4, 0.5, 0.8, 1.0])
    def test_is_as_wide_as_it_can_be_inside_the_attacks_box(self, share: float) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(50, 20, generator=generator).round(decimals=1)
        whole = Box.around(images, 0.1)
        points = whole.lower + torch.rand(50, 20, generator=generator) * 2 * whole.radius
        small = small_box(Perturbed(images, 0.05, 0.1, points), share)
        assert bool((small.lower >= whole.lower).all() and (small.upper <= whole.upper).all())
        expected = torch.minimum(whole.radius, torch.tensor(share * 0.1))
        torch.testing.assert_close(small.radius, expected, atol=1e-6, rtol=0)

    def test_whole_share_is_the_whole_box(self) -> None:
        images = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
        box = Box.around(images, 0.1)
        small = small_box(Perturbed(images, 0.1, 0.1, box.lower), 1.0)
        torch.testing.assert_close(small.lower, box.lower)
        torch.testing.assert_close(small.upper, box.upper)

    def test_needs_the_attack(self) -> None:
        with pytest.raises(ValueError, match="attack"):
            small_box(Perturbed(torch.zeros(1, 2), 0.1, 0.1), 0.5)


def test_other_losses_bound_the_whole_box() -> None:
    images = torch.tensor([[0.5, 0.0]])
    for loss in LOSSES.values():
        if loss.name not in ("sabr", "mtl-sabr", "staps"):
            box = loss.bounded_box(Perturbed(images, 0.1, 0.3, images), 0.4)
            assert torch.equal(box.lower, Box.around(images, 0.1).lower)
            assert torch.equal(box.upper, Box.around(images, 0.1).upper)


def test_expressive_losses_of_a_batch() -> None:
    # e^-z_adv = 1 and 3, e^-z_ibp = 3 and 7: L_adv = log 2, log 4; L_ver = log 4, log 8
    margins = LossMargins(
        adversarial=-torch.tensor([[1.0], [3.0]], dtype=torch.float64).log(),
        ibp=-torch.tensor([[3.0], [7.0]], dtype=torch.float64).log(),
    )
    unit = math.log(2)
    mean_adversarial, mean_ver = 1.5 * unit, 2.5 * unit
    # Exp-IBP is of the two means, not the mean of the images' products
    exp = losses.get("exp-ibp").value(margins, 0.25).item()
    assert exp == pytest.approx(mean_ver**0.25 * mean_adversarial**0.75)
    mtl = losses.get("mtl-ibp").value(margins, 0.25).item()
    assert mtl == pytest.approx(0.25 * mean_ver + 0.75 * mean_adversarial)
    cc = losses.get("cc-ibp").value(margins, 0.25).item()
    first, second = math.log(1 + 3**0.25), math.log(1 + 7**0.25 * 3**0.75)
    assert cc == pytest.approx((first + second) / 2)
    assert losses.get("ibp").value(margins, 0.25).item() == pytest.approx(mean_ver)
    adversarial = losses.get("adversarial").value(margins, 0.25).item()
    assert adversarial == pytest.approx(mean_adversarial)


@pytest.mark.parametrize("name", ["sabr", "mtl-sabr", "staps"])
def test_losses_of_the_small_box(name: str) -> None:
    images, points = torch.tensor([[0.5, 0.0]]), torch.tensor([[0.7, 0.2]])
    box = losses.get(name).bounded_box(Perturbed(images, 0.1, 0.2, points), 0.25)
    torch.testing.assert_close(box.lower, torch.tensor([[0.6, 0.1]]))
    torch.testing.assert_close(box.upper, torch.tensor([[0.7, 0.2]]))


@pytest.mark.parametrize("loss", [each for each in LOSSES.values() if each.while_growing])
def test_the_loss_while_epsilon_grows_needs_the_same_of_a_step(loss: Loss) -> None:
    other = loss.while_growing
    assert other is not None
    assert (other.needs_attack, other.needs_bounds) == (loss.needs_attack, loss.needs_bounds)
    assert (other.needs_crown, other.bounded_box) == (loss.needs_crown, loss.bounded_box)
    assert other.while_growing is None


def test_unknown_loss() -> None:
    with pytest.raises(ConfigError, match="mtl-ibp"):
        losses.get("mtl_ibp")

"""One step of MART, ARoW, EDAC, loss fusion, and a share of the clean loss."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline import losses
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.training.step import LossStep, StepPlan

from .conftest import settings
from .test_step import (
    EPSILON,
    PLAN,
    Attack,
    a_step,
    assert_same_gradients,
    by_hand,
    stand_in,
    statistics,
)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1] * 6)


@pytest.fixture
def attack(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> Attack:
    return stand_in(images, monkeypatch)


def test_mart_has_gradients_of_both_passes(attack: Attack, images: Tensor, labels: Tensor) -> None:
    attack.points = 1 - images  # far away, where the divergence has a gradient
    result = a_step(attack, "mart")(images, labels, PLAN)
    module = attack.module
    clean = by_hand(module, images, *statistics(module, images))
    attacked = by_hand(module, attack.points, *statistics(module, attack.points))
    p, q = clean.softmax(1), attacked.softmax(1)
    label, other = labels.unsqueeze(1), 1 - labels.unsqueeze(1)
    boosted = -q.gather(1, label).log() - (1 - q.gather(1, other)).log()
    divergence = (p * (p / q).log()).sum(1) * (1 - p.gather(1, label)[:, 0])
    expected = (boosted[:, 0] + 5 * divergence).mean()
    torch.testing.assert_close(result.loss, expected)
    assert_same_gradients(module, result.loss, expected)


def test_the_attack_of_arow_maximises_the_divergence(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    attack.objective_at = attack.points
    a_step(attack, "arow", loss={"name": "arow", "kl_weight": 2.0})(images, labels, PLAN)
    clean_mean, variance = statistics(attack.module, images)
    running = (0.1 * clean_mean, 0.9 + 0.1 * variance * 12 / 11)
    p = by_hand(attack.module, images, *running).softmax(1)
    q = by_hand(attack.module, attack.points, *running).softmax(1)
    torch.testing.assert_close(attack.values[0], (p * (p / q).log()).sum(1))


def test_losses_of_points_alone_ask_for_no_gradient_of_the_clean_pass(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    for name, expected in (("adversarial", False), ("mart", True), ("arow", True)):
        step = a_step(attack, name)
        assert step._clean(images, warming_up=False).requires_grad is expected


def test_certainty_is_that_of_the_adversarial_pass(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    chosen = {"name": "adversarial", "edac_step": 0.5}
    result = a_step(attack, "adversarial", loss=chosen).certainty(images, labels, PLAN)
    module = attack.module
    outputs = by_hand(module, attack.points, *statistics(module, attack.points))
    expected = 0.5 * outputs.std(1).mean()
    torch.testing.assert_close(result, expected)
    assert_same_gradients(module, result, expected)
    torch.testing.assert_close(
        attack.norm.running_mean,
        0.09 * statistics(module, images)[0] + 0.1 * statistics(module, attack.points)[0],
    )


def test_the_fused_bound_is_of_the_whole_box(images: Tensor, labels: Tensor) -> None:
    # the network of test_crown_ibp_mixes_both_bounds: z in [0.7, 1.2] by IBP, z >= 0.9 by CROWN.
    # exp(-z) is below its chord, which at 0.9 is e^-0.7 - slope * 0.2
    module = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.copy_(torch.tensor([-0.5, 0.5]))
        module[2].weight.copy_(torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
        module[2].bias.zero_()
    first, last = torch.tensor(-0.7).exp(), torch.tensor(-1.2).exp()
    chord = first - 0.2 * (first - last) / 0.5
    chosen = settings("crown-ibp-fused", regulariser={"weight": 0.0})
    loss, bounder = losses.get("crown-ibp-fused"), AutoLirpaBounder(module, (1,))
    step = LossStep(module, bounder, loss, chosen, torch.Generator())
    for alpha in (0.0, 0.25, 1.0):
        got = step(torch.tensor([[0.55]]), torch.tensor([0]), StepPlan(0.15, alpha, 0.0)).loss
        expected = torch.log(1 + alpha * chord + (1 - alpha) * first)
        torch.testing.assert_close(got, expected)


def test_the_clean_cross_entropy_has_its_share(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    module = attack.module
    alone = a_step(attack, "adversarial")(images, labels, PLAN).loss
    chosen = {"name": "adversarial", "clean_weight": 0.3}
    step = a_step(attack, "adversarial", loss=chosen)
    result = step(images, labels, StepPlan(EPSILON, 1.0, 0.0, 0.3)).loss
    clean = F.cross_entropy(by_hand(module, images, *statistics(module, images)), labels)
    expected = 0.3 * clean + 0.7 * alone
    torch.testing.assert_close(result, expected)
    assert_same_gradients(module, result, expected)

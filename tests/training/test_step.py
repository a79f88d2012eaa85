"""One training step: the order of its passes, whose statistics it uses, which boxes it looks at."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline import losses
from verify_pipeline.lirpa import Bounder
from verify_pipeline.problem import Box
from verify_pipeline.training import step as step_module
from verify_pipeline.training.batch_norm import set_momentum
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.step import LossStep, StepPlan

from .conftest import settings

EPSILON = 0.05
PLAN = StepPlan(EPSILON, 1.0, 0.0)


class Attack:
    """Stands in for the attack: answers given points, notes its box and the module's mode."""

    def __init__(self, module: nn.Module, points: Tensor) -> None:
        self.module, self.points = module, points
        self.boxes: list[Box] = []
        self.modes: list[bool] = []
        self.means: list[Tensor] = []

    def __call__(self, objective: Any, box: Box, **_: Any) -> Tensor:
        self.boxes.append(box)
        self.modes.append(self.module.training)
        self.means.append(self.norm.running_mean.clone())
        assert objective(box.center).shape == (len(box),)
        return self.points

    @property
    def norm(self) -> nn.BatchNorm1d:
        (norm,) = (m for m in self.module.modules() if isinstance(m, nn.BatchNorm1d))
        return norm


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1] * 6)


@pytest.fixture
def attack(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> Attack:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    stand_in = Attack(module, (images + EPSILON * images.sin().sign() * 0.7).clamp(0, 1))
    monkeypatch.setattr(step_module, "pgd", stand_in)
    return stand_in


def a_step(attack: Attack, loss: str = "mtl-ibp", **changes: Any) -> LossStep:
    chosen: TrainSettings = settings(loss, 1.0, **changes)
    bounder = Bounder(attack.module, (3,)) if losses.get(loss).needs_bounds else None
    return LossStep(attack.module, bounder, losses.get(loss), chosen, torch.Generator())


def ibp_loss(module: nn.Module, box: Box, labels: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """The IBP loss of the two-class network, by hand, with these statistics."""
    first, norm, _, last = module
    scale = norm.weight / (variance + norm.eps).sqrt()
    center = ((first(box.center)) - mean) * scale + norm.bias
    radius = box.radius @ first.weight.abs().T * scale.abs()
    low, high = (center - radius).relu(), (center + radius).relu()
    sign = torch.where(labels == 0, 1.0, -1.0).unsqueeze(1)
    row = sign * (last.weight[0] - last.weight[1])
    offset = sign.squeeze(1) * (last.bias[0] - last.bias[1])
    margin = (row.clamp(min=0) * low + row.clamp(max=0) * high).sum(1) + offset
    return F.softplus(-margin).mean()


def statistics(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    out = module[0](x)
    return out.mean(0), out.var(0, unbiased=False)


def test_the_attack_runs_in_eval_mode_after_the_clean_pass(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    a_step(attack)(images, labels, PLAN)
    assert attack.modes == [False]
    clean_mean, _ = statistics(attack.module, images)
    torch.testing.assert_close(attack.means[0], 0.1 * clean_mean)


def test_both_forward_passes_update_the_running_statistics(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    a_step(attack)(images, labels, PLAN)
    clean, adversarial = (statistics(attack.module, x)[0] for x in (images, attack.points))
    torch.testing.assert_close(attack.norm.running_mean, 0.9 * 0.1 * clean + 0.1 * adversarial)


def test_bounds_use_the_adversarial_batchs_statistics_undetached(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    result = a_step(attack)(images, labels, PLAN)
    box = Box.around(images, EPSILON)
    expected = ibp_loss(attack.module, box, labels, *statistics(attack.module, attack.points))
    torch.testing.assert_close(result.loss, expected)
    of_clean = ibp_loss(attack.module, box, labels, *statistics(attack.module, images))
    assert abs(of_clean.item() - expected.item()) > 1e-5
    (ours,) = torch.autograd.grad(result.loss, attack.module[0].weight)
    (by_hand,) = torch.autograd.grad(expected, attack.module[0].weight)
    torch.testing.assert_close(ours, by_hand, rtol=1e-3, atol=1e-5)


def test_without_an_attack_bounds_use_the_clean_batchs_statistics(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    result = a_step(attack, "ibp")(images, labels, PLAN)
    assert not attack.boxes
    box = Box.around(images, EPSILON)
    expected = ibp_loss(attack.module, box, labels, *statistics(attack.module, images))
    torch.testing.assert_close(result.loss, expected)


def test_ctbench_freezes_the_clean_batchs_statistics(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    set_momentum(attack.module, 1.0)
    result = a_step(attack, batch_norm_policy="ctbench")(images, labels, PLAN)
    out = attack.module[0](images)
    torch.testing.assert_close(attack.norm.running_mean, out.mean(0))
    expected = ibp_loss(attack.module, Box.around(images, EPSILON), labels, out.mean(0), out.var(0))
    torch.testing.assert_close(result.loss, expected)


def test_the_attacks_box_has_its_own_factor(attack: Attack, images: Tensor, labels: Tensor) -> None:
    wider = {"target": 0.1, "attack_epsilon_factor": 2.0}
    a_step(attack, epsilon=wider)(images, labels, PLAN)
    (box,) = attack.boxes
    torch.testing.assert_close(box.radius, torch.full_like(images, 2 * EPSILON))


def test_warm_up_is_the_clean_cross_entropy(attack: Attack, images: Tensor, labels: Tensor) -> None:
    result = a_step(attack)(images, labels, StepPlan(0.0, 1.0, 0.0))
    assert not attack.boxes
    outputs = attack.module.train()(images)
    torch.testing.assert_close(result.loss, F.cross_entropy(outputs, labels))


def test_l1_and_regulariser_are_added(attack: Attack, images: Tensor, labels: Tensor) -> None:
    plain = a_step(attack)(images, labels, PLAN).loss
    weighed = a_step(attack, optimiser={"l1": 0.5})(images, labels, PLAN).loss
    total = sum(attack.module[i].weight.abs().sum() for i in (0, 3))
    torch.testing.assert_close(weighed, plain + 0.5 * total)
    regularised = a_step(attack)(images, labels, StepPlan(EPSILON, 1.0, 2.0)).loss
    assert regularised.item() >= plain.item()


def test_counts(attack: Attack, images: Tensor, labels: Tensor) -> None:
    result = a_step(attack, "cc-ibp")(images, labels, PLAN)
    outputs = attack.module.train()(images)
    assert result.correct == int((outputs.argmax(1) == labels).sum())
    at_points = attack.module.train()(attack.points)
    assert result.adversarial_correct == int((at_points.argmax(1) == labels).sum())
    assert 0 <= result.verified <= result.adversarial_correct

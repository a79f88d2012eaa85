"""One training step: the order of its passes, whose statistics it uses, which boxes it looks at."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline import losses
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.problem import Box
from verify_pipeline.training import step as step_module
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
        self.values: list[Tensor] = []
        self.options: list[dict[str, Any]] = []
        self.objective_at: Tensor | None = None

    def __call__(self, objective: Any, box: Box, **options: Any) -> Tensor:
        self.boxes.append(box)
        self.modes.append(self.module.training)
        self.means.append(self.norm.running_mean.clone())
        looked_at = box.center if self.objective_at is None else self.objective_at
        self.values.append(objective(looked_at))
        self.options.append(options)
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
    return stand_in(images, monkeypatch)


def stand_in(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> Attack:
    """Of a two-class network with batch normalisation; it takes the place of the attack."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    made = Attack(module, (images + EPSILON * images.sin().sign() * 0.7).clamp(0, 1))
    monkeypatch.setattr(step_module, "pgd", made)
    return made


def a_step(attack: Attack, name: str = "mtl-ibp", **changes: Any) -> LossStep:
    chosen: TrainSettings = settings(name, 1.0, **changes)
    bounder = AutoLirpaBounder(attack.module, (3,)) if losses.get(name).needs_bounds else None
    return LossStep(attack.module, bounder, losses.get(name), chosen, torch.Generator())


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


def by_hand(module: nn.Module, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Outputs of the two-class network with these statistics."""
    first, norm, _, last = module
    hidden = (first(x) - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
    return last(hidden.relu())


def assert_same_gradients(module: nn.Module, ours: Tensor, expected: Tensor) -> None:
    # the first bias cancels in batch normalisation: its gradient is rounding alone
    parameters = [module[0].weight, module[1].weight, module[1].bias, module[3].weight]
    for got, wanted in zip(
        torch.autograd.grad(ours, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)


def test_the_attack_runs_in_eval_mode_after_the_clean_pass(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    a_step(attack)(images, labels, PLAN)
    assert attack.modes == [False]
    clean_mean, variance = statistics(attack.module, images)
    torch.testing.assert_close(attack.means[0], 0.1 * clean_mean)
    running = (0.1 * clean_mean, 0.9 + 0.1 * variance * 12 / 11)
    logits = by_hand(attack.module, images, *running)
    torch.testing.assert_close(attack.values[0], F.cross_entropy(logits, labels, reduction="none"))


def test_the_attack_is_as_the_settings_say(attack: Attack, images: Tensor, labels: Tensor) -> None:
    chosen = {"steps": 3, "step_size": 0.7, "restarts": 2}
    generator = torch.Generator()
    step = LossStep(
        attack.module,
        AutoLirpaBounder(attack.module, (3,)),
        losses.get("mtl-ibp"),
        settings("mtl-ibp", attack=chosen),
        generator,
    )
    step(images, labels, PLAN)
    assert attack.options == [{**chosen, "generator": generator, "rand": torch.rand}]


def test_the_real_attack_moves_no_statistics(images: Tensor, labels: Tensor) -> None:
    # besides the clean and the adversarial batch, nothing does
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    chosen = settings("adversarial", attack={"steps": 4, "restarts": 2})
    for policy, batches in (("paper", 2), ("ctbench", 1)):
        tracked = int(module[1].num_batches_tracked)
        policed = replace(chosen, batch_norm_policy=policy)
        LossStep(module, None, losses.get("adversarial"), policed, torch.Generator())(
            images, labels, PLAN
        )
        assert int(module[1].num_batches_tracked) == tracked + batches


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


class TestCtbench:
    """Everything after the clean pass uses that pass's biased statistics, with their gradient."""

    def test_bounds(self, attack: Attack, images: Tensor, labels: Tensor) -> None:
        result = a_step(attack, batch_norm_policy="ctbench")(images, labels, PLAN)
        box = Box.around(images, EPSILON)
        expected = ibp_loss(attack.module, box, labels, *statistics(attack.module, images))
        torch.testing.assert_close(result.loss, expected)
        assert_same_gradients(attack.module, result.loss, expected)

    def test_adversarial_batch(self, attack: Attack, images: Tensor, labels: Tensor) -> None:
        step = a_step(attack, "adversarial", batch_norm_policy="ctbench")
        result = step(images, labels, PLAN)
        logits = by_hand(attack.module, attack.points, *statistics(attack.module, images))
        expected = F.cross_entropy(logits, labels)
        torch.testing.assert_close(result.loss, expected)
        assert_same_gradients(attack.module, result.loss, expected)
        assert result.adversarial_correct == int((logits.argmax(1) == labels).sum())

    def test_both_in_one_loss(self, attack: Attack, images: Tensor, labels: Tensor) -> None:
        step = a_step(attack, "mtl-ibp", batch_norm_policy="ctbench")
        result = step(images, labels, StepPlan(EPSILON, 0.3, 0.0))
        of_clean = statistics(attack.module, images)
        bounds = ibp_loss(attack.module, Box.around(images, EPSILON), labels, *of_clean)
        attacked = F.cross_entropy(by_hand(attack.module, attack.points, *of_clean), labels)
        expected = 0.3 * bounds + 0.7 * attacked
        torch.testing.assert_close(result.loss, expected)
        assert_same_gradients(attack.module, result.loss, expected)

    def test_attack(self, attack: Attack, images: Tensor, labels: Tensor) -> None:
        a_step(attack, batch_norm_policy="ctbench")(images, labels, PLAN)
        logits = by_hand(attack.module, images, *statistics(attack.module, images))
        expected = F.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(attack.values[0], expected)

    def test_only_the_clean_batch_moves_the_running_statistics(
        self, attack: Attack, images: Tensor, labels: Tensor
    ) -> None:
        a_step(attack, batch_norm_policy="ctbench")(images, labels, PLAN)
        mean, variance = statistics(attack.module, images)
        torch.testing.assert_close(attack.norm.running_mean, 0.1 * mean)
        torch.testing.assert_close(attack.norm.running_var, 0.9 + 0.1 * variance * 12 / 11)


def test_the_attacks_box_has_its_own_factor(attack: Attack, images: Tensor, labels: Tensor) -> None:
    wider = {"target": 0.1, "length": 2, "attack_epsilon_factor": 2.0}
    a_step(attack, epsilon=wider)(images, labels, PLAN)
    (box,) = attack.boxes
    torch.testing.assert_close(box.radius, torch.full_like(images, 2 * EPSILON))


@pytest.mark.parametrize("loss", ["mtl-ibp", "adversarial", "sabr"])
def test_warm_up_is_the_clean_cross_entropy_after_both_passes(
    loss: str, attack: Attack, images: Tensor, labels: Tensor
) -> None:
    wider = {"target": 0.1, "length": 2, "attack_epsilon_factor": 2.0}
    result = a_step(attack, loss, epsilon=wider)(images, labels, StepPlan(0.0, 1.0, 0.0))
    outputs = by_hand(attack.module, images, *statistics(attack.module, images))
    torch.testing.assert_close(result.loss, F.cross_entropy(outputs, labels))
    (box,) = attack.boxes
    torch.testing.assert_close(box.radius, torch.full_like(images, 1e-6), atol=1e-7, rtol=0)
    clean, adversarial = (statistics(attack.module, x)[0] for x in (images, attack.points))
    torch.testing.assert_close(attack.norm.running_mean, 0.9 * 0.1 * clean + 0.1 * adversarial)
    assert result.verified is None


def test_warm_up_without_an_attack_is_one_pass(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    result = a_step(attack, "ibp")(images, labels, StepPlan(0.0, 1.0, 0.0))
    assert not attack.boxes
    clean, _ = statistics(attack.module, images)
    torch.testing.assert_close(attack.norm.running_mean, 0.1 * clean)
    assert result.adversarial_correct is None
    assert result.verified is None


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
    assert result.verified is not None
    assert 0 <= result.verified <= result.adversarial_correct


def test_what_a_loss_does_not_look_at_is_not_counted(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    natural = a_step(attack, "natural")(images, labels, PLAN)
    assert (natural.adversarial_correct, natural.verified) == (None, None)
    ibp = a_step(attack, "ibp")(images, labels, PLAN)
    assert ibp.adversarial_correct is None
    assert ibp.verified is not None
    adversarial = a_step(attack, "adversarial")(images, labels, PLAN)
    assert adversarial.adversarial_correct is not None
    assert adversarial.verified is None


def test_sabr_bounds_the_small_box_of_the_attack(
    attack: Attack, images: Tensor, labels: Tensor
) -> None:
    # half-width λ times the attack's ε, around its points (which lie 0.7 ε from the images)
    wider = {"target": 0.1, "length": 2, "attack_epsilon_factor": 1.5}
    share = {"name": "sabr", "sabr_lambda": 0.25}
    result = a_step(attack, "sabr", epsilon=wider, loss=share)(images, labels, PLAN)
    tau = 0.25 * 1.5 * EPSILON
    box = Box(attack.points - tau, attack.points + tau)
    expected = ibp_loss(attack.module, box, labels, *statistics(attack.module, attack.points))
    torch.testing.assert_close(result.loss, expected)


def test_crown_ibp_mixes_both_bounds(images: Tensor, labels: Tensor) -> None:
    module = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.copy_(torch.tensor([-0.5, 0.5]))
        module[2].weight.copy_(torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
        module[2].bias.zero_()
    # f_0 - f_1 = relu(x + 0.5) - relu(x - 0.5) over x in [0.4, 0.7]. IBP: 0.9 - 0.2 = 0.7. CROWN:
    # relu(x - 0.5) <= (2/3)(x - 0.4), so f_0 - f_1 >= x + 0.5 - (2/3)(x - 0.4), at x = 0.4: 0.9
    x, label = torch.tensor([[0.55]]), torch.tensor([0])
    chosen = settings("crown-ibp", regulariser={"weight": 0.0})
    step = LossStep(
        module, AutoLirpaBounder(module, (1,)), losses.get("crown-ibp"), chosen, torch.Generator()
    )
    for alpha in (0.0, 0.25, 1.0):
        margin = alpha * 0.9 + (1 - alpha) * 0.7
        loss = step(x, label, StepPlan(0.15, alpha, 0.0)).loss
        torch.testing.assert_close(loss, F.softplus(torch.tensor(-margin)))

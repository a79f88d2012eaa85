"""What each step is told, what the optimiser does with it, and what an epoch reports."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from verify_pipeline.data import Augmentation, DataSetInfo, ImageSet
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import get
from verify_pipeline.network.zoo.layers import Normalise
from verify_pipeline.training import batch_norm, evaluate, loop, train
from verify_pipeline.training.batch_norm import batch_norms
from verify_pipeline.training.step import LossStep, StepPlan, StepResult

from .conftest import settings


class Recorder(LossStep):
    """Notes every step's plan and batch."""

    plans: list[StepPlan]
    batches: list[Tensor]

    def __call__(
        self, images: Tensor, labels: Tensor, plan: StepPlan, points: Tensor | None = None
    ) -> StepResult:
        self.plans.append(plan)
        self.batches.append(images)
        return super().__call__(images, labels, plan, points)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    Recorder.plans, Recorder.batches = [], []
    monkeypatch.setattr(loop, "LossStep", Recorder)
    return Recorder


def test_each_step_has_its_epsilon_alpha_and_regulariser(
    recorder: type[Recorder], images: ImageSet, info: DataSetInfo
) -> None:
    # three batches an epoch. ε grows in steps 3 to 9 (epochs 2 and 3): a quarter of six is one, so
    # x^4 up to 1/21 at step 4, then 4/21 more with each step; the full ε is 0.1 × 1.5.
    # α goes from 1 to 0.25 in steps 3 to 6.
    chosen = settings(
        "mtl-ibp",
        loss={
            "name": "mtl-ibp",
            "alpha": 0.25,
            "alpha_ramp": {"shape": "linear", "start_value": 1.0, "start": 2, "length": 1},
        },
        epsilon={"target": 0.1, "train_factor": 1.5, "start": 2, "length": 2},
        regulariser={"weight": 0.3},
    )
    train(chosen, images, info)
    shares = [0, 0, 0, 0, 1 / 21, 5 / 21, 9 / 21, 13 / 21, 17 / 21, 1, 1, 1]
    assert [plan.epsilon for plan in recorder.plans] == pytest.approx([0.15 * s for s in shares])
    assert [plan.regulariser for plan in recorder.plans] == pytest.approx(
        [0.3 * (1 - s) for s in shares]
    )
    alphas = [1, 1, 1, 1, 0.75, 0.5, *[0.25] * 6]
    assert [plan.alpha for plan in recorder.plans] == pytest.approx(alphas)


def test_an_epochs_row_has_the_values_of_its_last_step(images: ImageSet, info: DataSetInfo) -> None:
    rows = train(settings(epsilon={"target": 0.1, "length": 2}), images, info).metrics
    # steps 2, 5, 8 and 11 of a ramp in steps 0 to 6: 1/21 at step 1
    assert [row["epsilon"] for row in rows] == pytest.approx(
        [0.1 * 5 / 21, 0.1 * 17 / 21, 0.1, 0.1]
    )
    assert [row["rate"] for row in rows] == pytest.approx([5e-3, 5e-3, 5e-3, 1e-3])
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


@pytest.fixture
def gradients() -> Iterator[list[tuple[float, float]]]:
    """The gradient's norm and the rate of each step of any optimiser, as it takes them."""
    seen: list[tuple[float, float]] = []

    def note(optimiser: Any, *_: Any) -> None:
        (group,) = optimiser.param_groups
        values = [p.grad.flatten() for p in group["params"] if p.grad is not None]
        seen.append((float(torch.cat(values).norm()), group["lr"]))

    handle = register_optimizer_step_pre_hook(note)
    yield seen
    handle.remove()


def test_gradients_are_clipped(
    gradients: list[tuple[float, float]], images: ImageSet, info: DataSetInfo
) -> None:
    options = {"epochs": 2, "batch": 32, "milestones": [1], "learning_rate": 1e-3}
    schedule = {"target": 0.1, "length": 1}

    def norms(clip: float) -> list[float]:
        gradients.clear()
        train(settings(optimiser={**options, "clip": clip}, epsilon=schedule), images, info)
        return [norm for norm, _ in gradients]

    free = norms(0.0)
    assert len(free) == 6
    assert min(free) > 0.02
    assert norms(0.01) == pytest.approx([0.01] * 6, rel=1e-3)
    assert norms(1e6) == free


def test_the_rate_changes_with_the_first_step_after_a_milestone(
    gradients: list[tuple[float, float]], images: ImageSet, info: DataSetInfo
) -> None:
    options = {"epochs": 4, "batch": 48, "milestones": [1, 3], "learning_rate": 1e-3, "decay": 0.5}
    train(settings(optimiser=options), images, info)
    rates = [1e-3] * 2 + [5e-4] * 4 + [2.5e-4] * 2
    assert [rate for _, rate in gradients] == pytest.approx(rates)


class TestRegulariserInAStep:
    """One layer on two pixels, normalised by 0.5: bounds and both terms by hand."""

    EPSILON = 0.05

    def module(self, first: list[list[float]], bias: list[float]) -> nn.Module:
        module = nn.Sequential(
            Normalise((0.2,), (0.5,)), nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)
        )
        with torch.no_grad():
            module[2].weight.copy_(torch.tensor(first))
            module[2].bias.copy_(torch.tensor(bias))
        return module

    def added(self, module: nn.Module, epsilon: float, weight: float) -> float:
        """What the regulariser adds to the loss."""
        images, labels = torch.full((1, 1, 1, 2), 0.5), torch.tensor([1])
        chosen = settings("ibp", regulariser={"weight": 9.0, "tolerance": 0.5})
        step = LossStep(
            module, AutoLirpaBounder(module, (1, 1, 2)), get("ibp"), chosen, torch.Generator()
        )
        with_it, without = (
            step(images, labels, StepPlan(epsilon, 1.0, each)).loss.item() for each in (weight, 0.0)
        )
        return with_it - without

    def test_tightness(self) -> None:
        # half-widths: 0.1 of both inputs, so 0.4 and 0.6 behind the layer: (0.5 - 0.1/0.5) / 0.5;
        # centres 0.6 (1 - 3) + 9 and 0.6 · 6 + 9: both active
        module = self.module([[1.0, -3.0], [2.0, 4.0]], [9.0, 9.0])
        for weight in (1.0, 0.25):
            assert self.added(module, self.EPSILON, weight) == pytest.approx(0.6 * weight, rel=1e-4)

    def test_balance(self) -> None:
        # centres 2 and -8, mean -3: ratio 1/4; both squares 25; no tightness, as 0.1 / 0.1 > 0.5
        module = self.module([[1.0, 0.0], [0.0, 1.0]], [1.4, -8.6])
        for weight in (1.0, 0.25):
            assert self.added(module, self.EPSILON, weight) == pytest.approx(0.5 * weight, rel=1e-4)

    def test_warming_up_it_looks_at_tiny_boxes(self) -> None:
        module = self.module([[1.0, -3.0], [2.0, 4.0]], [9.0, 9.0])
        assert self.added(module, 0.0, 1.0) == pytest.approx(0.6, rel=0.3)


def test_augmentation_is_that_of_the_data_set_and_can_be_off(
    recorder: type[Recorder], images: ImageSet
) -> None:
    info = DataSetInfo("halves", (1, 8, 8), 2, (0.4,), (0.3,), Augmentation(flip=True))
    originals = {tuple(row.tolist()) for row in images.pixels().flatten(1)}

    def share_of_originals(augment: bool) -> float:
        recorder.batches.clear()
        train(settings("natural", data={"name": "halves", "augment": augment}), images, info)
        rows = torch.cat(recorder.batches).flatten(1)
        assert len(rows) == 4 * 96
        return sum(tuple(row.tolist()) in originals for row in rows) / len(rows)

    assert share_of_originals(False) == 1
    assert 0.4 < share_of_originals(True) < 0.6


def test_every_epoch_sees_every_image_once_in_a_new_order(
    recorder: type[Recorder], images: ImageSet, info: DataSetInfo
) -> None:
    train(settings("natural"), images, info)
    steps = [batch.flatten(1).sum(1) for batch in recorder.batches]
    epochs = [torch.cat(steps[place : place + 3]) for place in range(0, 12, 3)]
    for epoch in epochs[1:]:
        torch.testing.assert_close(epoch.sort().values, epochs[0].sort().values)
        assert not torch.equal(epoch, epochs[0])


class TestMetrics:
    @pytest.mark.parametrize(
        ("loss", "measured"),
        [
            ("natural", {"clean"}),
            ("ibp", {"clean", "verified"}),
            ("adversarial", {"clean", "adversarial"}),
            ("mtl-ibp", {"clean", "adversarial", "verified"}),
        ],
    )
    def test_what_is_not_measured_is_not_there(
        self, loss: str, measured: set[str], images: ImageSet, info: DataSetInfo
    ) -> None:
        row = train(settings(loss), images, info).metrics[-1]
        accuracies = {"clean", "adversarial", "verified"}
        assert {name for name in accuracies if f"train_{name}" in row} == measured
        assert all(0 <= row[f"train_{name}"] <= 1 for name in measured)

    def test_while_epsilon_is_zero_nothing_is_verified(
        self, images: ImageSet, info: DataSetInfo
    ) -> None:
        schedule = {"target": 0.1, "start": 2, "length": 1}
        rows = train(settings("ibp", epsilon=schedule), images, info).metrics
        assert ["train_verified" in row for row in rows] == [False, True, True, True]

    def test_means_are_over_the_images_that_were_measured(self) -> None:
        averages = loop.Averages()
        averages.count(StepResult(torch.tensor(1.0), torch.tensor(3)), 6)
        averages.count(StepResult(torch.tensor(4.0), torch.tensor(1), torch.tensor(1)), 2)
        none, both = torch.tensor(0), torch.tensor(2)
        averages.count(StepResult(torch.tensor(0.0), none, none, both), 2)
        expected = {"loss": 1.4, "clean": 0.4, "adversarial": 0.25, "verified": 1.0}
        assert averages.values() == pytest.approx(expected)


def test_ctbench_statistics_are_of_the_augmented_images_in_a_new_order(
    monkeypatch: pytest.MonkeyPatch, images: ImageSet
) -> None:
    change = Augmentation(padding=1, mode="edge")
    info = DataSetInfo("halves", (1, 8, 8), 2, (0.4,), (0.3,), change)
    given: list[Tensor] = []

    def recompute(module: nn.Module, batches: Iterator[Tensor], *_: object) -> None:
        given[:] = list(batches)
        batch_norm.recompute_statistics(module, given)

    monkeypatch.setattr(loop, "recompute_statistics", recompute)
    by_class = images.subset(images.labels.argsort())
    chosen = settings(network={"name": "cnn5", "width": 0.06}, batch_norm_policy="ctbench")
    module = train(chosen, by_class, info).module
    assert [len(batch) for batch in given] == [32, 32, 32]
    originals = {tuple(row.tolist()) for row in images.pixels().flatten(1)}
    same = sum(tuple(row.tolist()) in originals for batch in given for row in batch.flatten(1))
    assert same < 0.2 * 96
    # not class by class: brighter left halves are of class 0
    left = [(b[..., :4].mean((1, 2, 3)) > b[..., 4:].mean((1, 2, 3))).float().mean() for b in given]
    assert all(0.1 < float(share) < 0.9 for share in left)
    # the running statistics are the plain average of these batches'
    name, layer = next(iter(batch_norms(module).items()))
    first = nn.Sequential(*list(module.children())[: int(name)])
    with torch.no_grad():
        parts = [first(batch) for batch in given]
    means = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    variances = torch.stack([part.var((0, 2, 3)) for part in parts]).mean(0)
    torch.testing.assert_close(layer.running_mean, means, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer.running_var, variances, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("policy", "times"), [("paper", 0), ("ctbench", 4)])
def test_running_statistics_are_computed_anew_after_each_epoch_of_ctbench_alone(
    policy: str,
    times: int,
    images: ImageSet,
    info: DataSetInfo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[nn.Module] = []
    monkeypatch.setattr(loop, "recompute_statistics", lambda module, *_: calls.append(module))
    chosen = settings(network={"name": "cnn5", "width": 0.06}, batch_norm_policy=policy)
    module = train(chosen, images, info).module
    assert calls == [module] * times


class TestEvaluation:
    def test_its_attack(self, monkeypatch: pytest.MonkeyPatch, images: ImageSet) -> None:
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 2))
        calls: list[dict[str, Any]] = []

        def attack(objective: Any, box: Any, **options: Any) -> Tensor:
            calls.append(options)
            assert not module.training
            assert float(box.radius.max()) == pytest.approx(0.03)
            point: Tensor = box.center
            return point

        monkeypatch.setattr(evaluate, "pgd", attack)
        found = evaluate.evaluate(module.train(), images, 0.03, seed=5, batch=50)
        assert [(c["steps"], c["step_size"]) for c in calls] == [(20, 0.1)] * 2
        assert calls[0]["generator"].initial_seed() == 5
        assert found.adversarial == found.standard  # at the middle of boxes away from 0 and 1
        assert module.training

    def test_by_hand(self) -> None:
        # f_0 - f_1 = x_1 - x_2 where both neurons are active; ε = 0.1 can move it by 0.2
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2)
        )
        with torch.no_grad():
            module[1].weight.copy_(torch.eye(2))
            module[1].bias.zero_()
            module[4].weight.copy_(torch.eye(2))
            module[4].bias.zero_()
        differences = torch.tensor([0.3, 0.25, 0.15, -0.1])
        pixels = torch.stack([0.4 + differences, torch.full((4,), 0.4)], 1).view(4, 1, 1, 2)
        images = ImageSet("four", "test", pixels, torch.zeros(4, dtype=torch.int64), 2)
        found = evaluate.evaluate(module.train(), images, 0.1, seed=0)
        assert (found.standard, found.adversarial, found.ibp) == (0.75, 0.5, 0.5)
        # in eval mode: the running statistics are as they were
        assert module[2].running_mean.tolist() == [0, 0]

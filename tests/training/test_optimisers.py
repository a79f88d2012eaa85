"""Optimisers, rates and ε's shapes by hand, and refusals of what they do not have."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.training import train
from verify_pipeline.training.optimiser_settings import OptimiserSettings
from verify_pipeline.training.optimisers import OPTIMISERS, make_optimiser
from verify_pipeline.training.rates import rate_schedule
from verify_pipeline.training.schedules import epsilon_schedule, linear, stairs
from verify_pipeline.training.settings import EpsilonSettings

from .conftest import settings


def options(**changes: Any) -> OptimiserSettings:
    base: dict[str, Any] = {"epochs": 10, "learning_rate": 0.1, "milestones": ()}
    return OptimiserSettings(**{**base, **changes})


def walked(gradients: list[float], **changes: Any) -> list[float]:
    """One weight, 1 at first, after each of these gradients."""
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimiser = make_optimiser(options(**changes), [weight])
    found = []
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        found.append(float(weight.detach()))
    return found


class TestUpdatesByHand:
    def test_sgd(self) -> None:
        assert walked([2.0, -1.0], name="sgd") == pytest.approx([0.8, 0.9])

    def test_momentum(self) -> None:
        # v = 2, then 0.5·2 + 1 = 2
        walk = walked([2.0, 1.0], name="sgd", momentum=0.5)
        assert walk == pytest.approx([0.8, 0.6])

    def test_nesterov(self) -> None:
        # g + μ v: 2 + 1 = 3, then v = 2 and 1 + 1 = 2
        walk = walked([2.0, 1.0], name="sgd", momentum=0.5, nesterov=True)
        assert walk == pytest.approx([0.7, 0.5])

    def test_weight_decay_of_sgd_is_part_of_the_gradient(self) -> None:
        assert walked([2.0], name="sgd", weight_decay=0.5) == pytest.approx([1 - 0.1 * 2.5])

    def test_adam_divides_by_the_gradients_size(self) -> None:
        assert walked([2.0], name="adam") == pytest.approx([0.9])
        assert walked([2.0], name="adam", weight_decay=0.5) == pytest.approx([0.9])

    def test_adamw_decays_apart_from_the_gradient(self) -> None:
        # 1 - 0.1·0.5 = 0.95, then a step of 0.1
        assert walked([2.0], name="adamw", weight_decay=0.5) == pytest.approx([0.85])

    def test_radam_begins_without_an_adaptive_rate(self) -> None:
        # ρ_t <= 5 in the first steps: w - η m̂, with m̂ = g for equal gradients
        assert walked([2.0, 2.0], name="radam") == pytest.approx([0.8, 0.6])


class TestRatesByHand:
    def test_cosine(self) -> None:
        # 10 epochs of 2 steps, t = step/20: (1 + cos(π t))/2
        rate = rate_schedule(options(schedule="cosine"), 2)
        assert rate(0) == pytest.approx(0.1)
        assert rate(5) == pytest.approx(0.1 * (1 + math.sqrt(0.5)) / 2)
        assert rate(10) == pytest.approx(0.05)
        assert rate(15) == pytest.approx(0.1 * (1 - math.sqrt(0.5)) / 2)
        assert 0 < rate(19) < 0.001

    def test_cosine_ends_at_its_factor(self) -> None:
        rate = rate_schedule(options(schedule="cosine", end_factor=0.2), 2)
        assert rate(10) == pytest.approx(0.1 * (0.2 + 0.8 / 2))
        assert rate(19) > 0.02

    def test_cosine_after_a_warm_up(self) -> None:
        # 2 epochs of 2 steps: 1/4, 2/4, 3/4, 4/4; then the cosine of 16 steps
        rate = rate_schedule(options(schedule="cosine", warm_up=2), 2)
        assert [rate(step) for step in range(5)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
        assert rate(12) == pytest.approx(0.05)

    def test_one_cycle(self) -> None:
        # 2 epochs up from a tenth, 2 down to it, 6 on to nothing
        rate = rate_schedule(options(schedule="one-cycle", warm_up=2), 2)
        assert rate(0) == pytest.approx(0.01)
        assert rate(2) == pytest.approx(0.055)
        assert rate(4) == pytest.approx(0.1)
        assert rate(6) == pytest.approx(0.055)
        assert rate(8) == pytest.approx(0.01)
        assert rate(14) == pytest.approx(0.005)
        assert 0 < rate(19) < 0.001

    def test_one_cycle_with_other_factors(self) -> None:
        chosen = options(schedule="one-cycle", warm_up=5, start_factor=0.5, end_factor=0.1)
        rate = rate_schedule(chosen, 2)
        assert [rate(0), rate(5), rate(10), rate(15)] == pytest.approx([0.05, 0.075, 0.1, 0.075])
        longer = options(schedule="one-cycle", warm_up=1, start_factor=0.5, end_factor=0.1)
        assert rate_schedule(longer, 1)(6) == pytest.approx(0.05 * (1 - 0.9 / 2))

    def test_milestones_after_a_warm_up(self) -> None:
        rate = rate_schedule(options(milestones=(3,), warm_up=1, decay=0.5), 2)
        assert [rate(step) for step in range(8)] == pytest.approx(
            [0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]
        )

    def test_the_loop_has_the_rate_of_each_step(
        self, images: ImageSet, info: DataSetInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[float] = []
        step = torch.optim.SGD.step

        def noted(self: torch.optim.SGD, *arguments: Any) -> Any:
            seen.append(self.param_groups[0]["lr"])
            return step(self, *arguments)

        monkeypatch.setattr(torch.optim.SGD, "step", noted)
        chosen = {"name": "sgd", "schedule": "cosine", "milestones": [], "learning_rate": 0.1}
        made = settings("ibp", optimiser={**chosen, "epochs": 3, "batch": 32})
        rows = train(made, images, info).metrics
        rate = rate_schedule(made.optimiser, 3)
        assert seen == [rate(each) for each in range(9)]
        assert [row["rate"] for row in rows] == [rate(2), rate(5), rate(8)]


class TestEpsilonByHand:
    def test_a_staircase(self) -> None:
        # 4 epochs of 3 steps in stairs of 2 epochs: half the ε, then all of it
        chosen = EpsilonSettings(target=0.2, start=2, length=4, shape="step", stair=2)
        schedule = epsilon_schedule(chosen, 3)
        values = [schedule(step) for step in range(18)]
        assert values == pytest.approx([0] * 3 + [0.1] * 6 + [0.2] * 9)

    def test_stairs_are_those_of_ctbench(self) -> None:
        # ceil((t - first + 0.1) / (last - first) · n) / n
        for step in range(5, 29):
            theirs = math.ceil((step - 5 + 0.1) / 24 * 4) / 4
            assert stairs(step, 5, 29, 4) == theirs
        assert [stairs(step, 5, 29, 4) for step in (0, 4, 29, 99)] == [0, 0, 1, 1]

    def test_a_line(self) -> None:
        chosen = EpsilonSettings(target=0.1, train_factor=2.0, start=2, length=2, shape="linear")
        schedule = epsilon_schedule(chosen, 2)
        values = [schedule(step) for step in range(8)]
        assert values == pytest.approx([0, 0, 0, 0.05, 0.1, 0.15, 0.2, 0.2])

    @pytest.mark.parametrize("shape", ["linear", "step"])
    def test_no_ramp_is_full_at_once(self, shape: str) -> None:
        chosen = EpsilonSettings(target=0.3, start=2, length=0, shape=shape)
        schedule = epsilon_schedule(chosen, 10)
        assert [schedule(step) for step in (0, 9, 10, 11)] == [0, 0, 0.3, 0.3]
        assert linear(3, 7, 7) == 0

    @pytest.mark.parametrize("shape", ["linear", "step"])
    def test_the_loop_has_it(self, shape: str, images: ImageSet, info: DataSetInfo) -> None:
        chosen = settings(epsilon={"target": 0.1, "length": 2, "shape": shape})
        epsilons = [row["epsilon"] for row in train(chosen, images, info).metrics]
        # at the end of an epoch of 3 steps: 2/6 and 5/6 of a line; 1/2 and 2/2 of a staircase
        first = {"linear": [1 / 30, 1 / 12], "step": [0.05, 0.1]}[shape]
        assert epsilons == pytest.approx([*first, 0.1, 0.1])


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_every_optimiser_learns(name: str, images: ImageSet, info: DataSetInfo) -> None:
    own = {"learning_rate": 0.1, "momentum": 0.9} if name == "sgd" else {"learning_rate": 5e-3}
    chosen = {"name": name, "epochs": 15, "batch": 16, "milestones": [], **own}
    trained = train(settings("adversarial", optimiser=chosen), images, info)
    assert trained.metrics[-1]["train_clean"] > 0.9


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"momentum": 0.9}, r"optimiser\.momentum is a setting of sgd, got 0\.9 with adam"),
        ({"name": "sgd", "nesterov": True}, r"optimiser\.nesterov needs sgd with momentum > 0"),
        ({"name": "sgd", "momentum": 1.0}, r"less than 1"),
        (
            {"schedule": "cosine", "milestones": [2]},
            r"milestones belong to .* beside cosine, got 2",
        ),
        ({"schedule": "one-cycle", "milestones": []}, r"expected 1 to 2, half of .*, got 0"),
        (
            {"schedule": "one-cycle", "milestones": [], "warm_up": 3},
            r"expected 1 to 2, half of .*, got 3",
        ),
        ({"warm_up": 4}, r"optimiser\.warm_up: expected less than optimiser\.epochs = 4, got 4"),
        ({"start_factor": 0.2}, r"start_factor is a setting of one-cycle, got it with milestones"),
        ({"end_factor": 0.2}, r"end_factor is one of cosine and one-cycle"),
        ({"accumulate_statistics": "batch"}, r"needs accumulate > 1, got 1"),
        ({"name": "lion"}, r"'adam', 'adamw', 'radam' or 'sgd'"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(optimiser={"epochs": 4, "milestones": [3], **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"length": 3, "shape": "step", "stair": 2}, r"a multiple of epsilon\.stair = 2, got 3"),
        ({"length": 2, "stair": 2}, r"epsilon\.stair is a setting of the shape step"),
    ],
)
def test_shapes_that_do_not_fit(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(epsilon={"target": 0.1, **changes})


def test_gradients_are_clipped_before_weight_decay(images: ImageSet, info: DataSetInfo) -> None:
    # a gradient clipped to nothing leaves the decay: w (1 - η λ) after each step
    chosen = {
        "name": "sgd",
        "epochs": 1,
        "batch": 96,
        "milestones": [],
        "learning_rate": 0.1,
        "weight_decay": 0.5,
        "clip": 1e-12,
    }
    schedule = {"target": 0.1, "length": 0}

    def weights(decay: float) -> Tensor:
        made = settings("ibp", epsilon=schedule, optimiser={**chosen, "weight_decay": decay})
        return torch.cat([p.flatten() for p in train(made, images, info).module.parameters()])

    torch.testing.assert_close(weights(0.5), weights(0.0) * 0.95)

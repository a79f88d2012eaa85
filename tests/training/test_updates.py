"""EDAC's step, noise on weights and a clean share, beside everything else that a step can have."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline import losses
from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.network import zoo
from verify_pipeline.process_group import ALONE
from verify_pipeline.training import step, train
from verify_pipeline.training.optimisers import make_optimiser, without_decay
from verify_pipeline.training.settings import OptimiserSettings, TrainSettings
from verify_pipeline.training.step import StepPlan
from verify_pipeline.training.updates import Updates

from .conftest import settings
from .test_loop import weights

NORMALISED = {"name": "cnn5", "width": 0.06}
STEPS = {"epochs": 4, "batch": 32, "milestones": [3], "learning_rate": 5e-3}
NOISY = {**STEPS, "weight_noise": 0.1}
FEATURES = {"edac_step": 0.5, "clean_weight": 0.3}


def whole_batch(name: str, parts: int, policy: str, **optimiser: Any) -> TrainSettings:
    cut = {"accumulate": parts, "accumulate_statistics": "batch", "clip": 0.0, "name": "sgd"}
    return settings(
        network=NORMALISED,
        loss={"name": name, **FEATURES},
        batch_norm_policy=policy,
        attack={"steps": 2, "step_size": 0.5},
        optimiser={**STEPS, **cut, "learning_rate": 0.5, **optimiser},
    )


def updated(chosen: TrainSettings, images: ImageSet) -> tuple[Tensor, float]:
    """The state in float64 after one update with 32 images, and the mean loss of its parts."""
    torch.manual_seed(0)
    module = zoo.build("cnn5", (1, 8, 8), 2, (0.4,), (0.3,), 0.06, None).double()
    optimiser = make_optimiser(chosen.optimiser, module.parameters())
    loss = losses.get(chosen.loss.name, chosen.loss.numbers)
    generator = torch.Generator().manual_seed(0)
    updates = Updates(module, (1, 8, 8), loss, chosen, optimiser, generator, ALONE)
    pixels, labels = images.pixels(slice(0, 32)).double(), images.labels[:32]
    cuts = chosen.optimiser.accumulate
    parts = list(zip(pixels.chunk(cuts), labels.chunk(cuts), strict=True))
    results = updates(parts, StepPlan(0.1, 0.3, 0.0, chosen.loss.clean_weight), 0.5, 7)
    return weights(module), sum(float(result.loss) for result in results) / cuts


@pytest.mark.parametrize("policy", ["paper", "ctbench"])
@pytest.mark.parametrize("name", ["mtl-sabr", "mart", "arow"])
def test_cutting_a_batch_makes_no_difference(name: str, policy: str, images: ImageSet) -> None:
    (two, two_loss), (eight, eight_loss) = (
        updated(whole_batch(name, parts, policy, weight_noise=0.1), images) for parts in (2, 8)
    )
    assert two_loss == pytest.approx(eight_loss, rel=1e-9)
    torch.testing.assert_close(two, eight, atol=1e-9, rtol=1e-7)
    without = updated(whole_batch(name, 2, policy, weight_noise=0.0), images)[0]
    assert not torch.allclose(two, without)


def test_edac_attacks_each_part_twice(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked = []
    usual = step.pgd

    def noted(*given: Any, **options: Any) -> Tensor:
        attacked.append(len(given[1].lower))
        return usual(*given, **options)

    monkeypatch.setattr(step, "pgd", noted)
    updated(whole_batch("adversarial", 4, "paper"), images)
    assert attacked == [8] * 8  # before statistics are measured, and never again


def test_unequal_parts_count_by_their_images(images: ImageSet) -> None:
    found = []
    pixels, labels = images.pixels(slice(0, 32)).double(), images.labels[:32]
    for sizes in ([32], [20, 12]):
        torch.manual_seed(0)
        module = zoo.build("mlp", (1, 8, 8), 2, (0.4,), (0.3,), 0.05, None).double()
        chosen = settings("ibp", optimiser={**NOISY, "name": "sgd", "clip": 0.0})
        optimiser = make_optimiser(chosen.optimiser, module.parameters())
        updates = Updates(
            module, (1, 8, 8), losses.get("ibp"), chosen, optimiser, torch.Generator()
        )
        parts = list(zip(pixels.split(sizes), labels.split(sizes), strict=True))
        updates(parts, StepPlan(0.1, 1.0, 0.0, 0.3), 0.5, 0)
        found.append(weights(module))
    torch.testing.assert_close(*found, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_an_average_is_of_weights_without_noise(
    kind: str, images: ImageSet, info: DataSetInfo
) -> None:
    # the average that begins with the last step has its weights
    changes: dict[str, Any] = {
        "loss": {"name": "cc-ibp", "alpha": 0.5, **FEATURES},
        "optimiser": {**NOISY, "batch": 96},
    }
    last = train(settings(**changes), images, info).module
    average = {"kind": kind, "start": 4}
    averaged = train(settings(**changes, average=average), images, info).module
    assert torch.equal(weights(averaged), weights(last))


def test_the_best_epoch_is_kept_with_all_of_them(
    images: ImageSet, info: DataSetInfo, tmp_path: Any
) -> None:
    ramp = {"shape": "linear", "start_value": 1.0, "start": 1, "length": 3}
    chosen = settings(
        data={"name": "halves", "validation": 16},
        loss={"name": "cc-ibp", "alpha": 0.5, **FEATURES, "clean_ramp": ramp},
        epsilon={"target": 0.1, "length": 1},
        optimiser={**NOISY, "epochs": 6},
        watch={"every": 1},
        keep={"best": "validation_standard", "network": "best"},
    )
    assert chosen.first_full_epoch == 4  # of κ, later than that of ε
    trained = train(chosen, images, info, tmp_path)
    assert trained.epoch >= 4
    assert "best_epoch" not in trained.metrics[2]
    again = train(chosen, images, info, tmp_path)
    assert torch.equal(weights(again.module), weights(trained.module))


@pytest.mark.parametrize("name", ["adversarial", "arow"])
def test_edac_with_a_narrow_attack(name: str, images: ImageSet, info: DataSetInfo) -> None:
    loss = {"name": name, **FEATURES}
    found = [
        weights(
            train(settings(loss=loss, attack={"precision": each, "steps": 2}), images, info).module
        )
        for each in ("float32", "bfloat16")
    ]
    assert all(bool(torch.isfinite(each).all()) for each in found)
    assert not torch.equal(*found)


@pytest.mark.parametrize("name", ["adam", "adamw", "radam", "sgd"])
def test_a_step_without_decay(name: Any) -> None:
    layer = nn.Linear(2, 2)
    chosen = OptimiserSettings(name=name, weight_decay=0.5, learning_rate=0.1)
    optimiser = make_optimiser(chosen, layer.parameters())
    layer.weight.grad = torch.zeros(2, 2)
    before = layer.weight.detach().clone()
    with without_decay(optimiser):
        optimiser.step()
    assert torch.equal(layer.weight, before)
    optimiser.step()
    assert not torch.equal(layer.weight, before)


class Bare(nn.Module):
    """A network whose weights belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 64), 0.01))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.flatten(1), self.weight)


@pytest.mark.parametrize("name", ["l1", "weight_noise"])
def test_settings_of_layers_need_a_layer(name: str, images: ImageSet, info: DataSetInfo) -> None:
    chosen = settings("adversarial", network={}, optimiser={**STEPS, name: 0.1})
    with pytest.raises(ConfigError, match=rf"optimiser\.{name}; expected 0 .* got 0\.1"):
        train(chosen, images, info, module=Bare())

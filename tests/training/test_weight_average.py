"""Averages of weights by hand, and as the network of a training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.data import Augmentation, DataSetInfo, ImageSet
from verify_pipeline.training import loop, restore, train
from verify_pipeline.training.batch_norm import batch_norms
from verify_pipeline.training.checkpoint import read
from verify_pipeline.training.evaluate import Accuracies
from verify_pipeline.training.loop_settings import AverageSettings
from verify_pipeline.training.weight_average import WeightAverage

from .conftest import settings
from .test_loop import weights

NORMALISED = {"name": "cnn5", "width": 0.06}


def walked(values: list[float], steps: int, **changes: Any) -> list[float]:
    """The average of one weight that has these values after its steps."""
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, AverageSettings(**changes), steps)
    found = []
    for step, value in enumerate(values):
        nn.init.constant_(network.weight, value)
        average.step_done(step)
        if (step + 1) % steps == 0:
            average.epoch_done((step + 1) // steps)
        found.append(float(average.module.weight.detach()))
    return found


def test_ema_by_hand() -> None:
    # from the first step of epoch 2: 3; 0.75·3 + 0.25·7 = 4; 0.75·4 + 0.25·8 = 5
    found = walked([1, 2, 3, 7, 8], 2, kind="ema", decay=0.75, start=2)
    assert found[2:] == [3, 4, 5]


def test_ema_has_a_usual_decay() -> None:
    assert walked([1, 2], 1, kind="ema") == pytest.approx([1, 1.001])


def test_swa_by_hand() -> None:
    # after epochs 2, 3 and 4 of two steps: 4; (4 + 6)/2; (4 + 6 + 11)/3
    found = walked([9, 9, 9, 4, 9, 6, 9, 11], 2, kind="swa", start=2)
    assert found[3::2] == pytest.approx([4, 5, 7])


class Noting:
    """Weights behind each epoch, as training itself has them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.weights = folder, []

    def __call__(self, metrics: list[dict[str, Any]]) -> bool:
        found = read(self._folder)
        self.weights.append({k: v.double() for k, v in found.part("module").items()})
        return False


def test_swa_is_the_mean_of_the_epochs_weights(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    noted = Noting(tmp_path)
    chosen = settings(average={"kind": "swa", "start": 3})
    trained = train(chosen, images, info, tmp_path, until=noted)
    for name, value in trained.module.state_dict().items():
        mean = (noted.weights[2][name] + noted.weights[3][name]) / 2
        torch.testing.assert_close(value.double(), mean, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_averaging_changes_nothing_of_the_training(
    kind: str, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    changing = replace(info, augmentation=Augmentation(flip=True, padding=1))
    net = {"network": NORMALISED}
    plain = train(settings(**net), images, changing)
    trained = train(settings(**net, average={"kind": kind}), images, changing, tmp_path)
    inside = read(tmp_path).part("module")
    assert all(torch.equal(v, inside[k]) for k, v in plain.module.state_dict().items())
    assert not torch.equal(weights(trained.module), weights(plain.module))
    assert [row["train_loss"] for row in trained.metrics] == [
        row["train_loss"] for row in plain.metrics
    ]


def test_the_average_has_statistics_of_its_own(images: ImageSet, info: DataSetInfo) -> None:
    # one batch of all images: running statistics are those of the batch, up to Bessel's factor
    options = {"epochs": 2, "batch": 96, "milestones": [], "learning_rate": 5e-2}
    chosen = settings(
        network=NORMALISED,
        optimiser=options,
        epsilon={"target": 0.1, "length": 0},
        average={"kind": "ema", "decay": 0.5},
    )
    module = train(chosen, images, info).module
    seen: dict[str, Tensor] = {}
    for name, layer in batch_norms(module).items():
        layer.register_forward_pre_hook(
            lambda _, x, name=name: seen.__setitem__(name, x[0].detach())
        )
    module.train()
    module(images.pixels())
    module.eval()
    first = next(iter(batch_norms(module)))
    fresh = {k: v.clone() for k, v in module.state_dict().items()}
    again = train(chosen, images, info).module.state_dict()
    mean = seen[first].mean((0, 2, 3))
    torch.testing.assert_close(again[f"{first}.running_mean"], mean, atol=1e-5, rtol=1e-4)
    assert not torch.equal(fresh[f"{first}.running_mean"], again[f"{first}.running_mean"])


def test_what_is_watched_kept_and_loaded_is_the_average(
    images: ImageSet, info: DataSetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def evaluate(module: nn.Module, held_out: ImageSet, epsilon: float, seed: int) -> Accuracies:
        seen.append(weights(module).clone())
        return Accuracies(0.5, 0.5, 0.5)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    chosen = settings(
        data={"name": "halves", "validation": 16},
        watch={"every": 1},
        keep={"every": 1},
        average={"kind": "ema", "decay": 0.9, "start": 3},
    )
    trained = train(chosen, images, info, tmp_path)
    for epoch in (1, 2, 3, 4):
        stored = restore(tmp_path, info, epoch=epoch)
        assert torch.equal(weights(stored.module), seen[epoch - 1])
    assert torch.equal(weights(trained.module), seen[3])
    inside = read(tmp_path).part("module")
    assert any(not torch.equal(v, inside[k]) for k, v in trained.module.state_dict().items())


@pytest.mark.parametrize(
    ("average", "told"),
    [
        ({"kind": "swa", "start": 5}, r"average\.start: expected at most .* 4, got 5"),
        ({"kind": "swa", "decay": 0.9}, r"average\.decay is a setting of ema, got it with swa"),
        ({"decay": 0.9}, r"average\.decay is a setting of ema, got it with no kind"),
        ({"start": 2}, r"average\.start needs average\.kind"),
        ({"kind": "ema", "decay": 1.0}, "less than 1"),
        ({"kind": "ema", "decay": 0.0}, "greater than 0"),
        ({"kind": "mean"}, "'ema' or 'swa'"),
    ],
)
def test_settings_that_do_not_fit(average: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(average=average)


def test_buffers_are_those_of_the_network() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.InstanceNorm1d(2, track_running_stats=True))
    average = WeightAverage(network, AverageSettings(kind="ema"), 1)
    network[1].running_mean.fill_(3.0)
    average.step_done(0)
    assert average.module[1].running_mean.tolist() == [3, 3]

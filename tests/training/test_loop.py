"""The training loop: it learns, it resumes to the same weights, it refuses what cannot be right."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from verify_pipeline.data import Augmentation, DataSetInfo, ImageSet, split_validation
from verify_pipeline.errors import TrainingError
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import LOSSES
from verify_pipeline.training import Silent, checkpoint, loop, train
from verify_pipeline.training.evaluate import Accuracies
from verify_pipeline.training.settings import TrainSettings

from .conftest import settings


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


class StopAfter(Silent):
    """Kills the training, as a power cut would, after some steps of an epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self._epoch, self._step, self._now = epoch, step, 0

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        self._now = epoch

    def step_done(self, step: int, loss: float) -> None:
        if self._now == self._epoch and step == self._step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_learns(loss: str, images: ImageSet, info: DataSetInfo) -> None:
    longer = {"epochs": 20, "batch": 16, "milestones": [15], "learning_rate": 5e-3}
    schedule = {"target": 0.1, "length": 12}
    trained = train(settings(loss, optimiser=longer, epsilon=schedule), images, info)
    assert len(trained.metrics) == 20
    assert trained.metrics[-1]["train_clean"] > 0.9
    assert trained.metrics[-1]["epsilon"] == pytest.approx(0.1)
    if LOSSES[loss].needs_bounds:
        assert trained.metrics[-1]["train_verified"] > 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": {"name": "cnn5", "width": 0.06}},
        {"network": {"name": "cnn5", "width": 0.06}, "batch_norm_policy": "ctbench"},
        {"data": {"name": "halves", "validation": 16}, "watch": {"every": 1}},
    ],
    ids=["plain", "batch-norm", "ctbench", "watched"],
)
def test_interrupted_training_ends_with_the_same_weights(
    changes: dict[str, Any], images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    chosen = settings(**changes)
    whole = train(chosen, images, info)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, images, info, tmp_path, observer=StopAfter(3, 2))
    with pytest.raises(KeyboardInterrupt):
        train(chosen, images, info, tmp_path, observer=StopAfter(4, 1))
    resumed = train(chosen, images, info, tmp_path)
    assert torch.equal(weights(whole.module), weights(resumed.module))
    assert [row["train_loss"] for row in whole.metrics] == [
        row["train_loss"] for row in resumed.metrics
    ]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert not list(tmp_path.glob("*.new"))


def test_a_training_that_ends_early_is_continued_by_the_same_call(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    whole = train(settings(), images, info)
    asked: list[int] = []

    def until(metrics: list[dict[str, Any]]) -> bool:
        asked.append(len(metrics))
        assert checkpoint.read(tmp_path).progress.epoch == len(metrics)
        return len(metrics) == 2

    first = train(settings(), images, info, tmp_path, until=until)
    assert [row["epoch"] for row in first.metrics] == [1, 2]
    assert not first.module.training
    rest = train(settings(), images, info, tmp_path, until=until)
    assert asked == [1, 2, 3, 4]
    assert torch.equal(weights(whole.module), weights(rest.module))


@pytest.mark.parametrize("policy", ["paper", "ctbench"])
def test_so_it_does_with_augmentation_and_several_parts(
    policy: str, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    changing = replace(info, augmentation=Augmentation(flip=True, padding=2))
    options = {"epochs": 4, "batch": 32, "milestones": [3], "accumulate": 2}
    net = {"name": "cnn5", "width": 0.06}
    chosen = settings(network=net, optimiser=options, batch_norm_policy=policy)
    whole = train(chosen, images, changing)
    for epoch in (2, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            train(chosen, images, changing, tmp_path, observer=StopAfter(epoch, 2))
    resumed = train(chosen, images, changing, tmp_path)
    assert torch.equal(weights(whole.module), weights(resumed.module))


def test_a_finished_training_is_loaded_not_repeated(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    first = train(settings(), images, info, tmp_path)
    again = train(settings(), images, info, tmp_path, observer=StopAfter(1, 1))
    assert torch.equal(weights(first.module), weights(again.module))


def test_same_seed_same_weights_and_other_seed_others(images: ImageSet, info: DataSetInfo) -> None:
    first = weights(train(settings(), images, info).module)
    torch.manual_seed(1234)
    torch.rand(17)
    assert torch.equal(first, weights(train(settings(), images, info).module))
    assert not torch.equal(first, weights(train(settings(seed=1), images, info).module))


def test_accumulated_gradients_are_those_of_the_whole_batch(
    images: ImageSet, info: DataSetInfo
) -> None:
    # IBP draws no random numbers and has no batch norm here: only rounding may differ
    options = {"epochs": 1, "batch": 32, "milestones": [], "learning_rate": 1e-3}
    schedule = {"target": 0.05, "length": 0}
    quiet = {"weight": 0.0}
    one = settings("ibp", optimiser=options, epsilon=schedule, regulariser=quiet)
    four = settings(
        "ibp", optimiser={**options, "accumulate": 4}, epsilon=schedule, regulariser=quiet
    )
    a, b = weights(train(one, images, info).module), weights(train(four, images, info).module)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_expressive_losses_are_the_ends_at_the_ends(images: ImageSet, info: DataSetInfo) -> None:
    def run(loss: str, alpha: float) -> torch.Tensor:
        chosen = settings(loss, alpha, regulariser={"weight": 0.0})
        return weights(train(chosen, images, info).module)

    adversarial = run("adversarial", 0.0)
    for loss in ("cc-ibp", "mtl-ibp", "exp-ibp"):
        torch.testing.assert_close(run(loss, 0.0), adversarial, atol=1e-3, rtol=1e-3)


def test_watching_reports_and_certifies(images: ImageSet, info: DataSetInfo) -> None:
    seen: list[int] = []

    def cascade(module: nn.Module, held_out: ImageSet) -> dict[str, float]:
        assert not module.training
        seen.append(len(held_out))
        return {"validation_certified": 0.5}

    chosen = settings(
        data={"name": "halves", "validation": 20},
        watch={"every": 2, "images": 10, "cascade_images": 5},
    )
    trained = train(chosen, images, info, cascade=cascade)
    assert seen == [5, 5]
    watched = [row for row in trained.metrics if "validation_ibp" in row]
    assert [row["epoch"] for row in watched] == [2, 4]
    last = watched[-1]
    assert 0 <= last["validation_ibp"] <= last["validation_adversarial"]
    assert last["validation_adversarial"] <= last["validation_standard"] <= 1
    assert last["validation_certified"] == 0.5


def test_watching_is_at_the_target_on_held_out_images(
    images: ImageSet, info: DataSetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[tuple[int, float, int, bool]] = []

    def evaluate(module: nn.Module, held_out: ImageSet, epsilon: float, seed: int) -> Accuracies:
        rows = {tuple(image.flatten().tolist()) for image in held_out.images}
        _, apart = split_validation(images, 20, 7)
        ours = {tuple(image.flatten().tolist()) for image in apart.images}
        looked_at.append((len(held_out), epsilon, seed, rows <= ours))
        return Accuracies(0.9, 0.8, 0.7)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    chosen = settings(
        seed=7,
        data={"name": "halves", "validation": 20},
        epsilon={"target": 0.1, "train_factor": 2.0, "attack_epsilon_factor": 3.0, "length": 2},
        watch={"every": 3, "images": 15},
    )
    rows = train(chosen, images, info).metrics
    assert looked_at == [(15, 0.1, 7, True)]
    assert rows[2]["validation_standard"] == 0.9
    assert rows[2]["validation_adversarial"] == 0.8
    assert rows[2]["validation_ibp"] == 0.7
    assert "validation_ibp" not in rows[3]


def test_watching_changes_nothing(images: ImageSet, info: DataSetInfo) -> None:
    held_out = {"name": "halves", "validation": 16}
    for loss in ("natural", "mtl-ibp"):
        plain = train(settings(loss, data=held_out), images, info)
        watched = train(settings(loss, data=held_out, watch={"every": 1}), images, info)
        assert torch.equal(weights(plain.module), weights(watched.module))


def test_warm_up_has_no_perturbation(images: ImageSet, info: DataSetInfo) -> None:
    chosen = settings(epsilon={"target": 0.1, "start": 3, "length": 1})
    epsilons = [row["epsilon"] for row in train(chosen, images, info).metrics]
    assert epsilons[:2] == [0, 0]
    assert epsilons[-1] == pytest.approx(0.1)


def test_a_diverged_training_stops(images: ImageSet, info: DataSetInfo, tmp_path: Path) -> None:
    options = {"epochs": 3, "batch": 32, "learning_rate": 1e30, "clip": 0.0, "milestones": []}
    with pytest.raises(TrainingError, match="finite numbers"):
        train(settings("ibp", optimiser=options), images, info, tmp_path)


class TestCheckpoint:
    def test_of_other_settings_is_refused(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        train(settings(), images, info, tmp_path)
        other = settings(alpha=0.25)
        with pytest.raises(TrainingError, match=r"loss\.alpha"):
            train(other, images, info, tmp_path)

    @pytest.mark.parametrize("kind", ["json", "safetensors"])
    def test_damaged_is_refused(
        self, kind: str, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        train(settings(), images, info, tmp_path)
        path = next(tmp_path.glob(f"*.{kind}"))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(TrainingError, match="whole checkpoint"):
            train(settings(), images, info, tmp_path)


class TestSettings:
    def test_watching_needs_held_out_images(self) -> None:
        with pytest.raises(ValueError, match="validation"):
            settings(watch={"every": 1})

    def test_out_of_range(self) -> None:
        with pytest.raises(ValueError, match="less than or equal to 1"):
            settings(epsilon={"target": "300/255"})

    def test_fractions_are_exact(self) -> None:
        chosen: TrainSettings = settings(epsilon={"target": "2/255", "length": 0})
        assert chosen.epsilon.target == 2 / 255


@pytest.mark.parametrize(
    ("name", "loss", "epochs"),
    [("mlp", "mtl-ibp", 5), ("resnet", "cc-ibp", 5), ("vit", "natural", 10)],
)
def test_other_architectures_learn(
    name: str, loss: str, epochs: int, images: ImageSet, info: DataSetInfo
) -> None:
    chosen = settings(
        loss,
        0.05,
        network={"name": name, "width": 0.25},
        epsilon={"target": 0.005, "length": 3},
        optimiser={
            "epochs": epochs,
            "batch": 16,
            "milestones": [epochs - 1],
            "learning_rate": 5e-3,
        },
    )
    trained = train(chosen, images, info)
    assert trained.metrics[-1]["train_clean"] > 0.9


def test_a_transformer_takes_certified_steps(images: ImageSet, info: DataSetInfo) -> None:
    # bounds of attention are wide at first: what counts is that loss and weights stay finite
    chosen = settings(
        "mtl-ibp",
        0.01,
        network={"name": "vit", "width": 0.125},
        epsilon={"target": 0.1, "length": 1},
        optimiser={"epochs": 2, "batch": 32, "milestones": []},
    )
    trained = train(chosen, images, info)
    assert bool(torch.isfinite(weights(trained.module)).all())
    assert trained.metrics[-1]["epsilon"] == 0.1


def test_parts_of_a_batch_have_two_images_at_least(images: ImageSet, info: DataSetInfo) -> None:
    # a last batch of 2 images in 3 parts: batch norm has no variance of a single image
    options = {"epochs": 2, "batch": 47, "milestones": [], "accumulate": 3}
    schedule = {"target": 0.1, "length": 1}
    net = {"name": "cnn5", "width": 0.06}
    chosen = settings(network=net, optimiser=options, epsilon=schedule)
    trained = train(chosen, images, info)
    assert bool(torch.isfinite(weights(trained.module)).all())


def test_a_checkpoint_of_other_images_is_refused(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    train(settings(), images, info, tmp_path)
    others = ImageSet(images.name, images.split, 255 - images.images, images.labels, images.classes)
    with pytest.raises(TrainingError, match="others in images"):
        train(settings(), others, info, tmp_path)


def test_a_training_on_each_device_learns_the_same(
    device: torch.device, images: ImageSet, info: DataSetInfo
) -> None:
    # IBP draws no random numbers: only rounding differs
    here = train(settings("ibp"), images, info).metrics
    there = train(settings("ibp"), images, info, device=device).metrics
    for row, other in zip(here, there, strict=True):
        assert other["train_loss"] == pytest.approx(row["train_loss"], rel=0.05)
    assert there[-1]["train_loss"] < there[0]["train_loss"]


def test_validation_uses_sound_bounds_whatever_training_shrinks(
    images: ImageSet, info: DataSetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    class Noted(AutoLirpaBounder):
        def __init__(self, *given: Any, relu_shrinkage: float = 1.0) -> None:
            shares.append(relu_shrinkage)
            super().__init__(*given, relu_shrinkage=relu_shrinkage)

    for place in ("updates", "evaluate"):
        monkeypatch.setattr(f"verify_pipeline.training.{place}.AutoLirpaBounder", Noted)
    shrunk = settings(
        loss={"name": "ibp", "relu_shrinkage": 0.5},
        data={"name": "halves", "validation": 16},
        watch={"every": 4},
    )
    train(shrunk, images, info)
    assert shares == [0.5, 1.0]

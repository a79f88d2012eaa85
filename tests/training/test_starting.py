"""Trainings that start from another one: weights, optimiser, or the whole training."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import TrainingError, VerifyPipelineError
from verify_pipeline.training import checkpoint, restore, train
from verify_pipeline.training.identity import Ancestor
from verify_pipeline.training.settings import TrainSettings

from .conftest import settings
from .test_loop import StopAfter, weights

STEPS: dict[str, Any] = {"epochs": 4, "batch": 32, "milestones": [], "learning_rate": 5e-3}


def first(**changes: Any) -> TrainSettings:
    return settings(**{"optimiser": STEPS, "keep": {"every": 1}, **changes})


@pytest.fixture(scope="module")
def parent(images: ImageSet, info: DataSetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training of 4 epochs, with the checkpoint of each."""
    folder = tmp_path_factory.mktemp("parent")
    train(first(), images, info, folder)
    return folder


def child(parent: Path, take: str = "weights", epoch: int | None = None, **changes: Any) -> Any:
    start = {"weights": str(parent), "take": take, "epoch": epoch}
    return first(**{"start": start, **changes})


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept(folder: Path, epoch: int) -> Path:
    return folder / f"kept-epoch-{epoch:04d}.safetensors"


def test_the_whole_training_goes_on_as_the_parent_did(
    parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    whole = restore(parent, info)
    for epoch in (1, 2, 3):
        found = train(child(parent, "training", epoch), images, info)
        assert torch.equal(weights(found.module), weights(whole.module))
        assert [row["train_loss"] for row in found.metrics] == [
            row["train_loss"] for row in whole.metrics
        ]
        assert found.lineage == (Ancestor(sha(kept(parent, epoch)), epoch, "training"),)


def test_a_finished_training_is_extended(parent: Path, images: ImageSet, info: DataSetInfo) -> None:
    longer = {**STEPS, "epochs": 6}
    whole = train(first(optimiser=longer), images, info)
    found = train(child(parent, "training", optimiser=longer), images, info)
    assert torch.equal(weights(found.module), weights(whole.module))
    assert [row["epoch"] for row in found.metrics] == [1, 2, 3, 4, 5, 6]


def test_the_rate_is_another_from_an_epoch_on(
    parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    slower = {**STEPS, "learning_rate": 1e-3}
    chosen = child(parent, "training", 2, optimiser=slower)
    found = train(chosen, images, info, tmp_path)
    assert [row["rate"] for row in found.metrics] == [5e-3, 5e-3, 1e-3, 1e-3]
    assert not torch.equal(weights(found.module), weights(restore(parent, info).module))
    state = json.loads((tmp_path / checkpoint.STATE).read_text())
    assert state["lineage"] == [{"sha256": sha(kept(parent, 2)), "epoch": 2, "take": "training"}]
    grandchild = child(tmp_path, "weights")
    lineage = train(grandchild, images, info).lineage
    assert [each.epoch for each in lineage] == [4, 2]


def test_weights_alone(parent: Path, images: ImageSet, info: DataSetInfo) -> None:
    # a rate that moves nothing: float32's weights are above 1e-30
    still = {**STEPS, "epochs": 1, "name": "sgd", "learning_rate": 1e-30}
    schedule = {"target": 0.1, "length": 0}
    found = train(child(parent, optimiser=still, epsilon=schedule), images, info)
    assert torch.equal(weights(found.module), weights(restore(parent, info).module))
    second = train(child(parent, epoch=2, optimiser=still, epsilon=schedule), images, info)
    stored = restore(parent, info, epoch=2)
    assert torch.equal(weights(second.module), weights(stored.module))
    assert not torch.equal(weights(second.module), weights(found.module))


def test_the_optimiser_makes_a_difference(
    parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    with_moments = train(child(parent, "optimiser"), images, info, tmp_path)
    alone = train(child(parent), images, info)
    assert len(with_moments.metrics) == 4
    assert not torch.equal(weights(with_moments.module), weights(alone.module))
    steps = checkpoint.read(tmp_path).part("optimiser")["0.step"]
    assert float(steps) == 24  # 12 of the parent's, 12 of its own


@pytest.mark.parametrize("take", ["weights", "optimiser", "training"])
def test_a_child_is_continued_as_any_training(
    take: str, parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(parent, moved)
    chosen = child(moved, take, optimiser={**STEPS, "epochs": 6})
    whole = train(chosen, images, info)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(chosen, images, info, out, observer=StopAfter(6, 1))
    elsewhere = child(parent, take, optimiser={**STEPS, "epochs": 6})
    with pytest.raises(KeyboardInterrupt):  # another path of the same content
        train(elsewhere, images, info, out, observer=StopAfter(6, 2))
    shutil.rmtree(moved)  # what it needs of the parent is in its own checkpoint
    resumed = train(chosen, images, info, out)
    assert torch.equal(weights(whole.module), weights(resumed.module))
    assert resumed.lineage == whole.lineage


def test_another_content_is_another_training(
    parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train(child(parent, epoch=1), images, info, out)
    for other in (child(kept(parent, 2)), first(), child(parent, epoch=2)):
        with pytest.raises(TrainingError, match=r"others in .*start\."):
            train(other, images, info, out)
    state = json.loads((out / checkpoint.STATE).read_text())
    state["lineage"][0]["sha256"] = "0" * 64
    (out / checkpoint.STATE).write_text(json.dumps(state))
    with pytest.raises(TrainingError, match=r"others in start\.weights"):
        train(child(parent, epoch=1), images, info, out)


def test_files_are_parents_too(
    parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    current = next(parent.glob("epoch-*.safetensors"))
    plain = tmp_path / "plain.safetensors"
    save_file(checkpoint.read(parent).weights, plain)
    of_folder = train(child(parent), images, info)
    for path, epoch in ((current, 4), (kept(parent, 4), 4), (plain, None)):
        found = train(child(path), images, info)
        assert torch.equal(weights(found.module), weights(of_folder.module))
        assert found.lineage == (Ancestor(sha(path), epoch, "weights"),)


class TestRefusals:
    """One clear error each, and nothing in the folder."""

    def refused(
        self, chosen: TrainSettings, told: str, images: ImageSet, info: DataSetInfo, out: Path
    ) -> None:
        with pytest.raises(VerifyPipelineError, match=told):
            train(chosen, images, info, out)
        assert not out.exists()

    def test_another_network(
        self, parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        for net, told in (
            ({"name": "conv-small", "width": 0.5}, r"of 4 x 1 x .* instead of 8 x 1 x "),
            ({"name": "mlp", "width": 0.1}, r"expected the tensors of mlp; got "),
        ):
            self.refused(child(parent, network=net), told, images, info, out)

    def test_paths_and_epochs(
        self, parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        out, empty = tmp_path / "out", tmp_path / "empty"
        empty.mkdir()
        text = tmp_path / "text.safetensors"
        text.write_text("no tensors")
        for chosen, told in (
            (child(tmp_path / "gone"), r"start\.weights .*gone; .*got no such file"),
            (child(empty), r"a folder with a training's checkpoint; got none"),
            (child(text), r"text\.safetensors; expected a whole checkpoint"),
            (child(parent, epoch=9), r"an epoch whose checkpoint is kept there: 1, 2, 3, 4; got 9"),
            (child(kept(parent, 2), epoch=2), r"start\.epoch; expected none beside a file"),
        ):
            self.refused(chosen, told, images, info, out)

    def test_nan(self, parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path) -> None:
        tensors = dict(checkpoint.read(parent).weights)
        name = next(key for key, value in tensors.items() if value.dim() == 4)
        tensors[name] = tensors[name] * float("nan")
        path = tmp_path / "nan.safetensors"
        save_file(tensors, path)
        told = rf"expected finite numbers; got NaN or infinity in {name}"
        self.refused(child(path), told, images, info, tmp_path / "out")

    def test_an_unfinished_parent(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        begun = tmp_path / "begun"
        with pytest.raises(KeyboardInterrupt):
            train(first(), images, info, begun, observer=StopAfter(3, 1))
        told = r"expected a finished training, of 4 epochs; got 2 epochs.*train\.start\.epoch"
        self.refused(child(begun), told, images, info, tmp_path / "out")
        assert train(child(begun, "training", 2), images, info).lineage[0].epoch == 2

    def test_what_weights_alone_do_not_have(
        self, parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        plain = tmp_path / "plain.safetensors"
        save_file(checkpoint.read(parent).weights, plain)
        told = r"start\.take: optimiser; expected the checkpoint of a training.*weights only"
        self.refused(child(plain, "optimiser"), told, images, info, tmp_path / "out")

    def test_what_does_not_go_on(
        self, parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        other = images.subset(slice(0, 90))
        average = {"kind": "ema", "start": 2}
        for chosen, told in (
            (
                child(parent, "training"),
                r"optimiser\.epochs .*more than the parent's 4 epochs; got 4",
            ),
            (
                child(parent, "optimiser", optimiser={**STEPS, "name": "radam"}),
                r"expected the parent's, adam; got radam",
            ),
            (child(parent, "training", 3, average=average), r"from epoch 4 on.*; got 2"),
            (
                child(parent, "training", 2, average=average),
                r"from epoch 3 on, as the parent has none; got 2",
            ),
        ):
            self.refused(chosen, told, images, info, out)
        told = r"start\.take .*expected the training images of the parent; got others"
        self.refused(child(parent, "training", 2), told, other, info, out)

    def test_held_out_images_that_the_parent_has_learned(
        self, parent: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        held_out = {"data": {"name": "halves", "validation": 16}, "watch": {"every": 1}}
        told = r"so that it has not learned held-out images; got 16 and seed 0"
        self.refused(child(parent, **held_out), told, images, info, tmp_path / "out")
        apart = tmp_path / "apart"
        train(first(**held_out), images, info, apart)
        assert train(child(apart, **held_out), images, info).lineage
        told = "got 16 and seed 1"
        self.refused(child(apart, **held_out, seed=1), told, images, info, tmp_path / "out")

    def test_sets_are_the_same_if_they_are_called_alike(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        def of_files(**more: Any) -> dict[str, Any]:
            return {"data": {"folder": str(tmp_path / "x"), "validation": 16, **more}}

        watched = {"watch": {"every": 1}}
        apart = tmp_path / "apart"
        train(first(**of_files(validation=0)), images, info, apart)
        told = "so that it has not learned held-out images"
        for more in ({}, {"name": info.name}):
            chosen = child(apart, **of_files(**more), **watched)
            self.refused(chosen, told, images, info, tmp_path / "out")
        other = replace(info, name="other")
        assert train(child(apart, **of_files(), **watched), images, other).lineage

    def test_a_best_epoch_that_is_never_measured(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        held_out = {"data": {"name": "halves", "validation": 16}, "watch": {"every": 2}}
        apart = tmp_path / "apart"
        train(first(**held_out), images, info, apart)
        best = {"keep": {"best": "validation_ibp", "network": "best"}, **held_out}
        for epochs in (5, 6):
            chosen = child(apart, "training", **best, optimiser={**STEPS, "epochs": epochs})
            if epochs == 5:
                told = r"watch\.every .*an epoch after the parent's 4 that is measured; got 2 and 5"
                self.refused(chosen, told, images, info, tmp_path / "out")
            else:
                assert train(chosen, images, info, tmp_path / "out").epoch == 6

    @pytest.mark.parametrize("start", [{"epoch": 2}, {"take": "training"}])
    def test_settings_without_weights(self, start: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"start\.epoch and start\.take need start\.weights"):
            settings(start=start)
        with pytest.raises(ValueError, match=r"greater than or equal to 1"):
            settings(start={"weights": "x", "epoch": 0})

"""What a checkpoint keeps of the images it was made of, and which images go on with it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import settings
from verify_pipeline import api
from verify_pipeline.data import Augmentation, DataSetInfo, ImageSet, OwnDataSettings
from verify_pipeline.errors import ConfigError, DataError, TrainingError
from verify_pipeline.pipeline import export_folder
from verify_pipeline.training import checkpoint, restore, restore_so_far, train
from verify_pipeline.training.checkpoint import STATE

FULL = DataSetInfo(
    "halves", (1, 8, 8), 2, (0.4,), (0.3,), Augmentation(True, 1, "edge"), ("left", "right")
)


def edited(folder: Path, **changes: Any) -> None:
    """The checkpoint's JSON with other values; None takes a key out."""
    path = folder / STATE
    state = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in state.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def state_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / STATE).read_text(encoding="utf-8")))


def test_a_checkpoint_keeps_what_is_known_of_the_images(images: ImageSet, tmp_path: Path) -> None:
    trained = train(settings(), images, FULL, tmp_path)
    found = restore(tmp_path)
    assert found.info == trained.info == FULL
    points = images.pixels(slice(0, 4))
    assert torch.equal(found.module(points), trained.module(points))


def test_a_checkpoint_of_an_older_version_is_as_it_was(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    trained = train(settings(), images, info, tmp_path)
    edited(tmp_path, info=None)
    with pytest.raises(ConfigError, match="data set; expected one of digits"):
        restore(tmp_path)
    assert restore(tmp_path, info).info == info
    again = train(settings(), images, info, tmp_path)
    assert again.metrics == trained.metrics


@pytest.mark.parametrize("damage", [{"shape": [1, 8]}, {"classes": "many"}, [3]])
def test_damaged_information_is_a_damaged_checkpoint(
    damage: Any, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    train(settings(), images, info, tmp_path)
    known = state_of(tmp_path)["info"]
    edited(tmp_path, info={**known, **damage} if isinstance(damage, dict) else damage)
    with pytest.raises(TrainingError, match="expected a whole checkpoint"):
        restore_so_far(tmp_path)


def own(images: ImageSet, **changes: Any) -> tuple[OwnDataSettings, ImageSet]:
    data = OwnDataSettings(**{"folder": "a", "name": "halves", **changes})
    return data, replace(images, name=data.full_name)


def test_a_training_goes_on_with_the_same_images_elsewhere(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    """From the middle: its end is that of a training that was not interrupted."""
    data, named = own(images)
    whole = train(settings(data=data), named, info)
    train(settings(data=data), named, info, tmp_path, until=lambda metrics: len(metrics) == 2)
    more = replace(named, classes=3)
    with pytest.raises(TrainingError, match="others in the number of classes"):
        train(settings(data=data), more, replace(info, classes=3), tmp_path)
    moved, renamed = own(images, folder="b/c", name=None, class_names=("left", "right"))
    ended = train(settings(data=moved), renamed, replace(info, name="c"), tmp_path)
    assert len(ended.metrics) == 4
    points = images.pixels(slice(0, 4))
    assert torch.equal(ended.module(points), whole.module(points))
    assert state_of(tmp_path)["settings"]["data"]["folder"] == moved.folder


@pytest.mark.parametrize(
    ("change", "told"),
    [({"mean": (0.5,)}, "data.mean"), ({"augment": False}, "data.augment"), ({}, "images")],
)
def test_other_images_or_settings_do_not_go_on(
    change: dict[str, Any], told: str, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    data, named = own(images)
    train(settings(data=data), named, info, tmp_path)
    other, renamed = own(images if change else images.subset(slice(1, None)), **change)
    with pytest.raises(TrainingError, match=f"others in {told}"):
        train(settings(data=other), renamed, info, tmp_path)


def test_known_sets_are_compared_by_name(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    train(settings(), images, info, tmp_path)
    found = checkpoint.read(tmp_path)
    assert found is not None
    other = checkpoint.Identity(
        {**found.settings, "data": {**found.settings["data"], "name": "mnist"}},
        found.state["images"],
        {"classes": 2},
    )
    with pytest.raises(TrainingError, match=r"others in data\.name"):
        checkpoint.fitting(tmp_path, other)


def test_the_api_trains_on_images_alone(images: ImageSet, tmp_path: Path) -> None:
    named = replace(images, class_names=("left", "right"))
    trained = api.train(settings(), tmp_path, images=named)
    assert trained.info == DataSetInfo.of(named)
    assert api.load_trained(tmp_path).info.class_names == ("left", "right")
    report = api.export_onnx(trained, tmp_path / "net.onnx")
    assert export_folder(tmp_path, tmp_path / "again.onnx").max_difference < 1e-4
    assert (tmp_path / "again.onnx").is_file()
    assert report.path.is_file()
    one = ImageSet("x", "train", images.images, torch.zeros_like(images.labels), 1)
    with pytest.raises(DataError, match="expected at least 2 classes; got 1"):
        api.train(settings(), images=one)

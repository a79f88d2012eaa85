"""Interrupted at any epoch, every combination ends as an uninterrupted training does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from verify_pipeline.data import Augmentation, DataSetInfo, ImageSet
from verify_pipeline.training import Trained, restore, train
from verify_pipeline.training.checkpoint import STATE

from .conftest import settings
from .test_loop import StopAfter, weights

NORMALISED = {"name": "cnn5", "width": 0.06}
HELD_OUT: dict[str, Any] = {"data": {"name": "halves", "validation": 16}, "watch": {"every": 1}}
BEST: dict[str, Any] = {**HELD_OUT, "keep": {"best": "validation_ibp", "network": "best"}}


def stepping(**changes: Any) -> dict[str, Any]:
    base = {"epochs": 4, "batch": 32, "milestones": [], "learning_rate": 5e-3}
    return {"optimiser": {**base, **changes}}


COMBINATIONS: dict[str, dict[str, Any]] = {
    "sgd": stepping(name="sgd"),
    "momentum": stepping(name="sgd", momentum=0.9),
    "nesterov": stepping(name="sgd", momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adamw": stepping(name="adamw", weight_decay=1e-2),
    "radam": stepping(name="radam", weight_decay=1e-3),
    "cosine": stepping(schedule="cosine", warm_up=1, end_factor=0.1),
    "one-cycle": stepping(name="sgd", momentum=0.5, schedule="one-cycle", warm_up=1),
    "linear": {"epsilon": {"target": 0.1, "length": 3, "shape": "linear"}},
    "step": {"epsilon": {"target": 0.1, "length": 2, "shape": "step", "stair": 2}},
    "ema": {"average": {"kind": "ema", "decay": 0.8, "start": 2}},
    "swa": {"average": {"kind": "swa", "start": 2}},
    "ema with batch norm": {"network": NORMALISED, "average": {"kind": "ema", "decay": 0.8}},
    "swa with batch norm": {
        "network": NORMALISED,
        "average": {"kind": "swa", "start": 3},
        "batch_norm_policy": "ctbench",
        **HELD_OUT,
    },
    "whole batch": {
        "network": NORMALISED,
        **stepping(accumulate=2, accumulate_statistics="batch"),
    },
    "whole batch, ctbench": {
        "network": NORMALISED,
        "batch_norm_policy": "ctbench",
        **stepping(accumulate=3, accumulate_statistics="batch", name="sgd", momentum=0.9),
    },
    "bfloat16": {"network": NORMALISED, "attack": {"precision": "bfloat16", "steps": 2}},
    "best": {**BEST, "epsilon": {"target": 0.1, "length": 1}},
    "best average": {**BEST, "average": {"kind": "ema", "decay": 0.5, "start": 3}},
}
CHANGING = Augmentation(flip=True, padding=1)


def continued(chosen: Any, images: ImageSet, info: DataSetInfo, folder: Path) -> Trained:
    """Trained in ``folder`` with an interruption in every epoch."""
    for epoch in (1, 2, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            train(chosen, images, info, folder, observer=StopAfter(epoch, 2))
    return train(chosen, images, info, folder)


def told(trained: Trained) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trained.metrics]


@pytest.mark.parametrize("name", COMBINATIONS)
def test_interrupted_at_each_epoch_it_ends_the_same(
    name: str, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    chosen, changing = settings(**COMBINATIONS[name]), replace(info, augmentation=CHANGING)
    whole = train(chosen, images, changing)
    resumed = continued(chosen, images, changing, tmp_path)
    assert torch.equal(weights(whole.module), weights(resumed.module))
    assert told(whole) == told(resumed)
    loaded, again = restore(tmp_path, changing), train(chosen, images, changing, tmp_path)
    assert torch.equal(weights(whole.module), weights(loaded.module))
    assert torch.equal(weights(whole.module), weights(again.module))
    assert whole.epoch == resumed.epoch == loaded.epoch == again.epoch


@pytest.mark.parametrize("name", ["sgd", "cosine", "step", "ema", "whole batch", "bfloat16"])
def test_each_of_them_is_another_training(name: str, images: ImageSet, info: DataSetInfo) -> None:
    changes = COMBINATIONS[name]
    without = {key: changes[key] for key in ("network",) if key in changes}
    steps = {} if name in ("step", "ema", "bfloat16") else stepping()
    if name == "whole batch":
        steps = stepping(accumulate=2)
    plain = train(settings(**without, **steps), images, info)
    changed = train(settings(**changes), images, info)
    assert not torch.equal(weights(plain.module), weights(changed.module))


OLD_SETTINGS = {
    "data": {"name": "halves", "class_order": None, "validation": 0, "augment": True},
    "network": {"name": "conv-small", "width": 0.25, "batch_norm": None},
    "loss": {
        "name": "cc-ibp",
        "alpha": 0.5,
        "alpha_ramp": {"shape": "constant", "start_value": 0.0, "start": 1, "length": 0},
        "sabr_lambda": 0.4,
    },
    "epsilon": {
        "target": 0.1,
        "train_factor": 1.0,
        "attack_epsilon_factor": 1.0,
        "start": 1,
        "length": 2,
    },
    "attack": {"steps": 1, "step_size": 10.0, "restarts": 1},
    "optimiser": {
        "epochs": 4,
        "batch": 32,
        "learning_rate": 0.005,
        "milestones": [3],
        "decay": 0.2,
        "clip": 10.0,
        "accumulate": 1,
        "l1": 0.0,
    },
    "regulariser": {"weight": 0.5, "tolerance": 0.5, "ibp_init": True},
    "watch": {"every": 0, "images": 1000, "cascade_images": 0},
    "batch_norm_policy": "paper",
    "seed": 0,
}
"""As checkpoints had them before there were optimisers to choose, averages, parents, …"""


def as_old(folder: Path) -> None:
    """Rewrite a checkpoint's JSON as the older version wrote it."""
    state = json.loads((folder / STATE).read_text())
    old = {key: state[key] for key in ("tensors", "epoch", "metrics", "optimiser", "images")}
    (folder / STATE).write_text(json.dumps({**old, "settings": OLD_SETTINGS}, indent=1))


def test_an_older_checkpoint_is_continued(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    whole = train(settings(), images, info)
    with pytest.raises(KeyboardInterrupt):
        train(settings(), images, info, tmp_path, observer=StopAfter(3, 1))
    as_old(tmp_path)
    resumed = train(settings(), images, info, tmp_path)
    assert [row["epoch"] for row in resumed.metrics] == [1, 2, 3, 4]
    assert torch.equal(weights(whole.module), weights(resumed.module))


def test_an_older_checkpoint_of_other_settings_is_refused(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    train(settings(), images, info, tmp_path)
    as_old(tmp_path)
    other = settings(optimiser={**OLD_SETTINGS["optimiser"], "name": "radam"})
    with pytest.raises(Exception, match=r"others in optimiser\.name\."):
        train(other, images, info, tmp_path)
    assert restore(tmp_path, info).epoch == 4

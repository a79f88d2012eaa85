"""Checkpoints that stay, the best epoch, and early stopping."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError, TrainingError
from verify_pipeline.reporting.json_lines import JsonLines
from verify_pipeline.status import status_of
from verify_pipeline.training import loop, restore, train
from verify_pipeline.training.checkpoint import read_progress
from verify_pipeline.training.evaluate import Accuracies
from verify_pipeline.training.loop_settings import StopSettings
from verify_pipeline.training.selection import best_epoch, has_stopped

from .conftest import settings
from .test_loop import StopAfter, weights

METRIC = "validation_ibp"


def rows(*values: float | None) -> list[dict[str, Any]]:
    """Metrics of epochs from 1 on; None: not measured."""
    return [
        {"epoch": epoch, **({} if value is None else {METRIC: value})}
        for epoch, value in enumerate(values, 1)
    ]


class TestSelectionByHand:
    def test_the_best_is_the_first_of_the_greatest(self) -> None:
        measured = rows(0.9, 0.3, None, 0.5, 0.5, 0.4)
        assert best_epoch(measured, METRIC, 1) == 1
        assert best_epoch(measured, METRIC, 2) == 4
        assert best_epoch(measured, METRIC, 7) is None
        assert best_epoch(measured, None, 1) is None
        assert best_epoch(measured, "validation_standard", 1) is None

    def test_patience_counts_epochs(self) -> None:
        stop = StopSettings(metric=METRIC, patience=2)
        values = [0.1, 0.5, 0.4, 0.5, 0.6]
        stopped = [has_stopped(rows(*values[:end]), stop, 1) for end in range(1, 6)]
        assert stopped == [False, False, False, True, False]

    def test_it_stops_where_something_was_measured(self) -> None:
        stop = StopSettings(metric=METRIC, patience=1)
        assert not has_stopped(rows(0.5, None), stop, 1)
        assert has_stopped(rows(0.5, None, 0.4), stop, 1)
        assert not has_stopped(rows(None, None), stop, 1)

    def test_it_has_a_minimum_and_waits_for_the_full_epsilon(self) -> None:
        falling = rows(0.5, 0.4, 0.3, 0.2)
        assert has_stopped(falling, StopSettings(metric=METRIC, patience=1), 1)
        assert has_stopped(falling, StopSettings(metric=METRIC, patience=1, minimum=4), 1)
        assert not has_stopped(falling, StopSettings(metric=METRIC, patience=1, minimum=5), 1)
        assert not has_stopped(falling, StopSettings(metric=METRIC, patience=1), 4)


MEASURED = (0.1, 0.9, 0.2, 0.7, 0.3, 0.6)
"""Of six epochs; with ε full from epoch 3 on, the fourth is the best."""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Accuracies as above, whatever is measured, and the weights that were looked at."""
    seen: list[torch.Tensor] = []

    def evaluate(module: nn.Module, images: ImageSet, epsilon: float, seed: int) -> Accuracies:
        seen.append(weights(module).clone())
        return Accuracies(0.5, 0.5, MEASURED[(len(seen) - 1) % len(MEASURED)])

    monkeypatch.setattr(loop, "evaluate", evaluate)
    return seen


def watched(**changes: Any) -> Any:
    base: dict[str, Any] = {
        "data": {"name": "halves", "validation": 16},
        "watch": {"every": 1},
        "optimiser": {"epochs": 6, "batch": 32, "milestones": [], "learning_rate": 5e-3},
    }
    return settings(**{**base, **changes})


BEST = {"best": METRIC, "network": "best"}


def test_the_best_epoch_is_the_runs_network(
    measured: list[torch.Tensor], images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    trained = train(watched(keep=BEST), images, info, tmp_path)
    in_memory = train(watched(keep=BEST), images, info)
    assert [row.get("best_epoch") for row in trained.metrics] == [None, None, 3, 4, 4, 4]
    for found in (
        trained,
        in_memory,
        restore(tmp_path, info),
        restore(tmp_path, info, epoch="best"),
    ):
        assert found.epoch == 4
        assert torch.equal(weights(found.module), measured[3])
    assert restore(tmp_path, info, epoch="last").epoch == 6
    assert torch.equal(weights(restore(tmp_path, info, epoch="last").module), measured[5])
    assert torch.equal(weights(restore(tmp_path, info, epoch=4).module), measured[3])
    kept = [path.name for path in sorted(tmp_path.glob("*.safetensors"))]
    assert kept == ["best-epoch-0004.safetensors", "epoch-0006-checkpoint.safetensors"]


def test_the_last_one_is_it_otherwise(
    measured: list[torch.Tensor], images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    trained = train(watched(keep={"best": METRIC}), images, info, tmp_path)
    assert trained.epoch == restore(tmp_path, info).epoch == 6
    assert torch.equal(weights(restore(tmp_path, info).module), measured[5])
    assert restore(tmp_path, info, epoch="best").epoch == 4


@pytest.mark.parametrize("epoch", [4, 5, 6])
def test_so_it_is_after_an_interruption(
    epoch: int, images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    chosen = watched(keep=BEST)
    whole = train(chosen, images, info)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, images, info, tmp_path, observer=StopAfter(epoch, 1))
    resumed = train(chosen, images, info, tmp_path)
    assert resumed.epoch == whole.epoch
    assert torch.equal(weights(resumed.module), weights(whole.module))


def test_every_second_checkpoint_stays(images: ImageSet, info: DataSetInfo, tmp_path: Path) -> None:
    seen: dict[int, torch.Tensor] = {}

    def until(metrics: list[dict[str, Any]]) -> bool:
        seen[len(metrics)] = weights(restore(tmp_path, info, epoch=len(metrics)).module)
        return False

    train(settings(keep={"every": 2}), images, info, tmp_path, until=until)
    kept = [path.name for path in sorted(tmp_path.glob("kept-*"))]
    assert kept == ["kept-epoch-0002.safetensors", "kept-epoch-0004.safetensors"]
    second = restore(tmp_path, info, epoch=2)
    assert (second.epoch, len(second.metrics)) == (2, 2)
    assert torch.equal(weights(second.module), seen[2])
    with pytest.raises(TrainingError, match=r"epoch 3 .*kept there: 2, 4; got 3"):
        restore(tmp_path, info, epoch=3)
    with pytest.raises(TrainingError, match=r"best epoch .*got none\. keep\.best names"):
        restore(tmp_path, info, epoch="best")


def test_a_kept_epoch_of_an_unfinished_training_can_be_loaded(
    images: ImageSet, info: DataSetInfo, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(settings(keep={"every": 1}), images, info, tmp_path, observer=StopAfter(3, 1))
    assert restore(tmp_path, info, epoch=1).epoch == 1
    for epoch in (None, "last", "best"):
        with pytest.raises(TrainingError, match="expected 4 epochs; got 2"):
            restore(tmp_path, info, epoch=epoch)


def test_a_damaged_file_is_told(images: ImageSet, info: DataSetInfo, tmp_path: Path) -> None:
    train(settings(keep={"every": 2}), images, info, tmp_path)
    path = tmp_path / "kept-epoch-0002.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"kept-epoch-0002.*a whole checkpoint"):
        restore(tmp_path, info, epoch=2)


class TestStopping:
    def test_it_ends_and_counts_as_finished(
        self,
        measured: list[torch.Tensor],
        images: ImageSet,
        info: DataSetInfo,
        tmp_path: Path,
    ) -> None:
        # the best is epoch 4 of 6; with a patience of 1 it ends with epoch 5
        chosen = watched(stop={"metric": METRIC, "patience": 1})
        trained = train(chosen, images, info, tmp_path)
        assert [row["epoch"] for row in trained.metrics] == [1, 2, 3, 4, 5]
        assert [row.get("stopped") for row in trained.metrics] == [None] * 4 + [True]
        progress, epochs = read_progress(tmp_path)
        assert (progress.stopped, epochs, progress.finished(epochs)) == (True, 6, True)
        assert restore(tmp_path, info).epoch == 5
        again = train(chosen, images, info, tmp_path, observer=StopAfter(6, 1))
        assert len(again.metrics) == 5
        assert status_of(tmp_path).training.state == "finished"

    def test_without_it_all_epochs_are_trained(
        self, measured: list[torch.Tensor], images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        assert len(train(watched(), images, info, tmp_path).metrics) == 6
        assert not read_progress(tmp_path)[0].stopped

    def test_interrupted_it_ends_where_it_would(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        chosen = watched(
            stop={"metric": "validation_standard", "patience": 1}, keep={**BEST, "every": 1}
        )
        whole = train(chosen, images, info)
        last = len(whole.metrics)
        assert last < 6  # or nothing is tested here
        for epoch in (last - 1, last):
            with pytest.raises(KeyboardInterrupt):
                train(chosen, images, info, tmp_path, observer=StopAfter(epoch, 2))
        resumed = train(chosen, images, info, tmp_path)
        assert len(resumed.metrics) == last
        assert torch.equal(weights(resumed.module), weights(whole.module))
        assert resumed.epoch == whole.epoch


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"keep": {"best": METRIC}}, r"keep\.best .* data\.validation > 0 and watch\.every > 0"),
        ({"stop": {"metric": METRIC}}, r"stop\.metric is measured on held-out images.*got 0 and 0"),
        ({"keep": {"network": "best"}}, r"keep\.network: best needs a metric in keep\.best"),
        ({"keep": {"best": "loss"}}, r"'validation_standard', "),
        ({"stop": {"patience": 3}}, r"stop\.patience and stop\.minimum need a metric"),
        ({"stop": {"metric": METRIC, "patience": 0}}, r"greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stop": {"metric": METRIC, "minimum": 6}}, r"stop\.minimum: expected below .* 6, got 6"),
        ({"keep": {"best": "cascade_verified"}}, r"needs watch\.cascade_images > 0, got 0"),
        (
            {
                "keep": {"best": METRIC},
                "watch": {"every": 4},
                "epsilon": {"target": 0.1, "length": 5},
            },
            r"from epoch 6 on: expected watch\.every that measures such an epoch of 6, got 4",
        ),
    ],
)
def test_watching_that_does_not_fit(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        watched(**changes)


def test_a_metric_of_the_cascade_needs_one(images: ImageSet, info: DataSetInfo) -> None:
    chosen = watched(keep={"best": "cascade_verified"}, watch={"every": 1, "cascade_images": 4})
    with pytest.raises(ConfigError, match=r"keep\.best: cascade_verified; expected a recipe"):
        train(chosen, images, info)
    values = iter([0.1, 0.9, 0.2, 0.4, 0.3, 0.3])

    def cascade(module: nn.Module, held_out: ImageSet) -> dict[str, float]:
        return {"cascade_verified": next(values)}

    found = train(chosen, images, info, cascade=cascade).metrics
    assert found[-1]["best_epoch"] == 4


@pytest.mark.parametrize(("row", "told"), [({}, []), ({"stopped": True}, ["finished"])])
def test_programs_are_told_that_it_stopped(row: dict[str, Any], told: list[str]) -> None:
    stream = io.StringIO()
    training = JsonLines(stream).training
    training.epoch_started(1, 6, 3)
    training.epoch_done({"epoch": 1, **row})
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["started", "epoch", *told]

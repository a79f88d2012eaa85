"""Progress while something runs: on standard error, beside whoever else watches."""

import io
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from verify_pipeline import api
from verify_pipeline.reporting import watched
from verify_pipeline.reporting.training_progress import Bar, TrainProgress
from verify_pipeline.training import Silent

PIXELS = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
IMAGES = api.ImageSet("mine", "train", PIXELS, torch.arange(12) % 2, 2)
INFO = api.DataSetInfo("mine", (1, 8, 8), 2, (0.5,), (0.25,))
SETTINGS = api.TrainSettings(
    data={"name": "mine"},
    network={"name": "mlp", "width": 0.1},
    loss={"name": "natural"},
    epsilon={"target": 0.1, "length": 0},
    optimiser={"epochs": 2, "batch": 6, "milestones": []},
)


class Watcher(Silent):
    """Notes the epochs that it is told of."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        self.epochs.append(metrics["epoch"])


class CertifyWatcher(api.CertifyObserver):
    """Notes the images that it is told of."""

    def __init__(self) -> None:
        self.images: list[int] = []

    def decided(self, index: int, verdict: api.Verdict) -> None:
        self.images.append(index)


@pytest.mark.parametrize("progress", [True, False])
def test_a_training(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    own = Watcher()
    api.train(SETTINGS, images=IMAGES, info=INFO, observer=own, progress=progress)
    shown = capsys.readouterr()
    assert own.epochs == [1, 2]
    assert shown.out == ""
    assert ("epoch 2/2" in shown.err) is progress


@pytest.mark.parametrize("progress", [True, False])
def test_a_certification(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    own = CertifyWatcher()
    api.certify(made, IMAGES, 0.01, observer=own, progress=progress)
    shown = capsys.readouterr()
    assert sorted(own.images) == list(range(12))
    assert shown.out == ""
    assert ("clean" in shown.err) is progress


def failing() -> None:
    with watched(progress=True) as watching:
        watching.training.epoch_started(1, 2, 3)
        raise ZeroDivisionError


def test_bars_end_where_the_call_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    with pytest.raises(ZeroDivisionError):
        failing()
    with watched(progress=True) as watching:  # a console shows one set of bars at a time
        watching.training.epoch_started(1, 2, 3)
        watching.certification.started(3, 0)
        watching.certification.stage_started("ibp", 3)
    assert "ibp" in capsys.readouterr().err


def test_a_bar_of_a_training_moves_on_a_terminal() -> None:
    out = io.StringIO()
    bar = Bar(Console(file=out, width=120, force_terminal=True, color_system=None))
    progress = TrainProgress(bar)
    progress.epoch_started(1, 2, 3)
    progress.step_done(1, 0.5)
    progress.epoch_done({"epoch": 1, "train_loss": 0.25})
    bar.stop()
    assert "epoch 1/2  loss 0.5000" in out.getvalue()
    assert "1/3" in out.getvalue()
    assert "epoch 1/2  loss 0.25" in out.getvalue()

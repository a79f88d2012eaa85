"""A training step reads nothing from its device, where a read makes the host wait."""

import inspect
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from verify_pipeline import losses
from verify_pipeline.data import Augmentation, DataSetInfo, ImageSet, augment
from verify_pipeline.lirpa import AutoLirpaBounder, load, quick_ops
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box, margin_matrix
from verify_pipeline.training import Silent, train
from verify_pipeline.training.step import LossStep, StepPlan
from verify_pipeline.training.step_losses import StepLosses, read_every

from .conftest import settings

READS = ("__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy", "nonzero")
IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


class Reads(TorchFunctionMode):
    """Counts the calls that bring a tensor's values to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        masked = name == "__getitem__" and any(
            isinstance(part, Tensor) and part.dtype == torch.bool
            for part in (args[1] if isinstance(args[1], tuple) else (args[1],))
        )
        if name in READS or masked:
            self.seen[name] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """Counts reads; rules that look at the type of a device take the way of an accelerator."""
    own = quick_ops.batch_norm_interval

    def without_looking(lower: Tensor, upper: Tensor, scale: Tensor, shift: Tensor) -> Any:
        reads.seen.subtract({"__bool__": 1})
        return own(lower, upper, scale, shift)

    monkeypatch.setattr(quick_ops, "batch_norm_interval", without_looking)
    with Reads() as reads:
        yield reads


@pytest.mark.skipif(not load().version.startswith("0.3"), reason="rules for auto_LiRPA 0.3")
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_step_reads_nothing(name: str, epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = zoo.build("cnn5", (1, 8, 8), 2, (0.4,), (0.3,), width=0.1)
    loss = losses.get(name)
    bounder = AutoLirpaBounder(module, (1, 8, 8)) if loss.needs_bounds else None
    chosen = settings(name, attack={"steps": 2, "step_size": 0.5}, optimiser={"l1": 1e-5})
    step = LossStep(module, bounder, loss, chosen, torch.Generator().manual_seed(0))
    plan = StepPlan(epsilon, 0.5, 0.5)
    step(IMAGES, LABELS, plan).loss.backward()  # the first one looks at what stays as it is
    with as_on_an_accelerator(monkeypatch) as reads:
        step(IMAGES, LABELS, plan).loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 10.0)
    assert +reads.seen == {}


def test_augmentation_reads_nothing() -> None:
    with Reads() as reads:
        augment(IMAGES, Augmentation(True, 2), torch.Generator().manual_seed(0))
    assert reads.seen == {}


def test_reads_are_noticed() -> None:
    with Reads() as reads:
        Box.around(IMAGES, 0.1)
        IMAGES[LABELS == 0]
    assert set(reads.seen) == {"__bool__", "__float__", "__getitem__"}


def test_boxes_around_pixels_are_those_that_are_checked() -> None:
    checked, unread = Box.around(IMAGES, 0.3), Box.around_pixels(IMAGES, 0.3)
    assert torch.equal(checked.lower, unread.lower)
    assert torch.equal(checked.upper, unread.upper)
    assert len(unread) == len(IMAGES)


def test_rows_of_margins_by_hand() -> None:
    rows = margin_matrix(torch.tensor([0, 2, 1]), 3)
    assert rows.tolist() == [
        [[1, -1, 0], [1, 0, -1]],
        [[-1, 0, 1], [0, -1, 1]],
        [[-1, 1, 0], [0, 1, -1]],
    ]


class TestLossesReadInGroups:
    def test_each_step_is_told_once_and_in_order(self) -> None:
        told: list[tuple[int, float]] = []
        kept = StepLosses(3, lambda step, loss: told.append((step, loss)))
        seen = []
        for step in range(1, 6):
            kept.add([(torch.tensor(float(step)), 0.25), (torch.tensor(8.0), 0.75)])
            seen.append(len(told))
        kept.read()
        kept.read()
        assert seen == [1, 1, 1, 4, 4]
        assert told == [(step, 0.25 * step + 6) for step in range(1, 6)]

    def test_on_the_cpu_each_is_told_at_once(self) -> None:
        assert read_every(torch.device("cpu")) == 1
        assert read_every(torch.device("cuda")) > 1

    def test_a_training_is_the_same_however_many_are_read_together(
        self, monkeypatch: pytest.MonkeyPatch, images: ImageSet, info: DataSetInfo
    ) -> None:
        class Steps(Silent):
            def __init__(self) -> None:
                self.told: list[tuple[int, float]] = []

            def step_done(self, step: int, loss: float) -> None:
                self.told.append((step, loss))

        one, several = Steps(), Steps()
        ours = train(settings(), images, info, observer=one)
        monkeypatch.setattr("verify_pipeline.training.loop.read_every", lambda device: 2)
        theirs = train(settings(), images, info, observer=several)
        assert one.told == several.told
        for row, other in zip(ours.metrics, theirs.metrics, strict=True):
            assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_only_a_training_makes_boxes_that_nobody_checks() -> None:
    package = Path(inspect.getfile(train)).parents[1]
    users = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if re.search(r"Box\.(unread|around_pixels)\(", path.read_text(encoding="utf-8"))
    }
    assert users == {"losses", "problem.py", "training"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", losses.LOSSES)
def test_torch_sees_no_read_in_a_step_on_cuda(name: str) -> None:
    device = torch.device("cuda")
    torch.manual_seed(0)
    module = zoo.build("cnn5", (1, 8, 8), 2, (0.4,), (0.3,), width=0.1).to(device)
    loss = losses.get(name)
    bounder = AutoLirpaBounder(module, (1, 8, 8)) if loss.needs_bounds else None
    generator = torch.Generator(device).manual_seed(0)
    step = LossStep(module, bounder, loss, settings(name), generator)
    images, labels = IMAGES.to(device), LABELS.to(device)
    step(images, labels, StepPlan(0.1, 0.5, 0.5)).loss.backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(images, labels, StepPlan(0.1, 0.5, 0.5)).loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")

"""Stages, a clock and a cascade that do as a test says."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch

from verify_pipeline.certify.cascade import Cascade, CascadeLimits
from verify_pipeline.certify.contract import Observer, Sharing, Task
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.data import ImageSet
from verify_pipeline.problem import Decision, Verdict

Verdicts = dict[int, Verdict]


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Fake:
    """A stage that does what ``work`` does, and notes the tasks that it was given."""

    work: Callable[[Task], Iterator[Decision]]
    name: str = "fake"
    bytes_per_instance: int = 1
    largest_task: int | None = None
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, task: Task) -> Iterator[Decision]:
        self.seen.append(task.indices)
        yield from self.work(task)


class Elsewhere(Sharing):
    """Other processes have decided these images when a stage begins, one set after the other."""

    def __init__(self, answers: Iterator[set[int]]) -> None:
        self._answers = answers

    def gone(self) -> set[int]:
        return next(self._answers, set())


def _images(count: int) -> ImageSet:
    pixels = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    return ImageSet("toy", "test", pixels, torch.zeros(count, dtype=torch.int64), 2)


def _certify(
    count: int,
    *stages: Fake,
    room: CascadeLimits | None = None,
    clock: Clock | None = None,
    observer: Observer | None = None,
    elsewhere: Sequence[set[int]] = (),
) -> dict[int, Verdict]:
    verdicts: dict[int, Verdict] = {}

    def sink(index: int, verdict: Verdict) -> None:
        assert index not in verdicts
        verdicts[index] = verdict

    answers = iter(elsewhere)
    cascade = Cascade(
        RobustImages(_images(count), range(count), LinfBall(0.1)),
        stages,
        room or CascadeLimits(timeout=100.0, memory=1 << 20, device=torch.device("cpu")),
        sink,
        observer or Observer(),
        clock or Clock(),
    )
    cascade.run(range(count), Elsewhere(answers))
    return verdicts


@pytest.fixture
def clock() -> Clock:
    """Goes on only when it is told to."""
    return Clock()


@pytest.fixture
def fake() -> type[Fake]:
    """Makes a stage of what it does with a task."""
    return Fake


@pytest.fixture
def certify() -> Callable[..., Verdicts]:
    """Brings so many instances through stages."""
    return _certify

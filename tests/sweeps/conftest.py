"""A recipe of seconds, and runs that are done in this process instead of one of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.sweeps import runner, tuner, worker
from verify_pipeline.sweeps.processes import Ended, RunJob
from verify_pipeline.sweeps.watching import JobWatcher

RECIPE = """\
train:
  data: {name: digits, validation: 30}
  network: {name: mlp, width: 0.1}
  loss: {name: cc-ibp, alpha: 0.5}
  epsilon: {target: 1/32, start: 1, length: 1}
  optimiser: {epochs: 3, milestones: [], batch: 256, learning_rate: 5e-3}
certify: {indices: ":20", stages: [clean, ibp, attack], timeout: 5}
"""

SPACE = """\
parameters:
  train.loss.alpha: {low: 1e-2, high: 1, log: true}
  train.optimiser.learning_rate: {low: 1e-3, high: 2e-2, log: true}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    pytest.importorskip("sklearn")
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return path


class Told(JobWatcher):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []

    def planned(self, total: int, done: int, jobs: int) -> None:
        self.lines.append(("planned", total, done))

    def started(self, name: str) -> None:
        self.lines.append(("started", name))

    def ended(self, name: str, error: str | None, seconds: float, note: str = "") -> None:
        self.lines.append(("ended", name, error))

    def expected(self, left: int, seconds: float) -> None:
        self.lines.append(("left", left))
        assert seconds > 0

    def noted(self, line: str) -> None:
        self.lines.append(("noted", line))

    def names(self, what: str) -> list[object]:
        return [line[1] for line in self.lines if line[0] == what]


Program = Callable[[dict[str, object]], None]


class Here:
    """Does jobs in this process; ``before`` is called with each job, and may raise."""

    def __init__(self) -> None:
        self.before: Callable[[RunJob], None] = lambda job: None

    def run_all(
        self,
        next_job: Callable[[], RunJob | None],
        jobs: int,
        started: Callable[[RunJob], None] = lambda job: None,
    ) -> Iterator[Ended]:
        while (job := next_job()) is not None:
            began, error = time.monotonic(), None
            job.folder.mkdir(parents=True, exist_ok=True)
            started(job)
            try:
                self.before(job)
                worker.do(job.content)
            except VerifyPipelineError as refused:
                error = f"error: {refused}"
            yield Ended(job, error, time.monotonic() - began)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    made = Here()
    for module in (runner, tuner):
        monkeypatch.setattr(module, "run_all", made.run_all)
    return made

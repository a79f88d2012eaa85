"""Progress for programs: one JSON object a line. docs/watching.md documents every field."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.job_plan import JobPlan
from verify_pipeline.certify.radii import RobustnessDistribution
from verify_pipeline.certify.records import RunInfo
from verify_pipeline.certify.tally import Summary
from verify_pipeline.problem import Verdict
from verify_pipeline.reporting.certification_state import outcome

Tell = Callable[..., None]
"""Writes an event: its name, and its fields by name."""


class JsonLines:
    """Writes events of jobs to a stream, each at once.

    Args:
        stream: gets the lines.

    Attributes:
        training: an observer of a training.
        certification: an observer of a certification.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.training = _TrainingEvents(self.tell)
        self.certification = _CertificationEvents(self.tell)

    def tell(self, event: str, **fields: Any) -> None:
        """Write one event."""
        finite = {name: _finite(value) for name, value in fields.items()}
        line = json.dumps({"event": event, "time": time.time(), **finite}, ensure_ascii=False)
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def certified(self, summary: Summary, ledger: Path) -> None:
        """A certification is finished: the counts of its table."""
        tally = summary.tally
        self.tell(
            "finished",
            job="certify",
            requested=summary.requested,
            images=tally.images,
            standard=tally.right,
            attack_robust=tally.withstood,
            verified=tally.proved,
            claimed=tally.claimed,
            robust_at_most=tally.not_broken,
            wrong=tally.wrong,
            falsified=sum(tally.falsified.values()),
            undecided=tally.undecided,
            tied=tally.tied,
            seconds=tally.seconds,
            verified_by_stage=tally.verified,
            falsified_by_stage=tally.falsified,
            undecided_by_reason={name.lower(): count for name, count in tally.unknown.items()},
            remarks=list(summary.remarks),
            ledger=str(ledger),
        )

    def radii(self, found: RobustnessDistribution, ledger: Path) -> None:
        """A search for radii is finished: the radius of each image, and their average."""
        lower, upper = found.average
        fields = run_fields(found.info)
        del fields["epsilon"], fields["perturbation"]
        self.tell(
            "finished",
            job="radius",
            **fields,
            epsilons=list(found.grid),
            average_at_least=lower,
            average_at_most=upper,
            radii=[
                {
                    "image": each.index,
                    "verified_up_to": each.verified,
                    "falsified_from": _finite(each.falsified),
                    "gap": each.gap,
                }
                for each in found.images
            ],
            remarks=list(found.remarks),
            ledger=str(ledger),
        )

    def trained(self, epochs: int) -> None:
        """A training is finished; told once."""
        self.training.finish(epochs)

    def wrote(self, files: Sequence[Path]) -> None:
        """Files that the command made, once everything is done."""
        self.tell("wrote", files=[str(file) for file in files])


def run_fields(info: RunInfo) -> dict[str, Any]:
    """What names a run, by field."""
    run = info.run
    return {
        "network": info.network_name,
        "network_sha256": run.network,
        "data_set": run.data_set,
        "split": run.split,
        "epsilon": info.epsilon,
        "perturbation": run.perturbation,
        "specification": run.specification,
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


class _TrainingEvents:
    """Tells ``started``, ``epoch`` and ``finished``."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._begun = self._finished = False
        self._epochs = 0

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Tell that the training has started, before its first epoch."""
        if not self._begun:
            self._tell("started", job="train", epochs=epochs, done=epoch - 1, steps=steps)
        self._begun, self._epochs = True, epochs

    def step_done(self, step: int, loss: float) -> None:
        """Nothing: an epoch has too many."""

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Tell the epoch's metrics."""
        self._tell("epoch", **metrics)
        if metrics["epoch"] == self._epochs or metrics.get("stopped"):
            self.finish(self._epochs)

    def finish(self, epochs: int) -> None:
        """Tell that the training is finished, if that was not told yet."""
        if not self._finished:
            self._tell("finished", job="train", epochs=epochs)
        self._finished = True


class _CertificationEvents(Observer):
    """Tells ``started``, ``stage started``, ``verdict`` and ``batch``."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._plan: JobPlan | None = None
        self._done: Counter[str] = Counter()
        self._images: Counter[str] = Counter()

    def planned(self, plan: JobPlan) -> None:
        """Keep what is certified."""
        self._plan = plan

    def started(self, images: int, decided: int) -> None:
        """Tell what is certified, and count from 0."""
        self._done, self._images = Counter(), Counter()
        fields: dict[str, Any] = {}
        if self._plan is not None:
            fields = {
                **run_fields(self._plan.info),
                "stages": list(self._plan.stages),
                "stages_overlap": self._plan.stages_overlap,
                "timeout": self._plan.timeout,
            }
        self._tell("started", job="certify", images=images, done=decided, **fields)

    def stage_started(self, stage: str, images: int) -> None:
        """Tell the stage, or that more images have come to it."""
        known = stage in self._images
        self._images[stage] += images
        if known:
            self._batch(stage)
        else:
            self._tell("stage started", stage=stage, images=images)

    def decided(self, index: int, verdict: Verdict) -> None:
        """Tell the verdict."""
        counterexample = verdict.counterexample
        self._tell(
            "verdict",
            image=index,
            verdict=verdict.status.value,
            outcome=outcome(verdict),
            stage=verdict.stage,
            reason=None if verdict.reason is None else verdict.reason.name.lower(),
            bound=verdict.bound,
            margin=None if counterexample is None else counterexample.margin,
            seconds=verdict.seconds,
        )

    def looked_at(self, stage: str, images: int) -> None:
        """Tell how far the stage is."""
        self._done[stage] += images
        self._batch(stage)

    def waits_for(self, images: int, owners: Sequence[str]) -> None:
        """Tell who is waited for."""
        self._tell("waiting", images=images, processes=list(owners))

    def took_over(self, images: int, owners: Sequence[str]) -> None:
        """Tell whose images they were."""
        self._tell("took over", images=images, processes=list(owners))

    def lost_worker(self, images: int, why: str) -> None:
        """Tell that a worker was lost."""
        self._tell("lost worker", images=images, why=why)

    def _batch(self, stage: str) -> None:
        self._tell("batch", stage=stage, done=self._done[stage], images=self._images[stage])

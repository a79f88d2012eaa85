"""Part: certification of the network just trained, by stage."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from stepping.clock import Clock, clock_of

from accelerating.job import Job, Record
from accelerating.packing import unpack
from accelerating.sizes import RECIPE
from accelerating.training import NETWORK
from verify_pipeline import api
from verify_pipeline.certify.contract import Observer
from verify_pipeline.errors import ConfigError
from verify_pipeline.problem import Verdict

SHARE = 0.7
"""Of the part's time, that all images may use together."""


class Stages(Observer):
    """Times each stage.

    Args:
        clock: for the peak of memory.
        record: gets a row for each stage that is over.
    """

    def __init__(self, clock: Clock, record: Record) -> None:
        self._clock, self._record = clock, record
        self._running: dict[str, Any] | None = None
        self._began = 0.0
        self._verdicts: Counter[str] = Counter()

    def stage_started(self, stage: str, images: int) -> None:
        """End the stage before, and begin this one."""
        self._end()
        self._running = {"stage": stage, "images": images}
        self._clock.start_memory()
        self._began = time.perf_counter()

    def decided(self, index: int, verdict: Verdict) -> None:
        """Count the verdict."""
        self._verdicts[verdict.status.value] += 1

    def finished(self) -> None:
        """End the last stage."""
        self._end()

    def _end(self) -> None:
        if self._running is None:
            return
        seconds = time.perf_counter() - self._began  # a stage reads its results from the device
        row, self._running = self._running, None
        counts = {name: self._verdicts[name] for name in ("verified", "falsified", "unknown")}
        self._verdicts.clear()
        self._record.row(
            **row,
            **counts,
            **{
                "seconds": seconds,
                "images a second": row["images"] / seconds,
                "peak (MiB)": self._clock.peak_memory() / 2**20,
            },
        )


def certification(job: Job, record: Record) -> None:
    """Certify test images with deadlines that fit into the part's time."""
    path = job.work / NETWORK
    if not path.is_file():
        raise ConfigError(
            f"network {path}",
            expected="the file that the part training writes",
            got="none",
            remedy="Run the part training first, or name its folder with --work.",
        )
    images = unpack(job.data, "test").subset(slice(0, job.sizes.test_images))
    recipe = api.load_recipe(RECIPE, dict(job.sizes.overrides))
    seconds = SHARE * max(1.0, job.left) / len(images)
    settings = replace(recipe.certify, timeout=seconds, indices=":")
    record.remark(
        f"{len(images)} test images, ε = 2/255, deadline {seconds:.2f} s an image; bounds in full "
        "float32 and float64. Early in a training ε is small, so few images are verified."
    )
    api.certify(
        path,
        images,
        settings,
        observer=Stages(clock_of(job.device), record),
        device=str(job.device),
    )

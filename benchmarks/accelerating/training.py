"""Part: a training that ends when its time is over, and is continued by the next call."""

from __future__ import annotations

import statistics
import time
from typing import Any

from stepping.clock import clock_of

from accelerating.arithmetic import TF32
from accelerating.job import Job, Record
from accelerating.packing import unpack
from accelerating.sizes import RECIPE
from verify_pipeline import api
from verify_pipeline.training import Silent

WHOLE = 50_000
"""Training images of CIFAR-10."""
MARGIN = 1.2
"""An epoch is begun if this many times the last one's seconds are left."""
EXPORT = 8.0
"""Seconds that are kept for the network's file."""
COLUMNS = ("epoch", "seconds", "epsilon", "train_loss", "train_clean", "train_adversarial")
NETWORK = "network.onnx"


class Epochs(Silent):
    """Keeps a row for each epoch, and knows when the next one does not fit.

    Args:
        job: whose time it is.
        record: gets the rows.
    """

    def __init__(self, job: Job, record: Record) -> None:
        self._job, self._record = job, record
        self._began = time.monotonic()
        self.seconds: list[float] = []

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Keep its row."""
        now = time.monotonic()
        self.seconds.append(now - self._began)
        self._began = now
        self._record.row(**{name: metrics.get(name) for name in (*COLUMNS, "train_verified")})

    def is_over(self, metrics: list[dict[str, Any]]) -> bool:
        """Whether the time is too short for another epoch and the network's file."""
        return self._job.left < MARGIN * self.seconds[-1] + EXPORT


def training(job: Job, record: Record) -> None:
    """Train by the recipe on the packed images until the time is over."""
    images = unpack(job.data, "train").subset(slice(0, job.sizes.train_images))
    recipe = api.load_recipe(RECIPE, dict(job.sizes.overrides))
    epochs = Epochs(job, record)
    clock = clock_of(job.device)
    clock.start_memory()
    with TF32.used():
        trained = api.train(
            recipe,
            job.work / "training",
            images=images,
            device=str(job.device),
            observer=epochs,
            until=epochs.is_over,
        )
    _tell(record, trained, len(images), epochs.seconds, clock.peak_memory())
    api.export_onnx(trained, job.work / NETWORK, images=unpack(job.data, "test"))


def _tell(
    record: Record, trained: api.Trained, images: int, seconds: list[float], peak: int
) -> None:
    planned, done = trained.settings.optimiser.epochs, len(trained.metrics)
    record.remark(
        f"Recipe {RECIPE} on {images:,} of {WHOLE:,} training images, in TF32: {done} of {planned} "
        f"epochs are done, {len(seconds)} of them in this call; peak memory {peak / 2**20:,.0f} "
        "MiB. Accuracies are of augmented training images."
    )
    if not seconds:
        record.remark("Nothing was left to train.")
        return
    each = statistics.median(seconds[1:] or seconds)  # the first one prepares the device, too
    record.remark(
        f"An epoch takes {each:.2f} s (median of this call's without its first; checkpoints "
        f"included), {images / each:,.0f} images a second: {planned} epochs of all {WHOLE:,} "
        f"images would take {planned * each * WHOLE / images / 60:.1f} minutes."
    )
    if done < planned:
        record.remark("The same command with --continue goes on from the checkpoint.")

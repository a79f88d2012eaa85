"""What happens around the epochs of a training: where it starts, what is watched and kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from verify_pipeline.settings import STRICT, Count, PositiveCount, Share, Text

Metric = Literal[
    "validation_standard",
    "validation_adversarial",
    "validation_ibp",
    "cascade_standard",
    "cascade_verified",
]
"""What is measured on held-out images, as metrics.csv calls it; greater is better."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WatchSettings:
    """Verification during training.

    Attributes:
        every: epochs between two evaluations; 0 for none.
        images: validation images whose standard, adversarial and IBP accuracy is measured.
        cascade_images: validation images that the whole cascade certifies; 0 for none.
    """

    every: Count = 0
    images: PositiveCount = 1000
    cascade_images: Count = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StartSettings:
    """Another training that this one starts from.

    Attributes:
        weights: a run's folder, a checkpoint's file, or a .safetensors file with a module's state;
            None: fresh weights. What counts is the SHA-256 of the content, not the path.
        epoch: of a checkpoint that the run's folder keeps; None: the run's network, of a finished
            run.
        take: ``weights`` of the parent's network; the ``optimiser``'s state beside those weights
            that it belongs to; or the whole ``training``, which goes on in its next epoch, with
            its random numbers and metrics.
    """

    weights: Text | None = None
    epoch: PositiveCount | None = None
    take: Literal["weights", "optimiser", "training"] = "weights"

    def problems(self) -> Iterator[str]:
        """One line for each setting that does not fit the others."""
        if self.weights is None and (self.epoch is not None or self.take != "weights"):
            yield "start.epoch and start.take need start.weights, got none"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KeepSettings:
    """Which checkpoints stay in the folder, and which one is the run's network.

    Attributes:
        every: epochs between two checkpoints that stay; 0 for none.
        best: metric whose best epoch stays, of epochs with the full ε, α and κ; of equal ones the
            first. None: no epoch stays for this reason.
        network: the run's network, which is exported: that of the ``last`` epoch, or the ``best``.
    """

    every: Count = 0
    best: Metric | None = None
    network: Literal["last", "best"] = "last"

    def problems(self) -> Iterator[str]:
        """One line for each setting that does not fit the others."""
        if self.network == "best" and self.best is None:
            yield "keep.network: best needs a metric in keep.best, got none"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StopSettings:
    """Early stopping.

    Attributes:
        metric: that has to get better; None: the training has all its epochs.
        patience: epochs with the full ε, α and κ without a better value, after which it stops.
        minimum: epochs that it has at least.
    """

    metric: Metric | None = None
    patience: PositiveCount = 10
    minimum: Count = 0

    def problems(self, epochs: int) -> Iterator[str]:
        """One line for each setting that does not fit the others."""
        if self.metric is None:
            if self != StopSettings():
                yield "stop.patience and stop.minimum need a metric in stop.metric, got none"
        elif self.minimum >= epochs:
            yield f"stop.minimum: expected below optimiser.epochs = {epochs}, got {self.minimum}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AverageSettings:
    """An average of weights over time, which is then the run's network.

    Attributes:
        kind: ``ema``: exponential, over steps; ``swa``: plain, over the weights after each epoch
            (Izmailov et al. 2018); None: no average. See ``weight_average``.
        decay: of ``ema``: the share of the average that a step keeps; in (0, 1). None: 0.999.
        start: the epoch, counted from 1, whose weights are the first.
    """

    kind: Literal["ema", "swa"] | None = None
    decay: Annotated[Share, Field(lt=1)] | None = None
    start: PositiveCount = 1

    def problems(self, epochs: int) -> Iterator[str]:
        """One line for each setting that does not fit the others."""
        if self.decay is not None and self.kind != "ema":
            yield f"average.decay is a setting of ema, got it with {self.kind or 'no kind'}"
        if self.kind is None and self.start != 1:
            yield "average.start needs average.kind, got none"
        if self.start > epochs:
            yield (f"average.start: expected at most optimiser.epochs = {epochs}, got {self.start}")


def watching_problems(
    watch: WatchSettings, validation: int, metrics: dict[str, Metric | None], full: int, epochs: int
) -> Iterator[str]:
    """One line for each metric that would never be measured.

    Args:
        watch: what is measured, and when.
        validation: number of held-out images.
        metrics: by the setting that names it.
        full: the first epoch with the full ε, α and κ.
        epochs: of the training.
    """
    if watch.every and not validation:
        yield "watch.every needs held-out images: expected data.validation > 0, got 0"
    for setting, metric in metrics.items():
        if metric is None:
            continue
        if not watch.every or not validation:
            yield (
                f"{setting} is measured on held-out images: expected data.validation > 0 and "
                f"watch.every > 0, got {validation} and {watch.every}"
            )
        elif epochs // watch.every * watch.every < full:
            yield (
                f"{setting} counts with the full ε, α and κ, from epoch {full} on: expected "
                f"watch.every that measures such an epoch of {epochs}, got {watch.every}"
            )
        if metric.startswith("cascade") and not watch.cascade_images:
            yield f"{setting}: {metric} needs watch.cascade_images > 0, got 0"

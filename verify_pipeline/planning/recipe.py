"""What a recipe will cost: some real steps of its training, sizes, and limits of the rest."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from verify_pipeline import onnx, training
from verify_pipeline.certify.job_plan import LEAST_SAMPLE, Sample
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.run import ask_settings
from verify_pipeline.certify.settings import parse_indices, plan
from verify_pipeline.config import Recipe
from verify_pipeline.conversions import choose_device
from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError, TrainingError
from verify_pipeline.onnx import Network
from verify_pipeline.pipeline import check_certification
from verify_pipeline.planning.certification import MEASURE, CertificationForecast, forecast
from verify_pipeline.planning.disk import ledger_row_bytes
from verify_pipeline.planning.machine import Capacity, accelerator_bytes, peak_bytes
from verify_pipeline.planning.sampling import Tell
from verify_pipeline.reporting.durations import TimeRange
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.stopwatch import PhaseSteps, measure_steps, phases

PROCESSES = (1, 2, 4, 8, 16, 64)
"""Numbers of processes by torchrun that a forecast is made for."""

MOMENTS = 2
"""Numbers that Adam keeps for each weight."""


def extra_numbers(settings: TrainSettings) -> int:
    """Numbers that a checkpoint has for each weight besides it: moments, and an average."""
    options = settings.optimiser
    moments = int(options.momentum > 0) if options.name == "sgd" else MOMENTS
    return moments + int(settings.average.kind is not None)


@dataclass(frozen=True)
class Sizes:
    """Bytes of what a run writes.

    Attributes:
        checkpoint: weights and the optimiser's state; twice while one replaces another.
        network: the ONNX file, about.
        ledger_low: of a ledger without counterexamples.
        ledger_high: of one that has a counterexample of each image.
    """

    checkpoint: int
    network: int
    ledger_low: int
    ledger_high: int

    @staticmethod
    def of(
        module: nn.Module, shape: tuple[int, ...], outputs: int, images: int, extra: int = MOMENTS
    ) -> Sizes:
        """Computed from the network, and from rows of a ledger that are like those to come.

        Args:
            module: the network.
            shape: of an image, ``C x H x W``.
            outputs: of the network.
            images: that are certified.
            extra: numbers of a checkpoint for each weight besides it.
        """
        weights = sum(each.numel() * each.element_size() for each in module.parameters())
        state = sum(each.numel() * each.element_size() for each in module.state_dict().values())
        low, high = ledger_row_bytes(shape, outputs)
        ledger = images * low, images * high
        return Sizes(state + extra * weights, weights, *map(math.ceil, ledger))


def steps_seconds(steps: PhaseSteps) -> TimeRange:
    """Seconds of all steps of a phase: about the 95 % interval, or as the few that were measured.

    Fewer than :data:`LEAST_SAMPLE` steps have no interval: all are taken to be as quick as the
    quickest, and as slow as the slowest.
    """
    count = steps.phase.epochs * steps.an_epoch
    if len(steps.seconds) >= LEAST_SAMPLE:
        return TimeRange(*Sample.of_seconds(steps.seconds).seconds(count))
    return TimeRange(count * min(steps.seconds), count * max(steps.seconds))


@dataclass(frozen=True, eq=False)
class RecipeForecast:
    """What a recipe will cost.

    Attributes:
        recipe: the recipe.
        images: to train on.
        test_images: to certify.
        steps: that were measured, by phase.
        sizes: of the files.
        memory: bytes that this process held at most.
        accelerator: bytes that it held on an accelerator at most; None: there is none.
        machine: that was measured on.
        like: what a network like the trained one costs to certify; None: there is none.
        epochs: that this network was trained for; None: a file does not say.
    """

    recipe: Recipe
    images: int
    test_images: int
    steps: tuple[PhaseSteps, ...]
    sizes: Sizes
    memory: int
    accelerator: int | None
    machine: Capacity
    like: CertificationForecast | None
    epochs: int | None

    @cached_property
    def seconds(self) -> TimeRange:
        """Of the whole training by one process, without looks at validation images."""
        parts = [steps_seconds(each) for each in self.steps]
        return TimeRange(
            math.fsum(part.low for part in parts), math.fsum(part.high or 0.0 for part in parts)
        )

    @property
    def processes(self) -> dict[int, float]:
        """Seconds of a training by several processes at best: the least time, divided evenly."""
        return {count: self.seconds.low / count for count in PROCESSES}

    @property
    def certification_limit(self) -> float:
        """Seconds of the certification by one process, if each image takes all that it may."""
        return self.test_images * plan(self.recipe.certify).timeout

    @property
    def not_counted(self) -> tuple[str, ...]:
        """Parts of the training that were not measured."""
        settings = self.recipe.train
        parts = []
        if settings.watch.every:
            parts.append(f"validation every {settings.watch.every} epochs")
        if settings.batch_norm_policy == "ctbench":
            parts.append("statistics of batch normalisation after each epoch")
        if settings.keep.every or settings.keep.best:
            parts.append("checkpoints that stay in the folder")
        if settings.stop.metric:
            parts.append("early stopping")
        return tuple(parts)

    def fields(self) -> dict[str, Any]:
        """For programs; docs/watching.md says what each is."""
        settings = self.recipe.train
        return {
            "recipe": self.recipe.name,
            "data_set": settings.data.full_name,
            "images": self.images,
            "epochs": settings.optimiser.epochs,
            "steps": self.steps[0].an_epoch,
            "phases": [
                {
                    "phase": each.phase.name,
                    "epochs": each.phase.epochs,
                    "measured": len(each.seconds),
                    "step_seconds": sum(each.seconds) / len(each.seconds),
                    "seconds_at_least": steps_seconds(each).low,
                    "seconds_at_most": steps_seconds(each).high,
                }
                for each in self.steps
            ],
            "seconds_at_least": self.seconds.low,
            "seconds_at_most": self.seconds.high,
            "not_counted": list(self.not_counted),
            "processes": [
                {"processes": count, "seconds_at_best": seconds}
                for count, seconds in self.processes.items()
            ],
            "memory": {
                "process": self.memory,
                "accelerator": self.accelerator,
                "machine": self.machine.memory,
                "free": self.machine.free,
                "cores": self.machine.cores,
                "threads": self.machine.threads,
            },
            "disk": asdict(self.sizes),
            "certification": {
                "images": self.test_images,
                "seconds_at_most": self.certification_limit,
                "like": None if self.like is None else self.like.fields(),
                "like_epochs": self.epochs,
            },
        }


def plan_recipe(
    recipe: Recipe,
    *,
    like: Path | None = None,
    data_root: Path | None = None,
    device: str = "auto",
    seconds: float = MEASURE,
    tell: Tell = lambda images, seconds: None,
) -> RecipeForecast:
    """Say what ``run`` would cost with this recipe.

    Everything is checked that it checks. No file is created or changed.

    Args:
        recipe: what is to be done.
        like: an ONNX file, or the folder of a finished or unfinished training of this recipe,
            whose network is certified in place of the one to come, whatever its ledger has;
            None: certification has limits only.
        data_root: where the data set is looked for.
        device: ``auto``, ``cpu``, ``cuda``, …
        seconds: of measurement, about; of the training, and of the certification if ``like`` is
            given.
        tell: after each round of measuring a certification.

    Raises:
        VerifyPipelineError: something in the recipe, the data or the folder is not as it must be.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError("--measure", expected="seconds > 0", got=str(seconds))
    place, source = choose_device(device), recipe.train.data
    test = source.images("test", data_root)
    check_certification(recipe.certify, len(test))
    chosen, info = source.images("train", data_root), source.information()
    network, epochs = (None, None) if like is None else _network_like(recipe, like, info)
    if network is not None:
        ask_settings(network, test, recipe.certify, Question())
    parts = phases(recipe.train)
    steps = [measure_steps(each, chosen, info, place, seconds / len(parts)) for each in parts]
    memory, accelerator = peak_bytes(), accelerator_bytes(place)
    module = training.fresh_network(recipe.train.network, info)
    images = _certified(recipe, test)
    found = None
    if network is not None:
        found = forecast(network, test, recipe.certify, device=device, seconds=seconds, tell=tell)
    return RecipeForecast(
        recipe,
        len(chosen) - recipe.train.data.validation,
        images,
        tuple(steps),
        Sizes.of(module, info.shape, info.classes, images, extra_numbers(recipe.train)),
        memory,
        accelerator,
        Capacity.this(),
        found,
        epochs,
    )


def _certified(recipe: Recipe, test: ImageSet) -> int:
    """How many images the recipe certifies."""
    return len(parse_indices(recipe.certify.indices, len(test)))


def _network_like(recipe: Recipe, like: Path, info: DataSetInfo) -> tuple[Network, int | None]:
    """A network of this recipe, and the epochs that it was trained for, if they are known.

    Raises:
        NetworkError: the file cannot be used.
        TrainingError: the folder holds no training, or one of other settings.
    """
    if not like.is_dir():
        return onnx.load_network(like), None
    exported = like / f"{recipe.name}.onnx"
    if exported.is_file():
        return onnx.load_network(exported), None
    trained = training.restore_so_far(like, info)
    if trained.settings != recipe.train:
        raise TrainingError(
            f"folder {like}",
            expected=f"a training of the recipe {recipe.name}",
            got="one with other settings",
            remedy="Name its recipe, and what it was given with --set.",
        )
    return onnx.network_from_module(trained.module, info.shape), len(trained.metrics)

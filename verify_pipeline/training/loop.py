"""The training loop: epochs of steps, resumable, with observers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from verify_pipeline import losses
from verify_pipeline.data import IMAGE_AXES, DataSetInfo, ImageSet, augment, split_validation
from verify_pipeline.errors import TrainingError
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.training import checkpoint
from verify_pipeline.training.averages import Averages
from verify_pipeline.training.batch_norm import batch_norms, recompute_statistics
from verify_pipeline.training.batches import Batches
from verify_pipeline.training.evaluate import evaluate
from verify_pipeline.training.freed_memory import keep_freed_memory
from verify_pipeline.training.identity import Identity
from verify_pipeline.training.initialise import ibp_init
from verify_pipeline.training.module_checks import check_module, check_weights
from verify_pipeline.training.observer import Silent, TrainObserver
from verify_pipeline.training.optimisers import make_optimiser
from verify_pipeline.training.rates import rate_schedule
from verify_pipeline.training.schedules import epsilon_schedule, ramp_schedule
from verify_pipeline.training.selection import check_measured, has_stopped
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.starting import Parent, read_parent
from verify_pipeline.training.step import StepPlan
from verify_pipeline.training.step_losses import Part, StepLosses, read_every
from verify_pipeline.training.trained import Trained, fresh_network
from verify_pipeline.training.training_files import TrainingFiles
from verify_pipeline.training.updates import Updates
from verify_pipeline.training.weight_average import WeightAverage

Cascade = Callable[[nn.Module, ImageSet], dict[str, float]]
"""Certifies images with the network as it stands; returns metrics by name."""

Until = Callable[[list[dict[str, Any]]], bool]
"""Whether a training ends for now, from the metrics of its epochs so far."""


def train(
    settings: TrainSettings,
    images: ImageSet,
    info: DataSetInfo,
    folder: Path | None = None,
    *,
    observer: TrainObserver | None = None,
    cascade: Cascade | None = None,
    until: Until | None = None,
    device: torch.device | str = "cpu",
    group: ProcessGroup = ALONE,
    module: nn.Module | None = None,
) -> Trained:
    """Train a network; with a ``folder``, continue the training of an earlier call.

    On the CPU, an interrupted and continued training ends with the weights of an uninterrupted one.
    Several processes, each with this call, train as one does on the same batches, up to rounding;
    a training may be continued by another number of processes.

    Args:
        settings: everything that decides the result.
        images: the training images; ``settings.data.validation`` of them are held out.
        info: of the data set: shape, classes, normalisation, augmentation.
        folder: for the checkpoint and ``metrics.csv``; None to keep nothing.
        observer: is told of steps and epochs.
        cascade: certifies the ``settings.watch.cascade_images``.
        until: is asked after each epoch, whose checkpoint is written; at True, the call returns the
            network as it stands. A later call with the same folder continues.
        device: to train on.
        group: of processes, of which the first writes the files, tells its observer, and looks at
            the validation images.
        module: the network to train, of pixels ``N x *X`` in [0, 1] to logits ``N x K``, in place
            of one that the settings describe. It is trained itself, no copy of it. Its weights are
            drawn anew if the settings' ``regulariser.ibp_init`` says so.

    Raises:
        ConfigError: an unknown network or loss, batches too small for batch normalisation or
            for the processes, or a metric of the cascade without one.
        DataError: ``info`` does not describe the images, or there are too few of them.
        TrainingError: the loss is not finite, the folder's checkpoint or the training that this
            one starts from does not fit, or the folder cannot be written.
        NetworkError: the module, or a file's network, cannot be bounded or exported.
        ProcessError: another process has ended.
    """
    told = observer if observer is not None and group.is_first else Silent()
    check_measured(settings, by_cascade=cascade is not None)
    keep_freed_memory()
    parent = group.shared(partial(read_parent, settings.start, folder))
    made = group.in_turn(
        lambda: _Training(settings, images, info, folder, told, device, group, parent, module)
    )
    return made.run(cascade, until or _never)


class _Training:
    """The state of one call of :func:`train`."""

    def __init__(
        self,
        settings: TrainSettings,
        images: ImageSet,
        info: DataSetInfo,
        folder: Path | None,
        observer: TrainObserver,
        device: torch.device | str,
        group: ProcessGroup,
        parent: Parent | None,
        module: nn.Module | None,
    ) -> None:
        self.group = group
        self.settings, self.info, self.observer = settings, info, observer
        self.device = torch.device(device)
        info.check_fits(images)
        held_out = settings.data.validation
        self.validation: ImageSet | None = None
        if held_out:
            images, self.validation = split_validation(images, held_out, settings.seed)
        sha256 = None if parent is None else parent.sha256
        identity = Identity.of(settings, images, info, sha256)
        self.files = TrainingFiles(folder, settings, identity, parent, group)
        self.images = images.to(self.device)
        loss = losses.get(settings.loss.name, settings.loss.numbers)
        is_own = settings.network.name is None or module is not None
        self.module = self._network(module, is_own)
        if is_own:
            watched = bool(held_out and settings.watch.every)
            shape = tuple(info.shape)
            check_module(self.module, shape, info.classes, loss, is_watched=watched)
        self.module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = next(self.module.parameters()).dtype
        self.batches = Batches.of(images, settings.optimiser, self.module, group)
        self.optimiser = make_optimiser(settings.optimiser, self.module.parameters())
        self.generators = self._generators()
        self.steps = self.batches.steps
        self.average = None
        if settings.average.kind is not None:
            self.average = WeightAverage(self.module, settings.average, self.steps)
        attack = self.generators["attack"]
        self.updates = Updates(
            self.module, info.shape, loss, settings, self.optimiser, attack, group
        )
        self.rate = rate_schedule(settings.optimiser, self.steps)
        self.epsilon = epsilon_schedule(settings.epsilon, self.steps)
        self.alpha = ramp_schedule(settings.loss.alpha_ramp, settings.loss.alpha, self.steps)
        self.clean_weight = ramp_schedule(
            settings.loss.clean_ramp, settings.loss.clean_weight, self.steps
        )

    def _generators(self) -> dict[str, torch.Generator]:
        """One for each use, so that none depends on how often another draws."""
        names = ("order", "augment", "attack")
        made = {
            name: torch.Generator(device=self.device if name == "attack" else "cpu").manual_seed(
                self.settings.seed * len(names) + place
            )
            for place, name in enumerate(names)
        }
        if self.settings.average.kind is not None:
            made["average"] = torch.Generator().manual_seed(self.settings.seed)
        return made

    def _network(self, module: nn.Module | None, is_own: bool) -> nn.Module:
        """Fresh weights that depend on the seed alone, not on what ran before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            if module is None:
                module = fresh_network(self.settings.network, self.info)
            if is_own:
                check_weights(module)
            if self.settings.regulariser.ibp_init:
                ibp_init(module)
        return module

    def run(self, cascade: Cascade | None, until: Until) -> Trained:
        """All epochs that are left, or fewer."""
        progress = self.files.begin(self._state(None))
        settings, rows = self.settings, progress.metrics
        epochs = settings.optimiser.epochs
        last = progress.epoch if progress.stopped else epochs
        for epoch in range(progress.epoch + 1, last + 1):
            self.observer.epoch_started(epoch, epochs, self.steps)
            row = self._epoch(epoch)
            row |= self.group.shared(partial(self._watch, epoch, cascade))
            rows.append(row)
            best = self.files.best(rows)
            row |= {} if best is None else {"best_epoch": best}
            stopped = has_stopped(rows, settings.stop, settings.first_full_epoch)
            row |= {"stopped": True} if stopped else {}
            progress = checkpoint.TrainingProgress(epoch, rows, stopped)
            network = self._network_at(epoch)
            self._check_finite(network)
            self.files.keep(progress, self._state(epoch), network.state_dict())
            self.observer.epoch_done(row)
            if stopped or self.group.shared(partial(until, rows)):
                break
        return self._trained(progress)

    def _trained(self, progress: checkpoint.TrainingProgress) -> Trained:
        """The run's network as it stands, or the best one behind the last epoch."""
        settings, rows, epoch = self.settings, progress.metrics, progress.epoch
        module = self._network_at(epoch)
        if settings.keep.network == "best" and progress.finished(settings.optimiser.epochs):
            module.load_state_dict(self.files.best_weights(rows))
            epoch = self.files.best(rows) or epoch
        module.eval()
        return Trained(
            module, rows, settings, self.validation, self.info, epoch, self.files.lineage
        )

    def _network_at(self, epoch: int) -> nn.Module:
        """The training's network at the end of an epoch: the average, where there is one."""
        average = self.average
        return self.module if average is None or not average.has_begun(epoch) else average.module

    def _epoch(self, epoch: int) -> dict[str, Any]:
        started = time.perf_counter()
        averages, told = Averages(), StepLosses(read_every(self.device), self._step_done)
        for place, batch in enumerate(self._shuffled()):
            step = (epoch - 1) * self.steps + place
            told.add(self._update(batch, step, averages))
        told.read()
        final = epoch * self.steps - 1
        last, rate = self._plan(final), self.rate(final)
        if self.settings.batch_norm_policy == "ctbench" and batch_norms(self.module):
            batches = (self._pixels(batch)[0] for batch in self._shuffled())
            recompute_statistics(self.module, batches, self.group)
        self._average(epoch)
        row = {"epoch": epoch, "epsilon": last.epsilon, "alpha": last.alpha, "rate": rate}
        row |= {f"train_{name}": value for name, value in averages.values().items()}
        return row | {"seconds": time.perf_counter() - started}

    def _average(self, epoch: int) -> None:
        """Average the epoch's weights, if it is time; with statistics of the averaged network."""
        average, generator = self.average, self.generators.get("average")
        if average is None or generator is None or not average.has_begun(epoch):
            return
        average.epoch_done(epoch)
        if batch_norms(average.module):
            shuffled = self.batches.shuffled(generator, self.device)
            batches = (self._pixels(batch, generator)[0] for batch in shuffled)
            recompute_statistics(average.module, batches, self.group)

    def _shuffled(self) -> Iterator[Tensor]:
        return self.batches.shuffled(self.generators["order"], self.device)

    def _step_done(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise self._diverged(f"a loss of {loss}")
        self.observer.step_done(step, loss)

    def _plan(self, step: int) -> StepPlan:
        """ε, α and the regulariser's weight, which falls to 0 as ε grows."""
        epsilon, target = self.epsilon(step), self.settings.epsilon
        full = target.target * target.train_factor
        left = 1 - epsilon / full if full else 0.0
        weight = self.settings.regulariser.weight * left
        return StepPlan(epsilon, self.alpha(step), weight, self.clean_weight(step))

    def _update(self, batch: Tensor, step: int, averages: Averages) -> list[Part]:
        """One step of the optimiser; returns the losses of the batch's parts, and their shares.

        Nothing is read from the device: the host prepares steps while the device computes.
        """
        inputs = [self._pixels(part) for part in self.batches.cut(batch)]
        results = self.updates(inputs, self._plan(step), self.rate(step), step)
        if self.average is not None:
            self.average.step_done(step)
        parts: list[Part] = []
        for result, (_, labels) in zip(results, inputs, strict=True):
            averages.count(result, len(labels))
            parts.append((result.loss, len(labels) / len(batch)))
        return parts

    def _diverged(self, got: str) -> TrainingError:
        return TrainingError(
            f"training of {self.settings.network.label}",
            expected="finite numbers",
            got=got,
            remedy="Lower the learning rate or ε, or lengthen the ramp.",
        )

    def _pixels(
        self, index: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        pixels = self.images.pixels(index, self.dtype)
        if self.settings.data.augment:
            chosen = generator or self.generators["augment"]
            pixels = augment(pixels, self.info.augmentation, chosen)
        if pixels.dim() == 1 + IMAGE_AXES:
            # convolutions are a tenth to a fifth faster on a CPU in this order (docs/notebook)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return pixels, self.images.labels[index]

    def _watch(self, epoch: int, cascade: Cascade | None) -> dict[str, Any]:
        watch, validation = self.settings.watch, self.validation
        if validation is None or not watch.every or epoch % watch.every:
            return {}
        network = self._network_at(epoch)
        looked_at = validation.subset(slice(0, watch.images))
        epsilon = self.settings.epsilon.target
        accuracies = evaluate(network, looked_at, epsilon, self.settings.seed)
        row: dict[str, Any] = {f"validation_{k}": v for k, v in asdict(accuracies).items()}
        if cascade is not None and watch.cascade_images:
            network.eval()
            row |= cascade(network, validation.subset(slice(0, watch.cascade_images)))
        return row

    def _state(self, epoch: int | None) -> checkpoint.Parts:
        """The parts that have a state, with the average as far as the epoch has one."""
        average = self.average
        if average is not None and epoch is not None and not average.has_begun(epoch):
            average = None
        averaged = None if average is None else average.module
        return checkpoint.Parts(self.module, self.optimiser, self.generators, averaged)

    def _check_finite(self, network: nn.Module) -> None:
        for module in {self.module, network}:
            if not all(bool(torch.isfinite(value).all()) for value in module.state_dict().values()):
                raise self._diverged("a weight or statistic that is not finite")


def _never(metrics: list[dict[str, Any]]) -> bool:
    """A training of all its epochs."""
    return False

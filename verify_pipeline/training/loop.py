"""The training loop: epochs of steps, resumable, with observers."""

from __future__ import annotations

import csv
import hashlib
import io
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
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.data import DataSetInfo, ImageSet, augment, split_validation
from verify_pipeline.errors import TrainingError
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.training import checkpoint
from verify_pipeline.training.averages import Averages
from verify_pipeline.training.batch_norm import batch_norms, recompute_statistics
from verify_pipeline.training.batches import Batches
from verify_pipeline.training.evaluate import evaluate
from verify_pipeline.training.initialise import ibp_init
from verify_pipeline.training.noise import noisy_weights
from verify_pipeline.training.observer import Silent, TrainObserver
from verify_pipeline.training.schedules import epsilon_schedule, learning_rate, ramp_schedule
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.step import LossStep, StepPlan
from verify_pipeline.training.step_losses import Part, StepLosses, read_every
from verify_pipeline.training.trained import Trained, fresh_network

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

    Raises:
        ConfigError: an unknown network or loss, or batches too small for batch normalisation or
            for the processes.
        DataError: ``info`` does not describe the images, or there are too few of them.
        TrainingError: the loss is not finite, the folder's checkpoint does not fit, or the folder
            cannot be written.
        ProcessError: another process has ended.
    """
    told = observer if observer is not None and group.is_first else Silent()
    made = group.in_turn(lambda: _Training(settings, images, info, folder, told, device, group))
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
    ) -> None:
        self.group = group
        self.settings, self.info, self.folder, self.observer = settings, info, folder, observer
        self.device = torch.device(device)
        info.check_fits(images)
        held_out = settings.data.validation
        self.validation: ImageSet | None = None
        if held_out:
            images, self.validation = split_validation(images, held_out, settings.seed)
        self.identity = checkpoint.Identity(_plain(settings), _digest(images))
        self.images = images.to(self.device)
        self.module = self._network().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = next(self.module.parameters()).dtype
        self.batches = Batches.of(images, settings.optimiser, self.module, group)
        rate = settings.optimiser.learning_rate
        self.optimiser = torch.optim.Adam(self.module.parameters(), lr=rate, fused=True)
        names = ("order", "augment", "attack")
        self.generators = {
            name: torch.Generator(device=self.device if name == "attack" else "cpu").manual_seed(
                settings.seed * len(names) + place
            )
            for place, name in enumerate(names)
        }
        loss = losses.get(settings.loss.name, settings.loss.numbers)
        bounder = AutoLirpaBounder(self.module, info.shape) if loss.needs_bounds else None
        attack = self.generators["attack"]
        self.step = LossStep(self.module, bounder, loss, settings, attack, group)
        self.steps = self.batches.steps
        self.epsilon = epsilon_schedule(settings.epsilon, self.steps)
        self.alpha = ramp_schedule(settings.loss.alpha_ramp, settings.loss.alpha, self.steps)
        self.clean_weight = ramp_schedule(
            settings.loss.clean_ramp, settings.loss.clean_weight, self.steps
        )

    def _network(self) -> nn.Module:
        """Fresh weights that depend on the seed alone, not on what ran before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            module = fresh_network(self.settings.network, self.info)
            if self.settings.regulariser.ibp_init:
                ibp_init(module)
        return module

    def run(self, cascade: Cascade | None, until: Until) -> Trained:
        """All epochs that are left, or fewer."""
        progress = self._continue()
        metrics = progress.metrics
        epochs = self.settings.optimiser.epochs
        for epoch in range(progress.epoch + 1, epochs + 1):
            self.observer.epoch_started(epoch, epochs, self.steps)
            row = self._epoch(epoch)
            row |= self._watch(epoch, cascade)
            metrics.append(row)
            self._keep(checkpoint.TrainingProgress(epoch, metrics))
            self.observer.epoch_done(row)
            if self.group.shared(partial(until, metrics)):
                break
        self.module.eval()
        return Trained(self.module, metrics, self.settings, self.validation)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        options = self.settings.optimiser
        rate = learning_rate(options.learning_rate, options.milestones, options.decay, epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        started = time.perf_counter()
        averages, told = Averages(), StepLosses(read_every(self.device), self._step_done)
        for place, batch in enumerate(self._shuffled()):
            step = (epoch - 1) * self.steps + place
            told.add(self._update(batch, step, averages))
        told.read()
        last = self._plan(epoch * self.steps - 1)
        if self.settings.batch_norm_policy == "ctbench" and batch_norms(self.module):
            batches = (self._pixels(batch)[0] for batch in self._shuffled())
            recompute_statistics(self.module, batches, self.group)
        row = {"epoch": epoch, "epsilon": last.epsilon, "alpha": last.alpha, "rate": rate}
        row |= {f"train_{name}": value for name, value in averages.values().items()}
        return row | {"seconds": time.perf_counter() - started}

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
        """One step of the optimiser; its gradient is accumulated over the parts of the batch.

        Nothing is read from the device: the host prepares steps while the device computes.
        """
        options, plan = self.settings.optimiser, self._plan(step)
        inputs = [self._pixels(part) for part in self.batches.cut(batch)]
        self._decrease_certainty(inputs, plan)
        self.optimiser.zero_grad(set_to_none=True)
        parts: list[Part] = []
        with noisy_weights(self.module, options.weight_noise, (self.settings.seed, step)):
            for images, labels in inputs:
                result = self.step(images, labels, plan)
                share = len(labels) / len(batch)
                (result.loss * (share / self.group.size)).backward()
                parts.append((result.loss.detach(), share))
                averages.count(result, len(labels))
        self.group.add_gradients(self.module)
        if options.clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), options.clip)
        self.optimiser.step()
        return parts

    def _decrease_certainty(self, inputs: list[tuple[Tensor, Tensor]], plan: StepPlan) -> None:
        """EDAC's step before the step, if there is one: no clipping, no penalties."""
        if not self.settings.loss.edac_step or plan.epsilon == 0:
            return
        self.optimiser.zero_grad(set_to_none=True)
        count = sum(len(labels) for _, labels in inputs)
        for images, labels in inputs:
            certainty = self.step.certainty(images, labels, plan)
            (certainty * (len(labels) / count / self.group.size)).backward()
        self.group.add_gradients(self.module)
        self.optimiser.step()

    def _diverged(self, got: str) -> TrainingError:
        return TrainingError(
            f"training of {self.settings.network.name}",
            expected="finite numbers",
            got=got,
            remedy="Lower the learning rate or ε, or lengthen the ramp.",
        )

    def _pixels(self, index: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.images.pixels(index, self.dtype)
        if self.settings.data.augment:
            pixels = augment(pixels, self.info.augmentation, self.generators["augment"])
        # convolutions are a tenth to a fifth faster on a CPU in this order (docs/notebook)
        return pixels.contiguous(memory_format=torch.channels_last), self.images.labels[index]

    def _watch(self, epoch: int, cascade: Cascade | None) -> dict[str, Any]:
        watch, validation = self.settings.watch, self.validation
        if validation is None or not watch.every or epoch % watch.every:
            return {}
        if not self.group.is_first:
            return {}
        looked_at = validation.subset(slice(0, watch.images))
        epsilon = self.settings.epsilon.target
        accuracies = evaluate(self.module, looked_at, epsilon, self.settings.seed)
        row: dict[str, Any] = {f"validation_{k}": v for k, v in asdict(accuracies).items()}
        if cascade is not None and watch.cascade_images:
            self.module.eval()
            row |= cascade(self.module, validation.subset(slice(0, watch.cascade_images)))
        return row

    def _continue(self) -> checkpoint.TrainingProgress:
        start = checkpoint.TrainingProgress(0, [])
        if self.folder is None:
            return start
        folder = self.folder
        found = self.group.shared(lambda: checkpoint.fitting(folder, self.identity))
        if found is None:
            return start
        checkpoint.restore(found, self.module, self.optimiser, self.generators)
        return found.progress

    def _keep(self, progress: checkpoint.TrainingProgress) -> None:
        if not all(
            bool(torch.isfinite(value).all()) for value in self.module.state_dict().values()
        ):
            raise self._diverged("a weight or statistic that is not finite")
        if self.folder is None or not self.group.is_first:
            return
        checkpoint.save(
            self.folder,
            self.module,
            self.optimiser,
            self.generators,
            progress,
            self.identity,
        )
        _write_csv(self.folder / checkpoint.METRICS, progress.metrics)


def _never(metrics: list[dict[str, Any]]) -> bool:
    """A training of all its epochs."""
    return False


def _digest(images: ImageSet) -> str:
    """SHA-256 of all labels and of about a thousand images, spread over the set."""
    sha = hashlib.sha256(f"{images.name} {images.split} {tuple(images.images.shape)}".encode())
    sha.update(images.labels.cpu().numpy().tobytes())
    sha.update(images.images[:: max(1, len(images) // 1000)].cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _plain(settings: TrainSettings) -> dict[str, Any]:
    """Settings in JSON's types: tuples become lists."""
    return {
        key: {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}
        if isinstance(value, dict)
        else value
        for key, value in asdict(settings).items()
    }


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())

"""One step of the optimiser: from the images of a batch to new weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from verify_pipeline.errors import ConfigError
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import Loss
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.training.accumulation import Part, WholeBatchStatistics, measure
from verify_pipeline.training.batch_norm import batch_norms
from verify_pipeline.training.initialise import weight_layers
from verify_pipeline.training.noise import noisy_weights
from verify_pipeline.training.optimisers import without_decay
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.step import LossStep, StepPlan, StepResult


class Updates:
    """Updates a network's weights, batch by batch, as the settings say.

    Args:
        module: the network, of pixels ``N x *X`` to logits ``N x K``.
        shape: ``*X``.
        loss: from ``losses``.
        settings: of the whole training.
        optimiser: of the module's weights.
        generator: of the attack's random starts.
        group: of processes, each of which gets the whole batch.

    Raises:
        ConfigError: the network cannot be cut where the loss attacks it, or a setting of weights
            finds no layer that it means.
        NetworkError: the network cannot be bounded or cut.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, ...],
        loss: Loss,
        settings: TrainSettings,
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
        group: ProcessGroup = ALONE,
    ) -> None:
        _check_layers(module, settings)
        self._module, self._settings = module, settings
        self._optimiser, self._group = optimiser, group
        bounder = None
        if loss.needs_bounds:
            shrinkage = settings.loss.relu_shrinkage
            bounder = AutoLirpaBounder(module, shape, relu_shrinkage=shrinkage)
        self._whole: WholeBatchStatistics | None = None
        if settings.optimiser.accumulate_statistics == "batch" and batch_norms(module):
            policy = settings.batch_norm_policy
            self._whole = WholeBatchStatistics(module, bounder, group, policy)
        self._step = LossStep(module, bounder, loss, settings, generator, group, self._whole)

    def __call__(
        self, parts: list[Part], plan: StepPlan, rate: float, number: int
    ) -> list[StepResult]:
        """One update; nothing is read from the device.

        Args:
            parts: of the batch, whose gradients are added up.
            plan: of the step.
            rate: the learning rate.
            number: of the step, which decides the noise on weights.

        Returns:
            The result of each part; its loss has no gradient any more.
        """
        options = self._settings.optimiser
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        if self._settings.loss.edac_step and plan.epsilon:
            self._decrease_certainty(parts, plan)
        self._optimiser.zero_grad(set_to_none=True)
        results: list[StepResult] = []
        with noisy_weights(self._module, options.weight_noise, (self._settings.seed, number)):
            for images, labels, points, share in self._attacked(parts, plan):
                result = self._step(images, labels, plan, points)
                (result.loss * share).backward()
                results.append(replace(result, loss=result.loss.detach()))
        self._group.add_gradients(self._module)
        if options.clip:
            nn.utils.clip_grad_norm_(self._module.parameters(), options.clip)
        self._optimiser.step()
        return results

    def _decrease_certainty(self, parts: list[Part], plan: StepPlan) -> None:
        """EDAC's step before the step: no clipping, no penalties, no decay of weights."""
        self._optimiser.zero_grad(set_to_none=True)
        for images, labels, points, share in self._attacked(parts, plan):
            (self._step.certainty(images, labels, plan, points) * share).backward()
        self._group.add_gradients(self._module)
        with without_decay(self._optimiser):
            self._optimiser.step()

    def _attacked(
        self, parts: list[Part], plan: StepPlan
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None, float]]:
        """Pixels and labels of each part, the attack's points, and the weight of its gradient.

        Points are None where the step finds them itself; statistics of the whole batch need them
        before.
        """
        count = sum(len(labels) for _, labels in parts)
        points: list[Tensor | None] = [None] * len(parts)
        if self._whole is not None:
            attack = partial(self._step.attacked, plan=plan)
            points = measure(self._whole, parts, attack, self._group)
        for (images, labels), found in zip(parts, points, strict=True):
            yield images, labels, found, len(labels) / count / self._group.size


def _check_layers(module: nn.Module, settings: TrainSettings) -> None:
    """L1 and noise are of the weights of convolution and linear layers: there has to be one."""
    options = settings.optimiser
    for name, value in (("l1", options.l1), ("weight_noise", options.weight_noise)):
        if value and not weight_layers(module):
            raise ConfigError(
                f"train.optimiser.{name}",
                expected="0 for a network without layers nn.Conv2d and nn.Linear",
                got=f"{value:g}",
            )

"""A whole training step of this package after the ramp: loss, L1, backward, clipping, Adam."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stepping.subject import Subject
from verify_pipeline import losses
from verify_pipeline.data import DataSettings
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.training.settings import (
    EpsilonSettings,
    LossName,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    TrainSettings,
)
from verify_pipeline.training.step import LossStep, StepPlan

CLIP = 10.0
RATE = 1e-6


class PackageStep:
    """The step, to be called again and again.

    Args:
        subject: network and batch.
        loss: by name.
    """

    def __init__(self, subject: Subject, loss: LossName) -> None:
        size, device = subject.size, subject.images.device
        settings = TrainSettings(
            data=DataSettings(name="cifar10"),
            network=NetworkSettings(name=size.network),
            loss=LossSettings(name=loss, alpha=size.alpha, sabr_lambda=size.sabr_lambda),
            epsilon=EpsilonSettings(
                target=size.epsilon, length=0, attack_epsilon_factor=size.attack_factor
            ),
            attack=size.attack,
            optimiser=OptimiserSettings(l1=size.l1),
        )
        chosen = losses.get(loss)
        bounder = AutoLirpaBounder(subject.module, size.shape) if chosen.needs_bounds else None
        self.generator = torch.Generator(device).manual_seed(0)
        self._step = LossStep(subject.module, bounder, chosen, settings, self.generator)
        self._subject = subject
        self._plan = StepPlan(size.epsilon, size.alpha, 0.0)
        # capturable: the count of steps is on the device, where a CUDA graph can move it
        self._optimiser = torch.optim.Adam(
            subject.module.parameters(), lr=RATE, fused=True, capturable=device.type == "cuda"
        )

    def __call__(self) -> Tensor:
        """One step; its loss, on the device."""
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._step(self._subject.images, self._subject.labels, self._plan).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self._subject.module.parameters(), CLIP)
        self._optimiser.step()
        return loss.detach()

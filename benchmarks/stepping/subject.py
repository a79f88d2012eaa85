"""What a step is measured on: network, images, loss, attack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from verify_pipeline.network import zoo
from verify_pipeline.training.initialise import ibp_init
from verify_pipeline.training.settings import AttackSettings

RECIPE_ATTACK = AttackSettings(steps=8, step_size=0.25)
"""Of the recipes for CIFAR-10 with ε = 2/255."""


@dataclass(frozen=True)
class StepSize:
    """The numbers of a step.

    Attributes:
        network: of the zoo.
        width: of the network.
        shape: of an image, ``C x H x W``.
        classes: K.
        batch: images in a step.
        epsilon: half-width of the bounded boxes.
        attack_factor: times ε is the attack's half-width.
        attack: its steps.
        l1: coefficient of Σ|W|.
        alpha: of the loss.
        sabr_lambda: SABR's λ.
    """

    network: str = "cnn7"
    width: float = 1.0
    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    batch: int = 128
    epsilon: float = 2 / 255
    attack_factor: float = 2.1
    attack: AttackSettings = RECIPE_ATTACK
    l1: float = 3e-6
    alpha: float = 4e-3
    sabr_lambda: float = 0.4


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with one batch.

    Attributes:
        size: of the step.
        module: the network.
        images: ``N x C x H x W`` in [0, 1].
        labels: ``N``.
    """

    size: StepSize
    module: nn.Module
    images: Tensor
    labels: Tensor

    @staticmethod
    def made(size: StepSize, device: torch.device, order: torch.memory_format) -> Subject:
        """Random weights and images from a fixed seed.

        Args:
            size: of the step.
            device: of network and images.
            order: of images and weights in memory.
        """
        torch.manual_seed(0)
        channels = size.shape[0]
        module = zoo.build(
            size.network,
            size.shape,
            size.classes,
            (0.4,) * channels,
            (0.3,) * channels,
            size.width,
        )
        ibp_init(module)
        images = torch.rand(size.batch, *size.shape)
        labels = torch.randint(0, size.classes, (size.batch,))
        module = module.to(device).to(memory_format=order)  # type: ignore[call-overload]
        images = images.to(device).contiguous(memory_format=order)
        return Subject(size, module, images, labels.to(device))

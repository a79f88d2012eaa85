"""Accuracies of a network while it is trained: standard, adversarial, IBP."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.data import ImageSet
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.problem import Box, margin_matrix


@dataclass(frozen=True)
class Accuracies:
    """Shares of the images, in [0, 1].

    Attributes:
        standard: classified rightly.
        adversarial: so at the end of a PGD attack too (20 steps of 0.1 half-widths).
        ibp: with all IBP margins > 0.
    """

    standard: float
    adversarial: float
    ibp: float


def evaluate(
    module: nn.Module, images: ImageSet, epsilon: float, seed: int, batch: int = 500
) -> Accuracies:
    """Measure on all the images, in eval mode; the module's mode is as before afterwards."""
    training = module.training
    module.eval()
    like = next(module.parameters())
    device = like.device
    generator = torch.Generator(device=device).manual_seed(seed)
    bounder = AutoLirpaBounder(module, tuple(images.images.shape[1:]))
    standard = adversarial = verified = 0
    for start in range(0, len(images), batch):
        part = torch.arange(start, min(start + batch, len(images)))
        pixels = images.pixels(part, like.dtype).to(device)
        labels = images.labels[part].to(device)
        box = Box.around(pixels, epsilon)
        points = pgd(
            lambda x, y=labels: F.cross_entropy(module(x), y, reduction="none"),  # type: ignore[misc]
            box,
            steps=20,
            step_size=0.1,
            generator=generator,
        )
        with torch.no_grad():
            right = module(pixels).argmax(1) == labels
            standard += int(right.sum())
            adversarial += int((right & (module(points).argmax(1) == labels)).sum())
            margins = bounder.ibp(box, margin_matrix(labels, images.classes, like.dtype))
            verified += int((margins > 0).all(1).sum())
    module.train(training)
    total = len(images)
    return Accuracies(standard / total, adversarial / total, verified / total)

"""What an epoch's metrics are averages of."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from verify_pipeline.training.step import StepResult


class Averages:
    """Means over the images of an epoch: each over those of the steps that measured it.

    What no step measured (an adversarial accuracy where the loss attacks nothing) has no mean.
    Scalars are kept on their device and read all at once, since each read makes the host wait.
    """

    def __init__(self) -> None:
        self._values: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._weights: defaultdict[str, list[int]] = defaultdict(list)
        self._images: defaultdict[str, int] = defaultdict(int)

    def count(self, result: StepResult, images: int) -> None:
        """Add a step's result, of so many images."""
        counts = {
            "clean": result.correct,
            "adversarial": result.adversarial_correct,
            "verified": result.verified,
        }
        self._add("loss", result.loss.detach(), images, images)
        for name, count in counts.items():
            if count is not None:
                self._add(name, count, 1, images)
        for name, mean in result.cross_entropies.items():
            self._add(f"{name}_loss", mean, images, images)

    def _add(self, name: str, value: Tensor, weight: int, images: int) -> None:
        self._values[name].append(value)
        self._weights[name].append(weight)
        self._images[name] += images

    def values(self) -> dict[str, float]:
        """The means by name.

        ``loss``; the shares ``clean``, ``adversarial``, ``verified``; and the cross-entropies
        ``clean_loss``, ``adversarial_loss``, ``ibp_loss``, ``latent_loss``.
        """
        return {name: self._total(name) / images for name, images in self._images.items()}

    def _total(self, name: str) -> float:
        total = 0.0
        read = torch.stack(self._values[name]).tolist()
        for value, weight in zip(read, self._weights[name], strict=True):
            total += value * weight
        return total

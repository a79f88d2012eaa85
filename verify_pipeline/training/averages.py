"""What an epoch's metrics are averages of."""

from __future__ import annotations

from collections import Counter, defaultdict

from verify_pipeline.training.step import StepResult


class Averages:
    """Means over the images of an epoch: each over those of the steps that measured it.

    What no step measured (an adversarial accuracy where the loss attacks nothing) has no mean.
    """

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._images: Counter[str] = Counter()

    def count(self, result: StepResult, images: int) -> None:
        """Add a step's result, of so many images."""
        measured: dict[str, float | None] = {
            "loss": float(result.loss.detach()) * images,
            "clean": result.correct,
            "adversarial": result.adversarial_correct,
            "verified": result.verified,
        }
        measured |= {f"{k}_loss": v * images for k, v in result.cross_entropies.items()}
        for name, value in measured.items():
            if value is not None:
                self._sums[name] += value
                self._images[name] += images

    def values(self) -> dict[str, float]:
        """The means by name.

        ``loss``; the shares ``clean``, ``adversarial``, ``verified``; and the cross-entropies
        ``clean_loss``, ``adversarial_loss``, ``ibp_loss``.
        """
        return {name: self._sums[name] / images for name, images in self._images.items()}

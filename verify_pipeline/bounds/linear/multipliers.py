"""Fixed multipliers α and β, in the form that a backward pass takes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from verify_pipeline.bounds.relaxations.base import Choice
from verify_pipeline.bounds.types import Multipliers, Splits


@dataclass(frozen=True, eq=False)
class FixedMultipliers(Choice):
    """α and β of all neurons of one node.

    Attributes:
        alpha: ``N x S x *V`` or ``N x 1 x *V`` in [0, 1]; for a product, of its pairs ``*P``. None:
            the default slopes.
        charges: ``β s``, ``N x S x *V`` or ``N x 1 x *V``; None: no splits or no β.
    """

    alpha: Tensor | None
    charges: Tensor | None

    def slopes(self, least: Tensor, span: Tensor, usual: Tensor) -> Tensor:
        """The slopes ``least + α span``, or the default slopes without α."""
        return usual if self.alpha is None else least + self.alpha * span

    def charge(self, pulled: Tensor) -> Tensor:
        """The coefficients ``N x S x *V`` minus ``β s``."""
        return pulled if self.charges is None else pulled - self.charges

    def positions(self) -> Tensor | None:
        """α as plane positions, unchanged."""
        return self.alpha


def fixed_multipliers(multipliers: Multipliers | None, splits: Splits | None) -> dict[int, Choice]:
    """The choice of every node that has multipliers; β counts only where a neuron is split."""
    if multipliers is None:
        return {}
    splits = splits or {}
    # values out of range would prove nothing, so they are clamped
    charges = {
        place: beta.clamp(min=0) * splits[place].unsqueeze(1)
        for place, beta in multipliers.beta.items()
        if place in splits
    }
    alphas = {place: alpha.clamp(0, 1) for place, alpha in multipliers.alpha.items()}
    places = alphas.keys() | charges.keys()
    return {place: FixedMultipliers(alphas.get(place), charges.get(place)) for place in places}

"""Multipliers α and β that are given, as a walk takes them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from verify_pipeline.bounds.relaxations.base import Choice
from verify_pipeline.bounds.types import Multipliers, Splits


@dataclass(frozen=True, eq=False)
class FixedMultipliers(Choice):
    """α and β of one node, given for all of its neurons.

    Attributes:
        alpha: ``N x S x *V`` or ``N x 1 x *V`` in [0, 1] (of a product: of its pairs ``*P``);
            None: the usual slopes.
        charges: ``β s``, ``N x S x *V`` or ``N x 1 x *V``; None: no splits or no β.
    """

    alpha: Tensor | None
    charges: Tensor | None

    def slopes(self, least: Tensor, span: Tensor, usual: Tensor) -> Tensor:
        """``least + α span``, as :class:`Choice` asks for, or the usual ones without α."""
        return usual if self.alpha is None else least + self.alpha * span

    def charge(self, pulled: Tensor) -> Tensor:
        """The coefficients ``N x S x *V`` less ``β s``."""
        return pulled if self.charges is None else pulled - self.charges

    def positions(self) -> Tensor | None:
        """α as it is given."""
        return self.alpha


def fixed_multipliers(multipliers: Multipliers | None, splits: Splits | None) -> dict[int, Choice]:
    """The choice of every node that ``multipliers`` speak of; β counts only where a split is."""
    if multipliers is None:
        return {}
    splits = splits or {}
    # what is out of range would prove nothing, so it is brought back
    charges = {
        place: beta.clamp(min=0) * splits[place].unsqueeze(1)
        for place, beta in multipliers.beta.items()
        if place in splits
    }
    alphas = {place: alpha.clamp(0, 1) for place, alpha in multipliers.alpha.items()}
    places = alphas.keys() | charges.keys()
    return {place: FixedMultipliers(alphas.get(place), charges.get(place)) for place in places}

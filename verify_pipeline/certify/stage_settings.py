"""Settings of single stages that decide which verdict an instance can get."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from verify_pipeline.bounds import OptimiseSettings
from verify_pipeline.settings import STRICT, Count, NonNegative, Positive, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StageShares:
    """How much of the seconds that an instance has left one stage may take.

    Without a share, bounds of one large box can take all of them, and nothing is left to the
    search. CROWN's share is the greatest because everything later rests on its bounds: with one
    half, 5 of 16 properties of vision transformers were decided in 3 s; with three quarters 7, as
    many as with all. Other stages may take everything, and so may the last one.

    Attributes:
        attack: of the attack.
        crown: of CROWN.
        alpha_crown: of α-CROWN.
    """

    attack: Share = 1 / 4
    crown: Share = 3 / 4
    alpha_crown: Share = 1 / 2

    def of(self, stage: str) -> float:
        """The share of the stage of that name; 1 for a stage without one."""
        shares = {"attack": self.attack, "crown": self.crown, "alpha-crown": self.alpha_crown}
        return shares.get(stage, 1.0)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AlphaCrownSettings:
    """The α-CROWN stage, beside the ascent on the margins (``search.root``).

    Attributes:
        neurons: ascent on the bounds of single neurons, where these decide more than splits do. On
            a vision transformer, 10 steps moved margins of 0.7 by another 0.005.
        neuron_walks: walks through the network that one step of one neuron's bound is expected to
            cost; the neurons' bounds are optimised only if all of their steps fit in the time.
        stop_above: float32 bound above which a margin's ascent stops. It exceeds 0 because float64
            has to confirm the bound.
    """

    neurons: OptimiseSettings = OptimiseSettings(iterations=5, lr_alpha=0.25, lr_planes=0.25)
    neuron_walks: Positive = 1.5
    stop_above: NonNegative = 1e-4


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FewInputSettings:
    """When boxes are split at their inputs before ReLUs are split.

    Attributes:
        few_inputs: free inputs (those with an interval) up to which boxes are split, if CROWN is
            fast enough.
        very_few_inputs: free inputs up to which boxes are split however slow CROWN is.
        affordable: share of an instance's time that CROWN may take on one box, if it has more than
            ``very_few_inputs`` free inputs.
        patience: once a split is expected to take more than this many times its seconds, ReLUs are
            split as well.
    """

    few_inputs: Count = 16
    very_few_inputs: Count = 4
    affordable: NonNegative = 1 / 200
    patience: Positive = 3.0

"""What verdicts at several ε say of the radius of one image: an interval that holds it.

The *radius* of an image is the supremum of the ε at which the specification holds in its whole box.
Boxes of one image are nested, limit by limit, also after rounding and clipping. So a proof at ε is
one for every smaller ε, and a counterexample is one for every ε that is at least its distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType

from torch import Tensor

from verify_pipeline.errors import ConfigError

MOST_DENOMINATOR = 10**6
"""Fractions that people type for an ε, such as 16/255, have smaller denominators."""

MOST_STEPS = 10_000


def epsilon_grid(largest: float, steps: int) -> tuple[float, ...]:
    """The ε ``largest k / steps`` for k from 1 to ``steps``, each rounded once.

    They equal the numbers that a person would type: of 16/255 in 16 steps, the third is 3/255. So
    verdicts at the same ε meet in one run of a ledger.

    Args:
        largest: ε, in (0, 1].
        steps: how many, at least 1.

    Raises:
        ConfigError: one of the two is out of its range.
    """
    if not 0 < largest <= 1:
        raise ConfigError("largest epsilon", expected="above 0, and at most 1", got=str(largest))
    if not 1 <= steps <= MOST_STEPS:
        raise ConfigError("steps", expected=f"from 1 to {MOST_STEPS}", got=str(steps))
    meant = meant_fraction(largest)
    grid = tuple(float(meant * k / steps) for k in range(1, steps + 1))
    if len(set(grid)) < steps or grid[0] == 0:
        raise ConfigError(
            "steps",
            expected="steps that float64 can tell apart",
            got=f"{steps} up to {largest}",
        )
    return grid


def meant_fraction(value: float) -> Fraction:
    """The fraction that a float64 number was typed as: a simple one, else its shortest decimal."""
    simple = Fraction(value).limit_denominator(MOST_DENOMINATOR)
    return simple if float(simple) == value else Fraction(repr(float(value)))


def distance(point: Tensor, image: Tensor) -> float:
    """The L∞ distance of a point ``*X`` from an image ``*X``, rounded up to a float64 number.

    A point inside the box of some ε lies in the box of every ε that is not below this number, too:
    rounding is monotone, so the rounded limits of that box are beyond the point.
    """
    found = float((point.double() - image.double()).abs().max())
    return found if found == 0 else math.nextafter(found, math.inf)


@dataclass(frozen=True)
class Bracket:
    """The verdicts on one image at several ε, and the interval that they leave for its radius.

    Attributes:
        verified: ε at which the image is VERIFIED.
        falsified: the least ε at which it is known to be FALSIFIED; inf: none.
        tied: whether that ε is one at which the image is tied as deployed, without a stored
            counterexample.
        unknown: why the image stayed UNKNOWN, by ε.
        verdicts: how many there are.
        seconds: charged to the image, for all of them.
    """

    verified: tuple[float, ...] = ()
    falsified: float = math.inf
    tied: bool = False
    unknown: Mapping[float, str] = field(default_factory=lambda: MappingProxyType({}))
    verdicts: int = 0
    seconds: float = 0.0

    def with_proof(self, epsilon: float) -> Bracket:
        """With a proof at ε."""
        return replace(self, verified=(*self.verified, epsilon))

    def with_counterexample(self, epsilon: float, tied: bool = False) -> Bracket:
        """With a counterexample in the box of ε, or with a tie as deployed there."""
        if epsilon >= self.falsified:
            return self
        return replace(self, falsified=epsilon, tied=tied)

    def with_failure(self, epsilon: float, reason: str) -> Bracket:
        """With an attempt at ε that decided nothing."""
        return replace(self, unknown={**self.unknown, epsilon: reason})

    def charged(self, seconds: float) -> Bracket:
        """With one more verdict, which took so many seconds."""
        return replace(self, verdicts=self.verdicts + 1, seconds=self.seconds + seconds)

    @property
    def lower(self) -> float:
        """The largest ε with a proof, 0 where there is none.

        Where a counterexample contradicts a proof, it counts, not the proof.
        """
        return max((each for each in self.verified if each < self.falsified), default=0.0)

    @property
    def contradicted(self) -> bool:
        """Whether a counterexample lies in a box that was verified."""
        return not self.tied and any(each >= self.falsified for each in self.verified)

    @property
    def failures(self) -> Mapping[float, str]:
        """The failed attempts between both ends, in order."""
        between = (each for each in self.unknown if self.lower < each < self.falsified)
        return {epsilon: self.unknown[epsilon] for epsilon in sorted(between)}

    def next_epsilon(self, grid: Sequence[float]) -> float | None:
        """The ε of the grid that halves what is open; None: nothing is.

        Beyond an ε that stayed UNKNOWN, a smaller one may be verified and a larger one falsified.
        What lies between two such ε is not tried.

        Args:
            grid: ascending.
        """
        open_ = [each for each in grid if self.lower < each < self.falsified]
        failed = tuple(self.failures)
        if failed:
            below = [each for each in open_ if each < failed[0]]
            open_ = below or [each for each in open_ if each > failed[-1]]
        return open_[len(open_) // 2] if open_ else None

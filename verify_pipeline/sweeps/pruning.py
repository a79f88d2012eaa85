"""When a training of a tuning is ended early, because others are far ahead of it.

Optuna's pruners compare one intermediate value; a study of several objectives has none. Here a
training is looked at on two rungs, after a third and after two thirds of its epochs: its standard
and its IBP-verified accuracy on the validation images. It ends there if enough others, which went
on to the end, were ahead of it in both by a margin on the same rung.

IBP's accuracy is no estimate of what complete verification will prove: a network of small α has
0 % by IBP, and may be the best of all. It is not ended for that, as its standard accuracy is high.
docs/sweeps.md has what the rule saved, and which other rules took a point off the front.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.dataclasses import dataclass as checked_dataclass

from verify_pipeline.settings import STRICT, PositiveCount, Share, Switch

PARTS = 3
"""Parts of a training, between which the rungs are."""

RungPoints = Mapping[int, tuple[float, float]]
"""Standard and IBP-verified accuracy, shares of the validation images, by rung from 1."""


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class PruningRule:
    """Who is far behind.

    Attributes:
        margin: share of the images by which a rival is ahead in both accuracies; in (0, 1].
        rivals: how many have to be ahead.
        active: whether trainings are ended at all; rungs are measured in any case.
    """

    margin: Share = 0.1
    rivals: PositiveCount = 3
    active: Switch = True

    def far_behind(self, point: tuple[float, float], rivals: Iterable[tuple[float, float]]) -> bool:
        """Whether enough rivals on the same rung are ahead in both by the margin."""
        ahead = sum(
            all(r >= p + self.margin for p, r in zip(point, rival, strict=True)) for rival in rivals
        )
        return ahead >= self.rivals


def watch_every(epochs: int) -> int:
    """Epochs between two rungs of a training."""
    return max(1, epochs // PARTS)


def rung_points(
    metrics: Sequence[Mapping[str, Any]], epochs: int
) -> dict[int, tuple[float, float]]:
    """The rungs of a training, of its metrics by epoch."""
    every = watch_every(epochs)
    found = {}
    for row in metrics:
        rung, rest = divmod(int(row["epoch"]), every)
        if rest == 0 and 0 < rung < PARTS and "validation_ibp" in row:
            found[rung] = (float(row["validation_standard"]), float(row["validation_ibp"]))
    return found


@dataclass(frozen=True)
class PruningReplay:
    """What the rule would have done to a study whose trainings all went to the end.

    Attributes:
        ended: places of the trainings that would have been ended, with the rung.
        saved: share of all epochs that would not have been trained.
    """

    ended: Mapping[int, int]
    saved: float


def replay(trainings: Sequence[RungPoints], rule: PruningRule) -> PruningReplay:
    """Apply the rule to trainings in their order; those that it ends are no rivals afterwards.

    Args:
        trainings: the rungs of each; all are taken to have equally many epochs.
        rule: that is tried.
    """
    rivals: list[RungPoints] = []
    ended: dict[int, int] = {}
    for place, points in enumerate(trainings):
        for rung in sorted(points):
            others = [other[rung] for other in rivals if rung in other]
            if rule.far_behind(points[rung], others):
                ended[place] = rung
                break
        else:
            rivals.append(points)
    saved = sum((PARTS - rung) / PARTS for rung in ended.values())
    return PruningReplay(ended, saved / max(1, len(trainings)))

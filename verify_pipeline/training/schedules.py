"""Values that change while training: ε and α as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from verify_pipeline.training.settings import EpsilonSettings, Ramp

Schedule = Callable[[int], float]
"""From the step (batches since the start, counted from 0) to the value."""

MIDDLE = 0.25
POWER = 4.0


def smoothed(step: int, first: int, last: int) -> float:
    """A ramp from 0 at step ``first`` to 1 at step ``last``: a power curve, then a line.

    auto_LiRPA's SmoothedScheduler (from Gowal et al. 2018): up to the middle step ``m`` (a quarter
    of the way) ``a (step - first)^4``, then linear, with ``a`` such that value and slope agree at
    ``m``: ``a = 1 / ((4 (last - m) + (m - first)) (m - first)^3)``.
    """
    if step <= first:
        return 0.0
    if step >= last:
        return 1.0
    middle = first + int((last - first) * MIDDLE)
    curved, straight = middle - first, last - middle
    if curved == 0:
        return (step - first) / (last - first)
    factor = 1.0 / ((straight * POWER + curved) * math.pow(curved, POWER - 1))
    if step < middle:
        return math.pow(step - first, POWER) * factor
    at_middle = math.pow(curved, POWER) * factor
    return at_middle + (1.0 - at_middle) * (step - middle) / straight


def linear(step: int, first: int, last: int) -> float:
    """A straight ramp from 0 at step ``first`` to 1 at step ``last``."""
    if step >= last:
        return 1.0
    return 0.0 if step <= first else (step - first) / (last - first)


def stairs(step: int, first: int, last: int, count: int) -> float:
    """A staircase: 0 before step ``first``, then ``1/count``, ``2/count``, …, and 1 from the last.

    CTBench's ``step`` schedule (Mao et al. 2024, arXiv:2406.04848): ``count`` stairs of one length
    between ``first`` and ``last``, of which the last one has the full value already.
    """
    if step < first:
        return 0.0
    if step >= last:
        return 1.0
    return ((step - first) * count // (last - first) + 1) / count


def epsilon_schedule(settings: EpsilonSettings, steps_per_epoch: int) -> Schedule:
    """ε of the training bounds: 0 before ``start``, then as the shape says to the full ε.

    The full ε is target × train_factor. ``linear`` is that of CTBench, and of CTRAIN up to one
    step.
    """
    target = settings.target * settings.train_factor
    first = (settings.start - 1) * steps_per_epoch
    last = first + settings.length * steps_per_epoch
    count = settings.length // settings.stair
    shares: dict[str, Callable[[int, int, int], float]] = {
        "smoothed": smoothed,
        "linear": linear,
        "step": partial(stairs, count=count),
    }
    share = shares[settings.shape]
    return lambda step: target * share(step, first, last)


def ramp_schedule(ramp: Ramp, target: float, steps_per_epoch: int) -> Schedule:
    """A value that goes from ``ramp.start_value`` to ``target`` as the ramp says."""
    if ramp.shape == "constant":
        return lambda step: target
    share = linear if ramp.shape == "linear" else smoothed
    first = (ramp.start - 1) * steps_per_epoch
    last = first + ramp.length * steps_per_epoch

    def value(step: int) -> float:
        part = share(step, first, last)
        return ramp.start_value * (1 - part) + target * part

    return value


def learning_rate(start: float, milestones: tuple[int, ...], decay: float, epoch: int) -> float:
    """The rate in ``epoch`` (counted from 1): times ``decay`` after each milestone's epoch."""
    return start * decay ** sum(epoch > milestone for milestone in milestones)

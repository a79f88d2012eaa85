"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from verify_pipeline.training.optimiser_settings import OptimiserSettings
from verify_pipeline.training.schedules import Schedule, learning_rate, linear


def rate_schedule(settings: OptimiserSettings, steps_per_epoch: int) -> Schedule:
    """The learning rate of each step.

    During the warm-up it is ``(step + 1) / W`` times the rate, with W steps of warm-up (Goyal et
    al. 2017, arXiv:1706.02677, section 2.2). Milestones change it between epochs, the other
    schedules with each step.
    """
    rise, total = settings.warm_up * steps_per_epoch, settings.epochs * steps_per_epoch
    rate = settings.learning_rate

    def milestones(step: int) -> float:
        epoch = step // steps_per_epoch + 1
        return learning_rate(rate, settings.milestones, settings.decay, epoch)

    def cosine(step: int) -> float:
        return rate * cosine_share(step, rise, total, settings.end_factor)

    def one_cycle(step: int) -> float:
        return rate * cycle_share(step, rise, total, settings.start_factor, settings.end_factor)

    def warmed(after: Schedule) -> Schedule:
        return lambda step: rate * (step + 1) / rise if step < rise else after(step)

    if settings.schedule == "one-cycle":
        return one_cycle
    return warmed(cosine if settings.schedule == "cosine" else milestones)


def cosine_share(step: int, first: int, last: int, end: float) -> float:
    """``end + (1 - end) (1 + cos(π t)) / 2`` with ``t = (step - first) / (last - first)``.

    Loshchilov and Hutter 2017 (arXiv:1608.03983), eq. 5, without restarts and with t moved at each
    step. ``last`` is the first step behind the training, so the last step's share is above ``end``.

    Args:
        step: at least ``first``.
        first: where the share is 1.
        last: where it would be ``end``.
        end: in [0, 1].
    """
    passed = (step - first) / (last - first)
    return end + (1 - end) * (1 + math.cos(math.pi * passed)) / 2


def cycle_share(step: int, rise: int, total: int, start: float, end: float) -> float:
    """The rate as a share of its peak, in one cycle of straight lines.

    Smith and Topin 2017 (arXiv:1708.07120), "1cycle": ``rise`` steps up from ``start`` to 1, as
    many down to ``start``, and for the rest of the steps on to ``start`` times ``end``, which would
    be reached at ``total``. Momentum stays as it is.

    Args:
        step: from 0.
        rise: steps of the rise, and of the fall; at least 1.
        total: steps of the training, at least ``2 * rise``.
        start: in (0, 1].
        end: in [0, 1].
    """
    if step < 2 * rise:
        height = linear(step, 0, rise) - linear(step, rise, 2 * rise)
        return start + (1 - start) * height
    return start * (1 - (1 - end) * linear(step, 2 * rise, total))

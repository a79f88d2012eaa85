"""Detects accuracies that guessing reaches, a sign of wrong labels or wrong preprocessing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from verify_pipeline import data
from verify_pipeline.certify.preprocessing import Preprocessing

LEAST_IMAGES = 50
"""With fewer images, the accuracy is not significant."""

SIGNIFICANCE = 0.01


def is_like_guessing(right: int, images: int, classes: int) -> bool:
    """Whether guessing gets this many images or more right with a probability of at least 1 %.

    Args:
        right: images classified rightly.
        images: all of them.
        classes: K; each guess is right with probability 1/K.
    """
    chance = 1 / classes
    fewer = math.fsum(
        math.exp(
            math.lgamma(images + 1)
            - math.lgamma(count + 1)
            - math.lgamma(images - count + 1)
            + count * math.log(chance)
            + (images - count) * math.log1p(-chance)
        )
        for count in range(right)
    )
    return 1 - fewer >= SIGNIFICANCE


def remarks_on(
    right: int, images: int, classes: int, data_set: str, preprocessing: Preprocessing
) -> tuple[str, ...]:
    """What to check before believing these verdicts; nothing if they look plausible.

    Args:
        right: images that are classified rightly as they are.
        images: all of them.
        classes: outputs of the network.
        data_set: its name.
        preprocessing: that was asked for.
    """
    if classes < 2 or images < LEAST_IMAGES:
        return ()
    if not is_like_guessing(right, images, classes):
        return ()
    checks = ["that these are the images and labels of this network"]
    order = data.class_order(data_set)
    if order is not None:
        other = "published" if order == "sorted" else "sorted"
        checks.append(f"the order of the classes (it is {order}; --class-order {other})")
    if preprocessing.mean or preprocessing.std:
        checks.append(f"the normalisation of its pixels (it is {preprocessing.name})")
    else:
        checks.append("whether the network wants normalised pixels (--mean and --std)")
    return (
        f"{right} of {images} images are classified rightly, no more than by guessing "
        f"among {classes} classes; check {_listed(checks)}",
    )


def _listed(checks: Sequence[str]) -> str:
    """Two or more as a sentence lists them: ``a, b and c``."""
    return f"{', '.join(checks[:-1])} and {checks[-1]}"

"""Verdicts about the file as it is deployed, against sums in every order.

The package proves what the file's real-valued function does. Once it can be asked about the file's
own arithmetic, this family asks it, about networks that cancel on purpose. Its truth is then a
sampler: :func:`permuted` evaluates a dense network in float32 with sums in a random order, and a
point of the box at which one of these evaluations breaks a row refutes VERIFIED.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from tests.soundness.contract import Array, Family, Trial


def permuted(
    rng: Generator, layers: Sequence[tuple[Array, Array]], point: Array, flush: bool = False
) -> Array:
    """The outputs of dense layers with ReLUs between them, each sum in an order of its own.

    Args:
        rng: draws the orders.
        layers: weights ``O x I`` and biases ``O``, float32.
        point: ``I`` float32.
        flush: whether denormal results become zero.

    Returns:
        ``K`` float32.
    """
    value = point.astype(np.float32)
    for place, (weight, bias) in enumerate(layers):
        if place:
            value = np.maximum(value, np.float32(0))
        terms = np.concatenate([weight * value, bias[:, None]], axis=1).astype(np.float32)
        sums = []
        for row in terms:
            total = np.float32(0)
            for term in rng.permutation(row):
                total = np.float32(total + term)
                if flush and abs(total) < np.finfo(np.float32).tiny:
                    total = np.float32(0)
            sums.append(total)
        value = np.array(sums, np.float32)
    return value


def _trial(rng: Generator, number: int) -> Trial:
    raise NotImplementedError("the package cannot be asked about a file's own arithmetic yet")


FAMILY = Family(
    "as-deployed", _trial, share=0, least=0, small=0, missing="verdicts about a file's arithmetic"
)

"""Which class an open image may become: the one whose margin is bounded worst."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from verify_pipeline.certify.output_bounds import output_bounds
from verify_pipeline.certify.questions import AskedQuestion

MEMORY = 1 << 31
"""Bytes that a batch may take, about."""


def threats(asked: AskedQuestion, indices: Sequence[int], device: torch.device) -> dict[int, int]:
    """The class j of the least CROWN bound of ``f_y - f_j``, by image.

    An image of which no bound is finite is left out.

    Args:
        asked: of the specification ``margins``: S = K - 1 rows.
        indices: of the images, at least one.
        device: where to compute.

    Raises:
        NetworkError: the network cannot be bounded by CROWN.
        ConfigError: memory runs out for a single image.
    """
    batch = asked.instances.batch(indices)
    lower = output_bounds(asked.network, batch.box, batch.spec, "crown", device, MEMORY).lower
    found = {}
    for index, bounds in zip(indices, lower.cpu(), strict=True):
        label = asked.instances.label(index)
        if label is not None and bool(torch.isfinite(bounds).any()):
            row = int(bounds.nan_to_num(neginf=torch.inf).argmin())
            found[index] = row if row < label else row + 1
    return found

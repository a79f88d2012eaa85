"""From float64 bounds to decisions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from verify_pipeline.problem import Decision, Reason, Specification, Status


def decisions(spec: Specification, lower: Tensor) -> Iterator[Decision]:
    """VERIFIED if all lower bounds are finite, and > 0 except for the rows that may fail.

    Args:
        spec: ``N`` specifications of S rows.
        lower: ``N x S`` float64 lower bounds of their rows.
    """
    if lower.dtype != torch.float64:
        raise ValueError(f"a verdict needs float64 bounds, not {lower.dtype}")
    least = spec.least(lower).tolist()  # NaN in any row makes it NaN
    finite = torch.isfinite(lower).all(1).tolist()
    for place, bound in enumerate(least):
        if finite[place]:
            status = Status.VERIFIED if bound > 0 else Status.UNKNOWN
            yield Decision(place, status, bound=bound)
        else:
            known = None if math.isnan(bound) or math.isinf(bound) else bound
            yield Decision(place, Status.UNKNOWN, bound=known, reason=Reason.NOT_FINITE)

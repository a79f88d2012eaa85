"""From float64 bounds to decisions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.certify.contract import Task
from verify_pipeline.problem import Decision, Reason, Specification, Status


def decisions(
    spec: Specification, lower: Tensor, asked: Specification | None = None
) -> Iterator[Decision]:
    """VERIFIED if all lower bounds are finite, and > 0 except for the rows that may fail.

    Args:
        spec: ``N`` specifications of S rows.
        lower: ``N x S`` float64 lower bounds of their rows.
        asked: easier specifications of the same rows, for which the reason tells those that they
            are proved of; None: there are none.
    """
    if lower.dtype != torch.float64:
        raise ValueError(f"a verdict needs float64 bounds, not {lower.dtype}")
    least = spec.least(lower).tolist()  # NaN in any row makes it NaN
    finite = torch.isfinite(lower).all(1).tolist()
    proved = [False] * len(least)
    if asked is not None and asked is not spec:
        easier = lower + (asked.offsets - spec.offsets)
        proved = (asked.least(easier) > 0).tolist()
    for place, bound in enumerate(least):
        if finite[place]:
            status = Status.VERIFIED if bound > 0 else Status.UNKNOWN
            reason = Reason.ROUNDING if status is Status.UNKNOWN and proved[place] else None
            yield Decision(place, status, bound=bound, reason=reason)
        else:
            known = None if math.isnan(bound) or math.isinf(bound) else bound
            yield Decision(place, Status.UNKNOWN, bound=known, reason=Reason.NOT_FINITE)


def of_rounding(found: Decision, task: Task) -> Decision:
    """A search's decision, with its own reason where the margin is within the rounding.

    An input whose margin is at most what rounding changes breaks the harder specification only: its
    replay does not falsify.
    """
    harder = task.required is not task.spec
    if harder and found.reason is Reason.NOT_REPLAYED:
        return replace(found, reason=Reason.ROUNDING)
    return found

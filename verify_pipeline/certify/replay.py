"""Replay of counterexamples: FALSIFIED always means that onnxruntime confirmed it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.certify.contract import Replay, Subject, Task
from verify_pipeline.problem import Box, Counterexample, Specification
from verify_pipeline.rounding import nearest_within


def confirm(
    replay: Replay, box: Box, spec: Specification, points: Tensor, dtype: torch.dtype
) -> list[Counterexample | None]:
    """Replay candidates, and keep those that break their specifications.

    They are first replayed in one batch. Those that break their specification are replayed again
    one by one, since a batch may be rounded differently.

    Args:
        replay: the network's own file.
        box: float64, ``N``.
        spec: float64, ``N``.
        points: ``N x *X`` candidates.
        dtype: that the network takes. A candidate is moved to the nearest of its numbers in the
            box, since the network would round any other, perhaps out of the box.

    Returns:
        For each candidate the counterexample, or None where the point leaves its box, its output is
        not finite, or the specification holds.
    """
    if len(points) == 0:
        return []
    box, spec = box.to("cpu"), spec.to("cpu")
    points = nearest_within(points.detach().cpu(), box.lower, box.upper, dtype)
    found: list[Counterexample | None] = [None] * len(points)
    broken = box.contains(points.double()) & _breaks(spec, replay(points).cpu())
    for n in broken.nonzero().flatten().tolist():
        found[n] = _alone(replay, spec[n : n + 1], points[n])
    return found


def _breaks(spec: Specification, outputs: Tensor) -> Tensor:
    """Whether outputs ``N x K`` are finite and break their specifications, ``N`` booleans."""
    margins = spec.least(spec.values(outputs.double()))
    return torch.isfinite(outputs).all(1) & torch.isfinite(margins) & (margins <= 0)


def _alone(replay: Replay, spec: Specification, point: Tensor) -> Counterexample | None:
    """The counterexample at a point ``*X``, as the network answers it by itself."""
    output = replay(point.unsqueeze(0)).cpu()
    if not bool(_breaks(spec, output)):
        return None
    margin = float(spec.least(spec.exact_values(output)))
    if margin > 0:  # as a sum of float64 numbers, it was rounded to 0 or below
        return None
    return Counterexample(point.clone(), output[0].clone(), margin)


def replay_of(subject: Subject, task: Task) -> Callable[[int, Tensor], Counterexample | None]:
    """What a search asks of points ``*X`` of a task's instances, by their places."""

    def replay(place: int, point: Tensor) -> Counterexample | None:
        one, dtype = slice(place, place + 1), subject.input_dtype
        points = point.unsqueeze(0)
        (found,) = confirm(subject.replay, task.box[one], task.spec[one], points, dtype)
        return found

    return replay

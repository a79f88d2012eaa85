"""Counterexamples by replay: nothing is FALSIFIED that onnxruntime does not confirm."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from verify_pipeline.certify.contract import Replay
from verify_pipeline.problem import Box, Counterexample, Specification


def confirm(
    replay: Replay, box: Box, spec: Specification, points: Tensor
) -> list[Counterexample | None]:
    """Replay candidates, and keep those that do break their specifications.

    Args:
        replay: the network's own file.
        box: float64, ``N``.
        spec: float64, ``N``.
        points: ``N x *X`` float32 candidates.

    Returns:
        For each candidate the counterexample, or None where the point leaves its box, its output is
        not finite, or the specification holds.
    """
    if len(points) == 0:
        return []
    points = points.detach().cpu()
    box, spec = box.to("cpu"), spec.to("cpu")
    outputs = replay(points).cpu()
    margins = spec.least(spec.values(outputs.double())).tolist()
    inside = (box.contains(points.double()) & torch.isfinite(outputs).all(1)).tolist()
    return [
        Counterexample(points[n].clone(), outputs[n].clone(), margins[n])
        if inside[n] and math.isfinite(margins[n]) and margins[n] <= 0
        else None
        for n in range(len(points))
    ]

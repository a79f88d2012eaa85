"""Optimised slopes of a root's open rows (α-CROWN), as the bytes of a proof."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from verify_pipeline.bounds import OptimiseSettings, StopRule, optimise
from verify_pipeline.problem import Specification
from verify_pipeline.proving.aligned import Aligned
from verify_pipeline.proving.root import Floats, Root

STOP_ABOVE = 0.02
"""The ascent of a row stops once its bound is at least this share of the gap above zero: slopes
lose some of it when they become bytes."""


def optimised_slopes(
    aligned: Aligned, root: Root, settings: OptimiseSettings
) -> tuple[NDArray[np.uint8], dict[int, torch.Tensor]]:
    """Slopes of the R open rows: as bytes ``S x columns``, and ``R x *V`` for each activation."""
    rows = np.flatnonzero(root.open_rows)
    count = len(rows)
    which = torch.zeros(count, dtype=torch.int64)
    single = torch.float32
    gap = torch.from_numpy(root.bounds(rows)).abs().to(single)
    _, found = optimise(
        aligned.graph.to(single),
        aligned.box(root).to(single)[which],
        specification(root, rows).to(single),
        aligned.bounds(root)[which].to(single),
        settings,
        until=StopRule(STOP_ABOVE * gap),
    )
    alpha = {place: values[:, 0] for place, values in found.alpha.items()}
    alpha = {p: alpha.get(p, _zeros(aligned, p, count)) for p in aligned.activations}
    whole = np.zeros((len(root.open_rows), sum(map(len, root.columns))), dtype=np.uint8)
    whole[rows] = as_bytes(aligned.columns(root, alpha))
    return whole, alpha


def _zeros(aligned: Aligned, place: int, count: int) -> torch.Tensor:
    return torch.zeros(count, *aligned.graph.nodes[place].shape)


def specification(root: Root, rows: NDArray[np.int64]) -> Specification:
    """A specification for each of some rows, ``R x 1 x K``."""
    chosen = torch.from_numpy(root.claim.rows[rows]).unsqueeze(1)
    return Specification(chosen, torch.from_numpy(root.claim.offsets[rows]).unsqueeze(1))


def as_bytes(alpha: Floats) -> NDArray[np.uint8]:
    """Numbers in [0, 1] as 0 to 255."""
    return np.rint(np.clip(np.nan_to_num(alpha), 0, 1) * 255).astype(np.uint8)

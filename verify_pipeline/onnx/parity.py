"""Compares a graph with its file: does what runs the file compute the function that is bounded?

The graph is in float64, so a difference is either onnxruntime's rounding or a fault. Evaluating the
graph in float32 shows how large rounding may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from verify_pipeline.errors import NetworkError
from verify_pipeline.network.graph import Graph
from verify_pipeline.onnx.half import HALVES

TOLERANCE = 1e-4
"""Greatest :func:`relative_difference` from onnxruntime that is let pass.

Networks of VNN-COMP, in onnxruntime's float32, stay below 6e-6.
"""

ROUNDINGS = 100
"""Times its own rounding in float32 that an output may differ beside.

onnxruntime adds in another order and approximates functions otherwise: networks of VNN-COMP differ
by up to 31 times.
"""

HALF_ROUNDINGS = 16
"""The same in half precision, whose roundings are so large that 100 would hide everything."""

REMEDY = "The file may mix the inputs of a batch; otherwise please report it."

ONNXRUNTIME = "onnxruntime"
"""What runs a file, unless it is in a half precision that onnxruntime does not run."""

Replay = Callable[[Tensor], Tensor]


def check_at_random(
    graph: Graph,
    replay: Replay,
    dtype: torch.dtype,
    source: str,
    precision: torch.dtype = torch.float32,
    runner: str = ONNXRUNTIME,
) -> float:
    """Compare a graph with onnxruntime on random inputs, one alone and five in a batch.

    Args:
        graph: float64, ``N x *X`` to ``N x K``.
        replay: its file in onnxruntime.
        dtype: of the file's input.
        source: how messages name it.
        precision: the coarsest type in which it computes.
        runner: what runs the file, as messages name it.

    Returns:
        The :func:`relative_difference`, inputs at which neither is finite left out.

    Raises:
        NetworkError: it is above :data:`TOLERANCE`, or no output is finite.
    """
    generator = torch.Generator().manual_seed(0)
    shape = graph.input_shape
    uniform = torch.rand(4, *shape, generator=generator).to(dtype)
    normal = torch.randn(2, *shape, generator=generator).to(dtype)
    batches = uniform[:1], torch.cat([uniform[1:], normal])
    worst = _difference(graph, replay, batches, precision)
    return _refuse_above_tolerance(worst, source, "random inputs", runner)


def check_at(
    graph: Graph,
    replay: Replay,
    points: Tensor,
    source: str,
    precision: torch.dtype = torch.float32,
    runner: str = ONNXRUNTIME,
) -> float:
    """Compare a graph with onnxruntime at inputs that are about to be asked about.

    Args:
        graph: float64, ``N x *X`` to ``N x K``.
        replay: its file in onnxruntime.
        points: ``N x *X``, of the dtype of the file's input.
        source: how messages name it.
        precision: the coarsest type in which it computes.
        runner: what runs the file, as messages name it.

    Returns:
        The :func:`relative_difference`; 0 if the outputs are finite nowhere, where nothing can be
        proved in any case.

    Raises:
        NetworkError: it is above :data:`TOLERANCE`.
    """
    worst = _difference(graph, replay, (points,), precision, default=0.0)
    return _refuse_above_tolerance(worst, source, "inputs that are asked about", runner)


def _refuse_above_tolerance(worst: float, source: str, where: str, runner: str) -> float:
    # not <=, so that a NaN does not pass
    if not worst <= TOLERANCE:
        raise NetworkError(
            source,
            expected=f"a graph that computes what {runner} does, to {TOLERANCE} of each output",
            got=f"a difference of {worst:.2g} at {where}",
            remedy=REMEDY,
        )
    return worst


@torch.no_grad()
def _difference(
    graph: Graph,
    replay: Replay,
    batches: Sequence[Tensor],
    precision: torch.dtype,
    default: float = math.nan,
) -> float:
    """The :func:`relative_difference` over batches; the default if nothing can be compared."""
    found = [graph(x.double()) for x in batches]
    expected = [replay(x).double() for x in batches]
    if any(a.shape != b.shape for a, b in zip(found, expected, strict=True)):
        return math.nan
    ours, theirs = torch.cat(found), torch.cat(expected)
    # the graph is right although float32 overflows
    rounded = graph.to(torch.float32)(torch.cat(list(batches)).float()).double()
    finite, regular = torch.isfinite(theirs), torch.isfinite(ours) & torch.isfinite(rounded)
    rows = (finite | regular).all(dim=1)
    if not bool(rows.any()):
        return default
    single = torch.finfo(torch.float32).eps
    share = max(torch.finfo(batches[0].dtype).eps, _coarse(precision)) / single
    rounding = share * (rounded - ours)[rows].abs().nan_to_num(0.0, 0.0, 0.0).amax(0)
    return relative_difference(ours[rows], theirs[rows], rounding, precision)


def _coarse(precision: torch.dtype) -> float:
    """The step of a half precision; 0 of others."""
    return torch.finfo(precision).eps if precision in HALVES else 0.0


def relative_difference(
    found: Tensor, expected: Tensor, rounding: Tensor, precision: torch.dtype = torch.float32
) -> float:
    """Greatest difference of an output relative to what that output comes to.

    Each of the K outputs is judged by itself: a single large one, a class masked by -1e9, must not
    hide what the others differ by. Its scale is its range over the rows, since a constant that is
    added says nothing of the rest; plus what lets :data:`ROUNDINGS` times its rounding pass
    (:data:`HALF_ROUNDINGS` in half precision), since
    an output that comes near zero has the rounding of the terms that cancelled.

    Args:
        found: ``N x K``.
        expected: ``N x K``.
        rounding: ``K``, of an output in the file's arithmetic, about; >= 0.
        precision: the coarsest type in which the file computes.

    Returns:
        NaN if there are no rows, or a value is not finite.
    """
    if not expected.numel():
        return math.nan
    found, expected = found.double(), expected.double()
    # at least one unit in the last place of the output
    coarse = _coarse(precision)
    digit = max(coarse, torch.finfo(torch.float32).eps) * expected.abs().amax(0)
    noise = (
        (HALF_ROUNDINGS if coarse else ROUNDINGS)
        / TOLERANCE
        * torch.maximum(rounding.double(), digit)
    )
    difference = (found - expected).abs().amax(0)
    scale = expected.amax(0) - expected.amin(0) + noise
    return float((difference / scale).where(difference != 0, 0.0).max())

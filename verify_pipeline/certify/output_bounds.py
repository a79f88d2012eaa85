"""Bounds of a network's outputs, or of linear functions of them, over boxes: no verdict, numbers.

The methods are those of the certification stages of the same names, on the same graph in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    StopRule,
    crown_intermediate,
    crown_margins,
    functionals_that_fit,
    functionals_with_gradients,
    interval_bounds,
    interval_margins,
    needed_places,
    optimise,
)
from verify_pipeline.bounds.memory import unless_memory_ends, within_memory
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.certify.boxes import spread
from verify_pipeline.certify.contract import Certifiable, Subject
from verify_pipeline.certify.file_checks import COMPARED, compare_with_file, refuse_bad_weights
from verify_pipeline.certify.memory import activation_bytes, usual_batch
from verify_pipeline.certify.root_bounds import root_budget, within_caches
from verify_pipeline.errors import ConfigError
from verify_pipeline.problem import Box, Specification

ASCENT = OptimiseSettings()
"""Of α-CROWN's slopes: steps and rates."""


@dataclass(frozen=True, eq=False)
class OutputBounds:
    """Bounds of the outputs, or of rows of a specification, over each box.

    Attributes:
        lower: ``N x K`` or ``N x S``, float64; ``-inf`` where nothing is known, never NaN.
        upper: of the same shape, nowhere below ``lower``; ``+inf`` where nothing is known.
    """

    lower: Tensor
    upper: Tensor

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.lower.shape))
        return f"OutputBounds({shape}, mean width {float((self.upper - self.lower).mean()):.4g})"


def output_bounds(
    network: Certifiable,
    box: Box,
    spec: Specification,
    method: str,
    device: torch.device,
    memory: int,
) -> OutputBounds:
    """Lower and upper bounds of every row ``C f(x) + d`` over each box.

    Args:
        network: of inputs ``N x *X``.
        box: ``N`` boxes in float64, at least one, of the network's input shape.
        spec: ``N`` specifications of ``S`` rows of the outputs, in float64; or one for all boxes,
            which is not repeated in memory.
        method: one of :data:`METHODS`.
        device: where to compute.
        memory: bytes that a batch may take, about; less is taken where it runs out.

    Returns:
        Bounds ``N x S`` on ``device``.

    Raises:
        ConfigError: there is no such method, or memory runs out for a single box.
        NetworkError: a weight is NaN or infinite, or onnxruntime computes something else in some
            box than the graph that is to be bounded.
    """
    if method not in METHODS:
        raise ConfigError(f"method {method!r}", expected="one of " + ", ".join(METHODS))
    refuse_bad_weights(network)
    compare_with_file(network, box[torch.tensor(spread(range(len(box)), COMPARED))])
    reach = Box(box.lower.amin(0, keepdim=True), box.upper.amax(0, keepdim=True))
    subject = Subject.of(network.graph, network.replay, device, lambda: reach, network.input_dtype)
    run = partial(_both_sides, METHODS[method], subject, box.to(device), spec.to(device))
    with full_precision(), torch.no_grad():
        found = unless_memory_ends(within_memory, run, MemoryBudget(bytes=memory))
    if found is None:
        raise ConfigError(
            f"bounds by {method}",
            expected="enough memory for one box",
            got="too little, even in the smallest batches",
            remedy="Use a smaller network, a cheaper method, or a device with more memory.",
        )
    # two valid bounds of a point may miss each other by rounding
    return OutputBounds(torch.minimum(*found), torch.maximum(*found))


@dataclass(frozen=True)
class _Method:
    """How rows are bounded.

    Attributes:
        neurons: bounds of the neurons that the rows' bounds are made of.
        rows: lower bounds ``N x S`` of the rows, from those.
        capacity: how many rows, negated ones counted too, are bounded at once.
    """

    neurons: Callable[[Subject, Box, MemoryBudget], NodeBounds]
    rows: Callable[[Subject, Box, Specification, NodeBounds], Tensor]
    capacity: Callable[[Subject, MemoryBudget], int]


def _no_neurons(subject: Subject, box: Box, budget: MemoryBudget) -> NodeBounds:
    return NodeBounds({}, {})


def _crown_neurons(subject: Subject, box: Box, budget: MemoryBudget) -> NodeBounds:
    start = interval_bounds(subject.exact, box)
    small = within_caches(budget, subject.device)
    found = crown_intermediate(subject.exact, box, start, small)
    return found.only(needed_places(subject.exact))


def _interval_rows(subject: Subject, box: Box, spec: Specification, _: NodeBounds) -> Tensor:
    return interval_margins(subject.exact, box, spec)


def _crown_rows(subject: Subject, box: Box, spec: Specification, neurons: NodeBounds) -> Tensor:
    """The better of CROWN and interval bounds, as in the stage."""
    found = crown_margins(subject.exact, box, spec, neurons).lower
    return torch.maximum(found, _interval_rows(subject, box, spec, neurons))


def _alpha_rows(subject: Subject, box: Box, spec: Specification, neurons: NodeBounds) -> Tensor:
    """Slopes of each row's own, found in float32; any are valid, so float64 only evaluates them."""
    single, exact = torch.float32, subject.exact
    never = StopRule(spec.offsets.new_full((len(box),), torch.inf, dtype=single))
    _, slopes = optimise(
        subject.graph,
        box.to(single),
        spec.to(single),
        neurons.to(single),
        ASCENT,
        until=never,
    )
    found = crown_margins(exact, box, spec, neurons, slopes.to(torch.float64)).lower
    return torch.maximum(found, _crown_rows(subject, box, spec, neurons))


def _walked_once(subject: Subject, budget: MemoryBudget) -> int:
    graph, small = subject.exact, within_caches(budget, subject.device)
    return functionals_that_fit(graph, len(graph.nodes) - 1, small, torch.float64)


def _optimised(subject: Subject, budget: MemoryBudget) -> int:
    """More than caches hold: four times as many took half of the time (MNIST, conv-small)."""
    graph = subject.graph
    return functionals_with_gradients(graph, len(graph.nodes) - 1, budget, torch.float64)


METHODS: Mapping[str, _Method] = {
    "ibp": _Method(_no_neurons, _interval_rows, _walked_once),
    "crown": _Method(_crown_neurons, _crown_rows, _walked_once),
    "alpha-crown": _Method(_crown_neurons, _alpha_rows, _optimised),
}
"""By name, each at least as tight as the one before, up to rounding."""


def _both_sides(
    method: _Method, subject: Subject, box: Box, spec: Specification, budget: MemoryBudget
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of the rows, ``N x S`` each, block by block."""
    graph, count, rows = subject.exact, len(box), spec.offsets.shape[1]
    room = root_budget(budget.bytes)
    capacity = method.capacity(subject, room)
    at_once = max(1, min(rows, capacity // 2))
    activations = 6 * activation_bytes(graph, torch.float64)
    batch = max(1, min(usual_batch(subject.device), budget.bytes // activations))
    lower, upper = (box.lower.new_empty(count, rows) for _ in range(2))
    for some in _slices(count, batch):
        neurons = method.neurons(subject, box[some], room)
        parts = _slices(some.stop - some.start, max(1, capacity // (2 * at_once)))
        for part, chosen in product(parts, _slices(rows, at_once)):
            here = slice(some.start + part.start, some.start + part.stop)
            asked = _with_negated(spec, here, chosen)
            found = method.rows(subject, box[here], asked, neurons[part])
            lower[here, chosen], negated = found.chunk(2, dim=1)
            upper[here, chosen] = -negated
    return lower, upper


def _with_negated(spec: Specification, instances: slice, rows: slice) -> Specification:
    """Some rows of some instances, and the same negated, whose lower bounds are upper bounds."""
    shared, count = len(spec) == 1, instances.stop - instances.start
    matrix = spec.rows[:, rows].expand(count, -1, -1) if shared else spec.rows[instances, rows]
    offsets = spec.offsets[:, rows].expand(count, -1) if shared else spec.offsets[instances, rows]
    return Specification(torch.cat([matrix, -matrix], 1), torch.cat([offsets, -offsets], 1))


def _slices(count: int, size: int) -> Iterator[slice]:
    """The range from 0 to ``count`` in parts of ``size`` at most."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))

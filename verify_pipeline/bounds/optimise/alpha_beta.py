"""α-CROWN and β-CROWN: bounds of margins and neurons with optimised slopes and multipliers.

α-CROWN: Xu et al. 2021 (arXiv:2011.13824). β-CROWN: Wang et al. 2021 (arXiv:2103.06624).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.intermediate.tighten import tighten
from verify_pipeline.bounds.linear.backward import Functional, lower_bounds, of_margins
from verify_pipeline.bounds.memory import functionals_with_gradients, within_memory
from verify_pipeline.bounds.optimise.ascent import Choices, ascend, climb
from verify_pipeline.bounds.optimise.plane_positions import PlanePositions, hold
from verify_pipeline.bounds.optimise.variables import NeuronIndex, ReluVariables, Variable
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.bounds.relaxations.base import OptimisableRelaxation
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph, linearise
from verify_pipeline.bounds.relaxations.relu import Lines
from verify_pipeline.bounds.relu_splits import clamp_to_splits
from verify_pipeline.bounds.types import (
    MarginBounds,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    Splits,
    StopRule,
    always,
)
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


@full_precision()
def optimise(
    graph: Graph,
    box: Box,
    spec: Specification,
    bounds: NodeBounds,
    settings: OptimiseSettings,
    splits: Splits | None = None,
    start: Multipliers | None = None,
    until: StopRule | None = None,
) -> tuple[MarginBounds, Multipliers]:
    """Lower bounds of the margins, with α and β optimised for each row.

    Args:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N`` specifications of ``S`` rows.
        bounds: bounds that are valid on the domains, at least of the nodes of ``needed_places``.
        settings: number of steps and learning rates.
        splits: splits of (leaky) ReLUs; None: none.
        start: the starting point, such as the parent domain's multipliers. Nodes without an entry
            start at their defaults.
        until: when to stop earlier. None: an instance stops once it is verified (above 0).

    Returns:
        The best bounds found, nowhere below those at ``start``, and their multipliers.
        ``crown_margins`` with these multipliers returns the same bounds.
    """
    linear, margins = linearise(graph, box, bounds, splits), of_margins(graph, spec)
    if settings.lr_planes == 0 and start is not None:
        linear = hold(linear, start.alpha)
    choices = begin(linear, margins, settings, start, splits)
    if until is None:
        until = StopRule(margins.constants.new_zeros(len(box)))
    found, best = ascend(linear, box, margins, settings, choices, until)
    return found, _multipliers(linear, best)


@full_precision()
def optimise_intermediate(
    graph: Graph,
    box: Box,
    start: NodeBounds,
    settings: OptimiseSettings,
    budget: MemoryBudget,
    has_time: Callable[[], bool] = always,
    splits: Splits | None = None,
) -> NodeBounds:
    """Tighten bounds of the inputs of nonlinear nodes, with a separate α for each bound.

    As ``crown_intermediate``, but every functional is optimised over the tightened layers before
    it. This is several times as expensive, and meant for instances that cheaper bounds leave open.
    The α are optimised in float32. Since every α is valid, the final bounds are then evaluated with
    these α in the box's dtype.

    Args:
        graph: the network.
        box: ``N`` boxes.
        start: valid bounds, such as CROWN bounds.
        settings: number of steps and learning rates.
        budget: memory for the functionals of one batch; halved when memory runs out.
        has_time: called before each batch and each step. Once it returns False, the best α so far
            are used, and the remaining neurons keep their bounds in ``start`` or their intervals.
        splits: splits of (leaky) ReLUs whose inputs ``start`` bounds; None: none. The result then
            bounds the domains that satisfy the splits, and each bound has a separate β for every
            split of an earlier layer.

    Returns:
        Bounds of every node, nowhere looser than ``start``.
    """
    if splits:
        start = clamp_to_splits(start, graph, splits)

    def run(allowed: MemoryBudget) -> NodeBounds:
        method = _Ascent(settings, allowed, box.lower.dtype, has_time)
        return tighten(graph, box, start, method, has_time, splits)

    return within_memory(run, budget)


@dataclass(frozen=True)
class _Ascent:
    """The bounding method that optimises each functional separately."""

    settings: OptimiseSettings
    budget: MemoryBudget
    dtype: torch.dtype
    has_time: Callable[[], bool]

    def through(self, linear: LinearGraph) -> LinearGraph:
        return linear

    def solve(self, linear: LinearGraph, box: Box, functional: Functional) -> Tensor:
        fast = functional.to(torch.float32)
        until = StopRule(fast.constants.new_full((len(box),), torch.inf), self.has_time)
        rough = linear.to(torch.float32)
        choices = begin(rough, fast, self.settings, None, None)
        best = climb(rough, box.to(torch.float32), fast, self.settings, choices, until)
        found = {place: choice.to(self.dtype) for place, choice in best.items()}
        return lower_bounds(linear, box, functional, found).lower

    def capacity(self, graph: Graph, place: int) -> int:
        return functionals_with_gradients(graph, place, self.budget, self.dtype)


@torch.no_grad()
def begin(
    linear: LinearGraph,
    functional: Functional,
    settings: OptimiseSettings,
    start: Multipliers | None,
    splits: Splits | None,
) -> Choices:
    """The variables of every node with free parameters, at ``start`` or at their defaults."""
    start, splits = start or Multipliers({}, {}), splits or {}
    rows = functional.constants.shape[1]
    choices: Choices = {}
    for place, relaxation in linear.relaxations.items():
        if place > functional.place:
            continue
        if isinstance(relaxation, OptimisableRelaxation) and settings.lr_planes > 0:
            choices[place] = PlanePositions.of(relaxation, rows, start.alpha.get(place))
        if isinstance(relaxation, Lines):
            alpha, beta = start.alpha.get(place), start.beta.get(place)
            listed = _listed(relaxation, rows, alpha, beta, splits.get(place))
            if listed.variables():
                choices[place] = listed
    return choices


def _listed(
    relaxation: Lines,
    rows: int,
    start_alpha: Tensor | None,
    start_beta: Tensor | None,
    split: Tensor | None,
) -> ReluVariables:
    """The variables of one (leaky) ReLU for ``rows`` rows.

    If ``split`` is None, the relaxation's own ``sides`` are used.
    """
    split = relaxation.sides if split is None else split
    usual = relaxation.adaptive.unsqueeze(1)
    alpha, beta, sides = None, None, None
    cells = NeuronIndex.where(relaxation.offset > 0)
    if len(cells):
        value = cells.read((usual if start_alpha is None else start_alpha).to(usual)).clamp_(0, 1)
        alpha = Variable.at(cells, 1.0, value.repeat(1, rows // value.shape[1]))
    if split is not None:
        cells = NeuronIndex.where(split != 0)
        sides = cells.read(split.unsqueeze(1)).to(usual)
        value = torch.zeros_like(sides)
        if start_beta is not None:
            value = cells.read(start_beta.to(usual)).clamp_(min=0)
        beta = Variable.at(cells, None, value.repeat(1, rows // value.shape[1]))
    shape = torch.Size((len(usual), rows, *usual.shape[2:]))
    return ReluVariables(relaxation.slope, shape, alpha, beta, sides)


def _multipliers(linear: LinearGraph, choices: Choices) -> Multipliers:
    """The choices as dense tensors, with adaptive α and zero β elsewhere."""
    beta: dict[int, Tensor] = {}
    alpha = {
        place: relaxation.usual
        for place, relaxation in linear.relaxations.items()
        if isinstance(relaxation, OptimisableRelaxation) and relaxation.usual is not None
    }
    for place, choice in choices.items():
        if isinstance(choice, PlanePositions):
            alpha[place] = choice.alpha.value
            continue
        relaxation = linear.relaxations[place]
        assert isinstance(relaxation, Lines)
        if choice.alpha is not None:
            alpha[place] = relaxation.adaptive.unsqueeze(1).expand(choice.shape).clone()
            alpha[place] = alpha[place].contiguous()
            choice.alpha.cells.write(alpha[place], choice.alpha.value)
        if choice.beta is not None:
            beta[place] = relaxation.up.new_zeros(choice.shape)
            choice.beta.cells.write(beta[place], choice.beta.value)
    return Multipliers(alpha, beta)

"""Bounds made tighter by projected ascent on α and β.

α-CROWN: Xu et al. 2021, arXiv:2011.13824; β-CROWN: Wang et al. 2021, arXiv:2103.06624. Every
iterate is a valid bound, so the best of each instance and row is kept and nothing has to converge.

The gradient needs no automatic differentiation. A bound is ``A_0 · x̂ + c`` with ``x̂`` the corner of
the box that minimises it. Let ``z`` be the value of a ReLU's input when ``x̂`` is sent forward
through the lines that the walk back chose. The bound depends on the slope of that ReLU's line as on
``a · slope · z`` (``a`` the coefficient that arrives at its output) and on its β as on ``-β s z``.
One walk back and one walk forward give every derivative of every row. Positions of the planes of
products, and of tangents, are variables in the same way (``planes``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.intermediate.tighten import tighten
from verify_pipeline.bounds.linear.backward import Functional, lower_bounds, of_margins
from verify_pipeline.bounds.memory import functionals_with_gradients, within_memory
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

# Resting instances are dropped from the batch once they are this share of it.
_WORTH_DROPPING = 0.25


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
    """Lower bounds of the margins, each row with the α and β that are best for it.

    Args:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N`` specifications of ``S`` rows.
        bounds: of ``needed_places`` at least, valid on the domains.
        settings: steps and rates.
        splits: of (leaky) ReLUs; None: none.
        start: where to begin, such as a parent domain's; what it leaves out starts at its default.
        until: when to stop earlier. None: an instance rests when it is verified, above 0.

    Returns:
        The best bounds found, nowhere below those at ``start``, and the multipliers that give
        them: ``crown_margins`` with these answers the same.
    """
    linear, margins = linearise(graph, bounds, splits), of_margins(graph, spec)
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
    """Tighten bounds of the inputs of nonlinear nodes, each bound with an α of its own.

    As ``crown_intermediate``, but every functional is optimised over the layers before it, which
    are already tightened. Several times dearer: for the instances that cheaper bounds leave open.
    The α are looked for in float32, whatever the box's dtype; any α is valid, so the bounds that
    count are evaluated with them in that dtype.

    Args:
        graph: the network.
        box: ``N`` boxes.
        start: valid bounds, such as CROWN bounds.
        settings: steps and rates.
        budget: of memory for the functionals that are optimised at once; halved if it fails.
        has_time: asked before each such batch and each step; once it says no, the best α so far
            count and the neurons that are left keep their bounds of ``start``, or intervals.
        splits: of (leaky) ReLUs, of which ``start`` knows the inputs: bounds are of the domains
            that they leave, and each has a β of its own for every split before it. None: none.

    Returns:
        Bounds of every place, nowhere looser than ``start``.
    """
    if splits:
        start = clamp_to_splits(start, graph, splits)

    def run(allowed: MemoryBudget) -> NodeBounds:
        method = _Ascent(settings, allowed, box.lower.dtype, has_time)
        return tighten(graph, box, start, method, has_time, splits)

    return within_memory(run, budget)


@dataclass(frozen=True)
class _Ascent:
    """Each functional optimised on its own."""

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


Choices = dict[int, ReluVariables | PlanePositions]


@torch.no_grad()
def begin(
    linear: LinearGraph,
    functional: Functional,
    settings: OptimiseSettings,
    start: Multipliers | None,
    splits: Splits | None,
) -> Choices:
    """The variables of every node that has a choice, at ``start`` or at their defaults."""
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
    """The variables of one (leaky) ReLU, for so many rows; its own sides where none are given."""
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


@torch.no_grad()
def ascend(
    linear: LinearGraph,
    box: Box,
    functional: Functional,
    settings: OptimiseSettings,
    choices: Choices,
    until: StopRule,
) -> tuple[MarginBounds, Choices]:
    """Lower bounds of any functionals of any node, with the choices that are best for each row.

    Args:
        linear: the relaxed network, ``N`` instances.
        box: ``N`` boxes.
        functional: ``N x S`` functionals.
        settings: steps and rates.
        choices: where to begin; they are changed.
        until: when to stop earlier.
    """
    best = climb(linear, box, functional, settings, choices, until)
    return lower_bounds(linear, box, functional, best), best


@torch.no_grad()
def climb(
    linear: LinearGraph,
    box: Box,
    functional: Functional,
    settings: OptimiseSettings,
    choices: Choices,
    until: StopRule,
) -> Choices:
    """The choices that :func:`ascend`, whose arguments these are, finds best for each row."""
    best = Best(functional.constants, choices)
    going = torch.arange(len(until.above), device=until.above.device)
    now, rest, ask = choices, (linear, box), functional
    for step in range(settings.iterations + 1):
        last = step == settings.iterations or not now
        lower, gradients, _ = evaluate(*rest, ask, now)
        best.keep(going, lower, now)
        still = (best.lower[going] <= until.above[going].unsqueeze(1)).any(1)
        if last or not bool(still.any()) or not until.has_time():
            break
        step_up(now, gradients, settings, step)
        if float((~still).float().mean()) >= _WORTH_DROPPING:
            rest, ask = (rest[0][still], rest[1][still]), ask[still]
            going, now = going[still], {place: c.only(still) for place, c in now.items()}
    return best.choices


def step_up(
    choices: Choices, gradients: dict[int, list[Tensor]], settings: OptimiseSettings, step: int
) -> None:
    """One step of every variable that has a gradient."""
    decay = settings.decay**step
    for place, found in gradients.items():
        for variable, gradient in zip(choices[place].variables(), found, strict=True):
            rate = settings.lr_beta if variable.greatest is None else settings.lr_alpha
            rate = settings.lr_planes if isinstance(choices[place], PlanePositions) else rate
            variable.climb(gradient, decay * rate, step + 1)


class Best:
    """The best bound of each instance and row so far, and the choices that gave it."""

    def __init__(self, constants: Tensor, choices: Choices) -> None:
        self.lower = torch.full_like(constants, -torch.inf)
        everything = torch.ones(len(constants), dtype=torch.bool, device=constants.device)
        self.choices = {place: choice.only(everything) for place, choice in choices.items()}

    def keep(self, instances: Tensor, lower: Tensor, choices: Choices) -> None:
        """Take over the rows of ``instances`` that are better than before."""
        before = self.lower[instances]
        better = lower > before
        self.lower[instances] = torch.maximum(lower, before)
        for place, choice in choices.items():
            kept = self.choices[place].variables()
            for old, new in zip(kept, choice.variables(), strict=True):
                rows = better[new.cells.instance]
                rows = rows.view(*rows.shape, *(1,) * (new.value.dim() - 2))
                old.value[new.origin] = torch.where(rows, new.value, old.value[new.origin])


def _multipliers(linear: LinearGraph, choices: Choices) -> Multipliers:
    """The choices as dense tensors, adaptive α and no β where there is none."""
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


def evaluate(
    linear: LinearGraph,
    box: Box,
    functional: Functional,
    choices: Choices,
    inner: Mapping[int, Tensor] | None = None,
) -> tuple[Tensor, dict[int, list[Tensor]], dict[int, Tensor]]:
    """The bounds ``N x S``, at each place the gradients of its variables, and values.

    Arguments as those of ``lower_bounds``. The values ``N x S x *V`` are of the nodes that the
    functionals depend on, at the point and on the lines that the bounds are made of.
    """
    arrived: dict[int, Tensor | None] = {}

    def visit(place: int, coefficients: Tensor) -> None:
        arrived[place] = coefficients if place in linear.relaxations else None

    bounds = lower_bounds(linear, box, functional, choices, visit, inner)
    # the corner where each bound is least, up to rounding; a direction needs no more
    signs = bounds.coefficients.sign()
    corners = box.center.unsqueeze(1).addcmul(signs, box.radius.unsqueeze(1), value=-1)
    values = _follow(linear, corners, arrived, choices)
    gradients = {}
    for place, choice in choices.items():
        coefficients = arrived.get(place)
        if coefficients is not None:
            inputs = [values.get(i) for i in linear.graph.nodes[place].inputs]
            gradients[place] = choice.gradients(coefficients, inputs)
    return bounds.lower, gradients, values


def _follow(
    linear: LinearGraph, corners: Tensor, arrived: dict[int, Tensor | None], choices: Choices
) -> dict[int, Tensor]:
    """Send ``N x S x *X`` forward through the lines chosen: values of the nodes in ``arrived``."""
    values = {0: corners}
    for place in sorted(arrived):
        node, coefficients = linear.graph.nodes[place], arrived[place]
        if coefficients is not None:
            inputs = [values.get(i) for i in node.inputs]
            relaxation = linear.relaxations[place]
            values[place] = relaxation.follow(coefficients, choices.get(place), inputs)
        else:
            flat = node.op(*(values[i].flatten(0, 1) for i in node.inputs))
            values[place] = flat.unflatten(0, corners.shape[:2])
    return values

"""Bounds made tighter by projected ascent on α and β.

α-CROWN: Xu et al. 2021, arXiv:2011.13824; β-CROWN: Wang et al. 2021, arXiv:2103.06624. Every
iterate is a valid bound, so the best of each instance and row is kept and nothing has to converge.

The gradient needs no automatic differentiation. A bound is ``A_0 · x̂ + c`` with ``x̂`` the corner of
the box that minimises it. Let ``z`` be the value of a ReLU's input when ``x̂`` is sent forward
through the lines that the walk back chose. The bound depends on the slope of that ReLU's line as on
``a · slope · z`` (``a`` the coefficient that arrives at its output) and on its β as on ``-β s z``.
One walk back and one walk forward give every derivative of every row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.backward import (
    Functional,
    LinearGraph,
    linearise,
    lower_bounds,
    of_margins,
)
from verify_pipeline.bounds.chunks import functionals_with_gradients
from verify_pipeline.bounds.contract import (
    MarginBounds,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    Splits,
)
from verify_pipeline.bounds.intermediate import tighten
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.bounds.relaxation import Lines
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification

# Adam's running means and its guard against division by zero (Kingma & Ba 2015, arXiv:1412.6980).
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8

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
    until: Tensor | None = None,
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
        until: ``N``; an instance rests once each of its rows is above this. None: 0, so that it
            rests when it is verified.

    Returns:
        The best bounds found, nowhere below those at ``start``, and the multipliers that give
        them: ``crown_margins`` with these answers the same.
    """
    linear = linearise(graph, bounds, splits)
    return ascend(linear, box, of_margins(graph, spec), settings, start, until)


@full_precision()
def optimise_intermediate(
    graph: Graph, box: Box, start: NodeBounds, settings: OptimiseSettings, budget: MemoryBudget
) -> NodeBounds:
    """Tighten bounds of the inputs of nonlinear nodes, each bound with an α of its own.

    As ``crown_intermediate``, but every functional is optimised over the layers before it, which
    are already tightened. Many times dearer: for the instances that cheaper bounds leave open.
    """
    return tighten(graph, box, start, _Ascent(settings, budget, box.lower.dtype))


@dataclass(frozen=True)
class _Ascent:
    """Each functional optimised on its own."""

    settings: OptimiseSettings
    budget: MemoryBudget
    dtype: torch.dtype

    def solve(self, linear: LinearGraph, box: Box, functional: Functional) -> Tensor:
        never = functional.constants.new_full((len(box),), torch.inf)
        return ascend(linear, box, functional, self.settings, until=never)[0].lower

    def capacity(self, graph: Graph, place: int) -> int:
        return functionals_with_gradients(graph, place, self.budget, self.dtype)


@torch.no_grad()
def ascend(
    linear: LinearGraph,
    box: Box,
    functional: Functional,
    settings: OptimiseSettings,
    start: Multipliers | None = None,
    until: Tensor | None = None,
) -> tuple[MarginBounds, Multipliers]:
    """:func:`optimise` for any functionals of any node; the arguments are as there."""
    variables = _begin(linear, functional, start)
    best = _Best(functional.constants.new_full(functional.constants.shape, -torch.inf), variables)
    if until is None:
        until = best.lower.new_zeros(len(best.lower))
    going = torch.arange(len(best.lower), device=best.lower.device)
    rest_linear, rest_box, rest_functional = linear, box, functional
    for step in range(settings.iterations + 1):
        lower, gradients = evaluate(rest_linear, rest_box, rest_functional, variables)
        best.keep(going, lower, variables)
        still = (best.lower[going] <= until[going].unsqueeze(1)).any(1)
        if step == settings.iterations or not variables or not bool(still.any()):
            break
        rate = settings.decay**step
        for variable, gradient in zip(variables, gradients, strict=True):
            lr = settings.lr_beta if variable.is_beta else settings.lr_alpha
            variable.climb(gradient, rate * lr, step + 1)
        if float((~still).float().mean()) >= _WORTH_DROPPING:
            rest_linear, rest_box = rest_linear[still], rest_box[still]
            rest_functional, going = rest_functional[still], going[still]
            variables = [variable[still] for variable in variables]
    multipliers = best.multipliers()
    return lower_bounds(linear, box, functional, multipliers), multipliers


@dataclass(frozen=True, eq=False)
class _Variable:
    """The α or the β of one node, ``N x S x *V``, with Adam's moments; changed in place.

    Attributes:
        place: of the node.
        is_beta: whether it is its β (>= 0), else its α (in [0, 1]).
        value: where it stands.
        first: running mean of its gradient.
        second: running mean of the gradient's square.
    """

    place: int
    is_beta: bool
    value: Tensor
    first: Tensor
    second: Tensor

    @staticmethod
    def at(place: int, is_beta: bool, value: Tensor) -> _Variable:
        return _Variable(place, is_beta, value, torch.zeros_like(value), torch.zeros_like(value))

    def __getitem__(self, index: Tensor) -> _Variable:
        moved = (self.value[index], self.first[index], self.second[index])
        return _Variable(self.place, self.is_beta, *moved)

    def climb(self, gradient: Tensor, rate: float, step: int) -> None:
        """One step of Adam upward, and back into the range."""
        # where a bound is infinite there is no direction
        gradient = gradient.nan_to_num_(0.0, 0.0, 0.0)
        self.first.lerp_(gradient, 1 - _FIRST)
        self.second.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
        scale = (self.second / (1 - _SECOND**step)).sqrt_().add_(_TINY)
        self.value.addcdiv_(self.first, scale, value=rate / (1 - _FIRST**step))
        self.value.clamp_(min=0.0, max=None if self.is_beta else 1.0)


class _Best:
    """The best bound of each instance and row so far, and where the variables stood for it."""

    def __init__(self, lower: Tensor, variables: list[_Variable]) -> None:
        self.lower = lower
        self._kept = [
            _Variable(v.place, v.is_beta, v.value.clone(), v.first, v.second) for v in variables
        ]

    def keep(self, instances: Tensor, lower: Tensor, variables: list[_Variable]) -> None:
        """Take over the rows of ``instances`` that are better than before."""
        row, column = (lower > self.lower[instances]).nonzero(as_tuple=True)
        self.lower[instances[row], column] = lower[row, column]
        for kept, variable in zip(self._kept, variables, strict=True):
            kept.value[instances[row], column] = variable.value[row, column]

    def multipliers(self) -> Multipliers:
        return _multipliers(self._kept)


def _multipliers(variables: list[_Variable]) -> Multipliers:
    return Multipliers(
        {v.place: v.value for v in variables if not v.is_beta},
        {v.place: v.value for v in variables if v.is_beta},
    )


def _begin(
    linear: LinearGraph, functional: Functional, start: Multipliers | None
) -> list[_Variable]:
    """The variables of every node that has a choice, at ``start`` or at their defaults."""
    start = start or Multipliers({}, {})
    rows = functional.constants.shape[1]
    variables = []
    for place, relaxation in linear.relaxations.items():
        if place > functional.place or not isinstance(relaxation, Lines):
            continue
        default = relaxation.adaptive.unsqueeze(1)
        full = (default.shape[0], rows, *default.shape[2:])
        if place in start.alpha or relaxation.has_choice:
            alpha = start.alpha.get(place, default).to(default).expand(full).clone()
            variables.append(_Variable.at(place, False, alpha))
        if relaxation.split is not None:
            none = torch.zeros_like(default)
            beta = start.beta.get(place, none).to(default).expand(full).clone()
            variables.append(_Variable.at(place, True, beta))
    return variables


def evaluate(
    linear: LinearGraph, box: Box, functional: Functional, variables: list[_Variable]
) -> tuple[Tensor, list[Tensor]]:
    """The bounds ``N x S`` and their gradients, of each variable ``N x S x *V``."""
    multipliers = _multipliers(variables)
    arrived: dict[int, Tensor | None] = {}

    def visit(place: int, coefficients: Tensor) -> None:
        arrived[place] = coefficients if place in linear.relaxations else None

    bounds = lower_bounds(linear, box, functional, multipliers, visit)
    # the corner where each bound is least, up to rounding; a direction needs no more
    signs = bounds.coefficients.sign()
    corners = box.center.unsqueeze(1).addcmul(signs, box.radius.unsqueeze(1), value=-1)
    values = _follow(linear, corners, arrived, multipliers)
    gradients = []
    for variable in variables:
        relaxation, coefficients = linear.relaxations[variable.place], arrived.get(variable.place)
        assert isinstance(relaxation, Lines)
        if coefficients is None:
            gradients.append(torch.zeros_like(variable.value))
            continue
        z = values[linear.graph.nodes[variable.place].inputs[0]]
        gradients.append(
            relaxation.beta_gradient(z)
            if variable.is_beta
            else relaxation.alpha_gradient(coefficients, z)
        )
    return bounds.lower, gradients


def _follow(
    linear: LinearGraph,
    corners: Tensor,
    arrived: dict[int, Tensor | None],
    multipliers: Multipliers,
) -> dict[int, Tensor]:
    """Send ``N x S x *X`` forward through the lines chosen: values of the nodes in ``arrived``."""
    values = {0: corners}
    for place in sorted(arrived):
        node, coefficients = linear.graph.nodes[place], arrived[place]
        if coefficients is not None:
            values[place] = linear.relaxations[place].follow(
                coefficients, multipliers.alpha.get(place), [values.get(i) for i in node.inputs]
            )
        else:
            flat = node.op(*(values[i].flatten(0, 1) for i in node.inputs))
            values[place] = flat.unflatten(0, corners.shape[:2])
    return values

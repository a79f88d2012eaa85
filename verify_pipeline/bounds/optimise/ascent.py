"""Projected ascent on the free parameters of a bound.

Every iterate is a valid bound, so the best one for each instance and row is kept, and convergence
is not required.

The gradient needs no automatic differentiation. A bound is ``A_0 · x̂ + c``, where ``x̂`` is the
corner of the box that minimises it. Send ``x̂`` forward through the lines that the backward pass
selected, and let ``z`` be the resulting value of a ReLU's input. The bound depends on the slope of
this ReLU's lower line through ``a · slope · z``, where ``a`` is the coefficient that arrives at its
output, and on its β through ``-β s z``. One backward and one forward pass thus give all derivatives
of all rows. Positions of planes and tangents are handled in the same way (``plane_positions``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.bounds.linear.backward import Functional, lower_bounds
from verify_pipeline.bounds.optimise.plane_positions import PlanePositions
from verify_pipeline.bounds.optimise.variables import ReluVariables
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph
from verify_pipeline.bounds.types import (
    MarginBounds,
    OptimiseSettings,
    StopRule,
)
from verify_pipeline.problem import Box

# Instances that have stopped are removed once they are at least this share of the batch.
_WORTH_DROPPING = 0.25


Choices = dict[int, ReluVariables | PlanePositions]


@torch.no_grad()
def ascend(
    linear: LinearGraph,
    box: Box,
    functional: Functional,
    settings: OptimiseSettings,
    choices: Choices,
    until: StopRule,
) -> tuple[MarginBounds, Choices]:
    """Lower bounds of any functionals of any node, with parameters optimised for each row.

    Args:
        linear: the relaxed network, ``N`` instances.
        box: ``N`` boxes.
        functional: ``N x S`` functionals.
        settings: number of steps and learning rates.
        choices: the starting point; changed in place.
        until: when to stop earlier.

    Returns:
        The bounds, and the choices that give them.
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
    """The best choices found for each row; the arguments are those of :func:`ascend`."""
    best = Best(functional.constants, choices)
    going = torch.arange(len(until.above), device=until.above.device)
    now, rest, ask = choices, (linear, box), functional
    for step in range(settings.iterations + 1):
        last = step == settings.iterations or not now
        lower, gradients = evaluate(*rest, ask, now)
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
    """Make one step with every variable that has a gradient; ``step`` counts from 0."""
    decay = settings.decay**step
    for place, found in gradients.items():
        for variable, gradient in zip(choices[place].variables(), found, strict=True):
            rate = settings.lr_beta if variable.greatest is None else settings.lr_alpha
            rate = settings.lr_planes if isinstance(choices[place], PlanePositions) else rate
            variable.climb(gradient, decay * rate, step + 1)


class Best:
    """The best bound so far of each instance and row, and the choices that gave it."""

    def __init__(self, constants: Tensor, choices: Choices) -> None:
        self.lower = torch.full_like(constants, -torch.inf)
        everything = torch.ones(len(constants), dtype=torch.bool, device=constants.device)
        self.choices = {place: choice.only(everything) for place, choice in choices.items()}

    def keep(self, instances: Tensor, lower: Tensor, choices: Choices) -> None:
        """Keep those rows of ``instances`` whose bounds have improved."""
        before = self.lower[instances]
        better = lower > before
        self.lower[instances] = torch.maximum(lower, before)
        for place, choice in choices.items():
            kept = self.choices[place].variables()
            for old, new in zip(kept, choice.variables(), strict=True):
                rows = better[new.cells.instance]
                rows = rows.view(*rows.shape, *(1,) * (new.value.dim() - 2))
                old.value[new.origin] = torch.where(rows, new.value, old.value[new.origin])


def evaluate(
    linear: LinearGraph, box: Box, functional: Functional, choices: Choices
) -> tuple[Tensor, dict[int, list[Tensor]]]:
    """Bounds and gradients; the arguments are those of ``lower_bounds``.

    Returns:
        The bounds, ``N x S``; index of a node -> gradients with respect to its variables.
    """
    arrived: dict[int, Tensor | None] = {}

    def visit(place: int, coefficients: Tensor) -> None:
        arrived[place] = coefficients if place in linear.relaxations else None

    bounds = lower_bounds(linear, box, functional, choices, visit)
    # the minimising corner, up to rounding, which suffices for a direction
    signs = bounds.coefficients.sign()
    corners = box.center.unsqueeze(1).addcmul(signs, box.radius.unsqueeze(1), value=-1)
    values = _follow(linear, corners, arrived, choices)
    gradients = {}
    for place, choice in choices.items():
        coefficients = arrived.get(place)
        if coefficients is not None:
            inputs = [values.get(i) for i in linear.graph.nodes[place].inputs]
            gradients[place] = choice.gradients(coefficients, inputs)
    return bounds.lower, gradients


def _follow(
    linear: LinearGraph, corners: Tensor, arrived: dict[int, Tensor | None], choices: Choices
) -> dict[int, Tensor]:
    """Send corners ``N x S x *X`` forward through the selected lines.

    Returns:
        Index of a node in ``arrived`` -> its values, ``N x S x *V``.
    """
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

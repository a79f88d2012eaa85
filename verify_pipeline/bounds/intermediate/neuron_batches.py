"""Batches of neurons of one node, as bounding problems: a network, boxes and functionals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from verify_pipeline.bounds.intermediate.receptive_field import ReceptiveField, receptive_field
from verify_pipeline.bounds.linear.backward import Functional, of_neurons
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box

Problem = tuple[Tensor, Tensor, tuple[LinearGraph, Box, Functional]]
"""Instances ``R``, their neurons ``R x U``, and the problem: a network, boxes, functionals."""

Sides = tuple[Tensor, ...]
"""For each functional of a neuron, the sides of all neurons, ``N x V``: 1 from below, -1 from
above."""

NeuronBatches = Callable[[Tensor, Sides], Iterator[Problem]]
"""From a mask of neurons ``N x V`` and sides to the problems that bound these neurons."""


class BoundingMethod(Protocol):
    """A method that bounds functionals, and how many it can bound at once."""

    def through(self, linear: LinearGraph) -> LinearGraph:
        """The relaxed network in the form whose parts :meth:`solve` takes."""

    def solve(self, linear: LinearGraph, box: Box, functional: Functional) -> Tensor:
        """Lower bounds of functionals over boxes, ``N x S``."""

    def capacity(self, graph: Graph, place: int) -> int:
        """How many functionals of the node with index ``place`` can be solved at once."""


def neuron_batches(
    linear: LinearGraph, box: Box, place: int, method: BoundingMethod
) -> NeuronBatches:
    """How neurons of the node with index ``place`` are batched.

    If a neuron's receptive field is a small part of the network, each neuron is bounded through its
    own receptive field. Otherwise neurons are bounded through the whole network.

    Args:
        linear: the relaxed network, ``N`` instances.
        box: ``N`` boxes.
        place: index of the node.
        method: the method that will bound the neurons.
    """
    field = receptive_field(linear.graph, place)
    if field is None:
        return partial(_in_rows, linear, box, place, method)
    return partial(_alone, field, linear, box, method)


def _in_rows(
    linear: LinearGraph, box: Box, place: int, method: BoundingMethod, mask: Tensor, sides: Sides
) -> Iterator[Problem]:
    """Problems over the whole network, in which neurons of one instance share a row."""
    functionals = method.capacity(linear.graph, place)
    rows = Rows(mask, max(1, functionals // len(sides)))
    for part in rows.parts(functionals, len(sides)):
        instance, neurons = rows.instance[part], rows.neurons[part]
        signs = torch.cat([side[instance.unsqueeze(1), neurons] for side in sides], 1)
        some = linear[instance]
        functional = of_neurons(some, place, neurons.repeat(1, len(sides)), signs)
        yield instance, neurons, (some, box[instance], functional)


def _alone(
    field: ReceptiveField,
    linear: LinearGraph,
    box: Box,
    method: BoundingMethod,
    mask: Tensor,
    sides: Sides,
) -> Iterator[Problem]:
    """Problems over receptive fields, in which every neuron is an instance of its own."""
    # a neuron's windows of lower and upper bounds take as much memory as two functionals
    capacity = method.capacity(field.graph, len(field.graph.nodes) - 1)
    step = max(1, capacity // (2 + len(sides)))
    instances, all_neurons = mask.nonzero(as_tuple=True)
    for first in range(0, len(instances), step):
        instance, neurons = instances[first : first + step], all_neurons[first : first + step]
        signs = torch.stack([side[instance, neurons] for side in sides], 1)
        problem = field.of_neurons(linear, box, instance, neurons, signs)
        yield instance, neurons.unsqueeze(1), problem


class Rows:
    """Neurons of many instances as rows of equal length, with little padding.

    An instance with many neurons has several rows, and one without any neurons has none.

    Attributes:
        instance: the instance of each row, ``R``.
        neurons: indices of its neurons in the flattened value, ``R x U``. A row that is not full
            repeats its first neuron.
    """

    def __init__(self, mask: Tensor, longest: int) -> None:
        """Lay out the neurons that ``mask`` ``N x *V`` selects, at most ``longest`` in a row."""
        instance, neuron = mask.flatten(1).nonzero(as_tuple=True)
        counts = torch.bincount(instance, minlength=mask.shape[0])
        width = _best_width(counts, longest)
        rows = (counts + width - 1).div(width, rounding_mode="floor")
        position = (
            torch.arange(len(neuron), device=mask.device) - (counts.cumsum(0) - counts)[instance]
        )
        row = (rows.cumsum(0) - rows)[instance] + position.div(width, rounding_mode="floor")
        column = position % width
        self.instance = torch.arange(mask.shape[0], device=mask.device).repeat_interleave(rows)
        first = neuron[column == 0]
        self.neurons = first.unsqueeze(1).repeat(1, width)
        self.neurons[row, column] = neuron

    def parts(self, functionals: int, each: int) -> Iterator[slice]:
        """Slices of the rows with at most ``functionals`` functionals, ``each`` per neuron."""
        step = max(1, functionals // (each * self.neurons.shape[1])) if len(self.instance) else 1
        for first in range(0, len(self.instance), step):
            yield slice(first, first + step)


def _best_width(counts: Tensor, longest: int) -> int:
    """The row length of least cost: the elements of all rows plus an overhead for each row."""
    widths = [1 << power for power in range(7) if 1 << power <= longest]
    overhead = 2  # a row gathers its instance's relaxations, at the cost of about two neurons

    def cost(width: int) -> int:
        rows = int((counts + width - 1).div(width, rounding_mode="floor").sum())
        return rows * (width + overhead)

    return min(widths, key=cost)

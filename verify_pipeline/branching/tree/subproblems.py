"""Domains in a compact layout: one column per unstable neuron.

A network has R neurons that feed activations, but only few of them are unstable for an instance.
Each open row of an instance's specification has a tree of domains, which must be closed. Domains
store splits and multipliers of the instance's U unstable neurons only. :meth:`OpenRows.expand`
converts them to the layout that the bounds need, layer by layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, NodeBounds, Splits
from verify_pipeline.branching.tree.frontier import Subproblems
from verify_pipeline.branching.tree.splittable import activations
from verify_pipeline.branching.tree.splitting import both_signs
from verify_pipeline.network.graph import Graph


@dataclass(frozen=True, eq=False)
class Neurons:
    """The R inputs of a graph's activations, concatenated.

    Attributes:
        places: node indices of the activations, in the graph's order.
        sources: node indices of their inputs.
        shapes: shape ``*V`` of each activation.
    """

    places: tuple[int, ...]
    sources: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(graph: Graph) -> Neurons:
        """The neurons of a graph."""
        places = activations(graph)
        return Neurons(
            places,
            tuple(graph.nodes[place].inputs[0] for place in places),
            tuple(graph.nodes[place].shape for place in places),
        )

    @property
    def sizes(self) -> list[int]:
        """Number of neurons of each activation; their sum is R."""
        return [math.prod(shape) for shape in self.shapes]

    def flatten(self, values: dict[int, Tensor], like: Tensor) -> Tensor:
        """``N x R`` from ``N x *V`` at some activations; 0 at the others.

        Args:
            values: node index -> values of its neurons.
            like: ``N x …``, with the dtype and device of the zeros.
        """
        parts = [
            values[place].flatten(1) if place in values else like.new_zeros(len(like), size)
            for place, size in zip(self.places, self.sizes, strict=True)
        ]
        return torch.cat(parts, 1) if parts else like.new_zeros(len(like), 0)

    def unflatten(self, values: Tensor) -> dict[int, Tensor]:
        """``N x *V`` at each activation from ``N x R``."""
        parts = values.split(self.sizes, 1)
        return {
            place: part.reshape(-1, *shape)
            for place, part, shape in zip(self.places, parts, self.shapes, strict=True)
        }

    def unstable(self, bounds: NodeBounds) -> Tensor:
        """Neurons whose input may lie on both sides of zero, ``N x R`` booleans."""
        crossing = {
            place: (bounds.lower[source] < 0) & (bounds.upper[source] > 0)
            for place, source in zip(self.places, self.sources, strict=True)
        }
        some = next(iter(crossing.values()), torch.zeros(len(bounds), 0, dtype=torch.bool))
        return self.flatten(crossing, some)


LEVEL = 1e-6
"""A domain's own bounds of neurons hold for inputs at which the row is at most this."""


@dataclass(frozen=True, eq=False)
class Domains(Subproblems):
    """D domains: parts of a box defined by splits of ReLUs, each for one open row.

    Attributes:
        lower: ``D``, the best known bound of the row over the domain, in float32.
        open_row: ``D``, the open row whose tree the domain belongs to.
        splits: ``D x U`` int8, -1, 0 or +1 for each of the instance's unstable neurons.
        alpha: ``D x U``, the slopes α that gave the bound.
        beta: ``D x U``, the multipliers β of the splits that gave the bound.
        below: ``D x U``, the domain's own lower bounds of the ReLUs' inputs, for inputs at which
            the row is at most :data:`LEVEL`; ``-inf`` where there is none.
        above: ``D x U``, upper bounds, likewise; ``+inf`` where there is none.
    """

    open_row: Tensor
    splits: Tensor
    alpha: Tensor
    beta: Tensor
    below: Tensor
    above: Tensor

    @property
    def limited(self) -> Tensor:
        """Domains that have bounds of neurons of their own, ``D`` booleans."""
        return (self.below.isfinite() | self.above.isfinite()).any(1)

    def without_limits(self) -> Domains:
        """The same domains without bounds of neurons of their own."""
        below = torch.full_like(self.below, -torch.inf)
        return replace(self, below=below, above=torch.full_like(self.above, torch.inf))


@dataclass(frozen=True, eq=False)
class OpenRows:
    """G open rows, and the neurons that the columns of their domains stand for.

    Attributes:
        neurons: the neurons of the graph.
        instance: ``G``, the instance of each open row.
        row: ``G``, its row in the instance's specification.
        columns: ``G x U`` indices in ``0 .. R``; R pads open rows with fewer unstable neurons.
        live: ``G x U`` booleans, columns whose neurons are unstable; better bounds may leave fewer.
    """

    neurons: Neurons
    instance: Tensor
    row: Tensor
    columns: Tensor
    live: Tensor

    @staticmethod
    def of(neurons: Neurons, unstable: Tensor, open_rows: Tensor) -> OpenRows:
        """The open rows of N instances.

        Args:
            neurons: the neurons of the graph.
            unstable: the unstable neurons, ``N x R`` booleans.
            open_rows: the rows that are open, ``N x S`` booleans.
        """
        instance, row = open_rows.nonzero(as_tuple=True)
        unstable = unstable & open_rows.any(1, keepdim=True)
        owner, neuron = unstable.nonzero(as_tuple=True)
        column = unstable.cumsum(1)[owner, neuron] - 1
        width = int(column.max()) + 1 if len(column) else 0
        instances, padding = unstable.shape
        columns = neuron.new_full((instances, width), padding)
        columns[owner, column] = neuron
        columns = columns[instance]
        return OpenRows(neurons, instance, row, columns, columns < padding)

    def tightened(self, unstable: Tensor) -> OpenRows:
        """The same open rows when only the neurons ``unstable``, ``N x R``, are still unstable."""
        padded = torch.cat([unstable, torch.zeros_like(unstable[:, :1])], 1)
        live = padded[self.instance].gather(1, self.columns)
        return replace(self, live=live & self.live)

    def __len__(self) -> int:
        return len(self.instance)

    def compress(self, open_row: Tensor, values: Tensor) -> Tensor:
        """``D x U`` from ``D x R``: the neurons of each open row; 0 in the padding."""
        padded = torch.cat([values, values.new_zeros(len(values), 1)], 1)
        return padded.gather(1, self.columns[open_row])

    def expand(self, open_row: Tensor, values: Tensor, stable: float = 0) -> dict[int, Tensor]:
        """``D x *V`` at each activation from ``D x U``; ``stable`` at neurons without a column."""
        total = sum(self.neurons.sizes)
        flat = values.new_full((len(values), total + 1), stable)
        flat.scatter_(1, self.columns[open_row], values)
        return self.neurons.unflatten(flat[:, :total])

    def splits(self, domains: Domains) -> Splits:
        """The splits of domains, in the layout that the bounds need."""
        return self.expand(domains.open_row, domains.splits)

    def multipliers(self, domains: Domains) -> Multipliers:
        """The multipliers of domains, ``D x 1 x *V``, clamped to the range where they are valid."""
        alpha = self.expand(domains.open_row, domains.alpha.clamp(0, 1))
        beta = self.expand(domains.open_row, domains.beta.clamp(min=0))
        return Multipliers(
            {place: value.unsqueeze(1) for place, value in alpha.items()},
            {place: value.unsqueeze(1) for place, value in beta.items()},
        )

    def narrowed(self, domains: Domains, bounds: NodeBounds) -> NodeBounds:
        """Bounds at the root, intersected with each domain's own bounds of neurons.

        Args:
            domains: ``D``.
            bounds: bounds at the root for the instances of the domains, ``D``.
        """
        if not bool(domains.limited.any()):
            return bounds
        below = self.expand(domains.open_row, domains.below, -torch.inf)
        above = self.expand(domains.open_row, domains.above, torch.inf)
        lower, upper = dict(bounds.lower), dict(bounds.upper)
        for place, source in zip(self.neurons.places, self.neurons.sources, strict=True):
            lower[source] = torch.maximum(lower[source], below[place].to(lower[source]))
            upper[source] = torch.minimum(upper[source], above[place].to(upper[source]))
        return NodeBounds(lower, upper)

    def limits(self, open_row: Tensor, bounds: NodeBounds) -> tuple[Tensor, Tensor]:
        """``Domains.below`` and ``Domains.above``, ``D x U``, from ``bounds`` of ``D`` domains."""
        sources = dict(zip(self.neurons.places, self.neurons.sources, strict=True))
        below, above = (
            self.neurons.flatten({p: side[s] for p, s in sources.items()}, side[min(side)])
            for side in (bounds.lower, bounds.upper)
        )
        return self.compress(open_row, below), self.compress(open_row, above)

    def layers(self, open_row: Tensor) -> Tensor:
        """The activation, counted from 0, that each column belongs to, ``D x U``."""
        ends = torch.tensor(self.neurons.sizes, device=open_row.device).cumsum(0)
        return torch.bucketize(self.columns[open_row], ends, right=True)

    def undecided(self, domains: Domains) -> Tensor:
        """Columns at which a domain can still be split, ``D x U`` booleans."""
        return self.live[domains.open_row] & (domains.splits == 0)


def split(domains: Domains, columns: Tensor) -> Domains:
    """Two children for each domain, ``2 D``, in the order of :func:`splitting.both_signs`.

    Args:
        domains: the domains to split.
        columns: ``D``, the column at which each is split.
    """
    twice = Domains.cat([domains, domains])
    return replace(twice, share=twice.share / 2, splits=both_signs(domains.splits, columns))

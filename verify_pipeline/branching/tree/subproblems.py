"""Domains as columns of numbers, one per neuron that its instance can still split.

A network has R neurons under activations, of which an instance's bounds leave few unstable. A row
of an instance's specification that is open has a tree of domains, which has to be closed. They keep
splits and multipliers of the instance's U unstable neurons only; :meth:`OpenRows.expand` lays them
out as the bounds want them, layer by layer.
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
    """The R neurons under a graph's activations, end to end.

    Attributes:
        places: of the activations, in the graph's order.
        sources: of their inputs.
        shapes: ``*V`` of each.
    """

    places: tuple[int, ...]
    sources: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(graph: Graph) -> Neurons:
        """Those of a graph."""
        places = activations(graph)
        return Neurons(
            places,
            tuple(graph.nodes[place].inputs[0] for place in places),
            tuple(graph.nodes[place].shape for place in places),
        )

    @property
    def sizes(self) -> list[int]:
        """Number of neurons under each activation; R is their sum."""
        return [math.prod(shape) for shape in self.shapes]

    def flatten(self, values: dict[int, Tensor], like: Tensor) -> Tensor:
        """``N x R`` from ``N x *V`` at some places; 0 at the others.

        Args:
            values: place -> its neurons' values.
            like: ``N x …``, of the zeros' dtype and device.
        """
        parts = [
            values[place].flatten(1) if place in values else like.new_zeros(len(like), size)
            for place, size in zip(self.places, self.sizes, strict=True)
        ]
        return torch.cat(parts, 1) if parts else like.new_zeros(len(like), 0)

    def unflatten(self, values: Tensor) -> dict[int, Tensor]:
        """``N x *V`` at each place from ``N x R``."""
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
"""What is known of one domain's neurons alone is known of inputs whose margin is at most this."""


@dataclass(frozen=True, eq=False)
class Domains(Subproblems):
    """D domains: parts of a box that splits of ReLUs leave, for one open row.

    Attributes:
        lower: ``D``, the best known bound of the row over it, in float32.
        open_row: ``D``, whose tree it is of.
        splits: ``D x U`` int8, -1, 0 or +1 for each of the instance's unstable neurons.
        alpha: ``D x U``, the multipliers that gave the bound.
        beta: ``D x U``.
        below: ``D x U``, lower bounds of the neurons' inputs that are known of this domain, where
            the margin is at most :data:`LEVEL`; ``-inf`` where none are.
        above: ``D x U``, upper bounds, likewise; ``+inf`` where none are.
    """

    open_row: Tensor
    splits: Tensor
    alpha: Tensor
    beta: Tensor
    below: Tensor
    above: Tensor

    @property
    def limited(self) -> Tensor:
        """Domains of whose neurons something is known that the root does not know, ``D``."""
        return (self.below.isfinite() | self.above.isfinite()).any(1)

    def without_limits(self) -> Domains:
        """The same, of whose neurons no more is known than at the root."""
        below = torch.full_like(self.below, -torch.inf)
        return replace(self, below=below, above=torch.full_like(self.above, torch.inf))


@dataclass(frozen=True, eq=False)
class OpenRows:
    """G open rows, and which neurons their domains' columns stand for.

    Attributes:
        neurons: of the graph.
        instance: ``G``, whose row it is.
        row: ``G``, which row of its specification.
        columns: ``G x U`` into ``0 .. R``; R itself fills up open rows with fewer unstable neurons.
        live: ``G x U`` booleans, columns whose neurons are unstable; bounds that are tightened
            later may leave fewer.
    """

    neurons: Neurons
    instance: Tensor
    row: Tensor
    columns: Tensor
    live: Tensor

    @staticmethod
    def of(neurons: Neurons, unstable: Tensor, open_rows: Tensor) -> OpenRows:
        """One open row for each open row.

        Args:
            neurons: of the graph.
            unstable: ``N x R`` booleans.
            open_rows: ``N x S`` booleans.
        """
        instance, row = open_rows.nonzero(as_tuple=True)
        unstable = unstable[instance]
        width = int(unstable.sum(1).max()) if len(unstable) else 0
        # a stable sort brings the unstable neurons to the front, in their own order
        order = unstable.to(torch.int8).argsort(stable=True, dim=1, descending=True)[:, :width]
        live = unstable.gather(1, order)
        return OpenRows(neurons, instance, row, torch.where(live, order, unstable.shape[1]), live)

    def tightened(self, unstable: Tensor) -> OpenRows:
        """The same open rows where fewer neurons, ``N x R``, are unstable."""
        padded = torch.cat([unstable, torch.zeros_like(unstable[:, :1])], 1)
        live = padded[self.instance].gather(1, self.columns)
        return replace(self, live=live & self.live)

    def __len__(self) -> int:
        return len(self.instance)

    def compress(self, open_row: Tensor, values: Tensor) -> Tensor:
        """``D x U`` from ``D x R``: the open rows' own neurons, 0 in the columns that fill up."""
        padded = torch.cat([values, values.new_zeros(len(values), 1)], 1)
        return padded.gather(1, self.columns[open_row])

    def expand(self, open_row: Tensor, values: Tensor, stable: float = 0) -> dict[int, Tensor]:
        """``D x *V`` at each place from ``D x U``; ``stable`` at neurons that are stable."""
        total = sum(self.neurons.sizes)
        flat = values.new_full((len(values), total + 1), stable)
        flat.scatter_(1, self.columns[open_row], values)
        return self.neurons.unflatten(flat[:, :total])

    def splits(self, domains: Domains) -> Splits:
        """As the bounds take them."""
        return self.expand(domains.open_row, domains.splits)

    def multipliers(self, domains: Domains) -> Multipliers:
        """As the bounds take them, ``D x 1 x *V``; always in the range in which they are valid."""
        alpha = self.expand(domains.open_row, domains.alpha.clamp(0, 1))
        beta = self.expand(domains.open_row, domains.beta.clamp(min=0))
        return Multipliers(
            {place: value.unsqueeze(1) for place, value in alpha.items()},
            {place: value.unsqueeze(1) for place, value in beta.items()},
        )

    def narrowed(self, domains: Domains, bounds: NodeBounds) -> NodeBounds:
        """Bounds of the domains' instances, cut to what is known of each domain's neurons.

        Args:
            domains: ``D``.
            bounds: at the root, ``D``.
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
        """``Domains.below`` and ``above`` ``D x U`` as ``bounds`` have them, ``D`` float32."""
        sources = dict(zip(self.neurons.places, self.neurons.sources, strict=True))
        below, above = (
            self.neurons.flatten({p: side[s] for p, s in sources.items()}, side[min(side)])
            for side in (bounds.lower, bounds.upper)
        )
        return self.compress(open_row, below), self.compress(open_row, above)

    def layers(self, open_row: Tensor) -> Tensor:
        """Which activation, counted from 0, each column belongs to, ``D x U``."""
        ends = torch.tensor(self.neurons.sizes, device=open_row.device).cumsum(0)
        return torch.bucketize(self.columns[open_row], ends, right=True)

    def undecided(self, domains: Domains) -> Tensor:
        """Columns that a domain can still be split at, ``D x U`` booleans."""
        return self.live[domains.open_row] & (domains.splits == 0)


def split(domains: Domains, columns: Tensor) -> Domains:
    """Two children for each domain, ``2 D``, as :func:`splitting.both_signs` has them.

    Args:
        domains: to split.
        columns: ``D``, at which neuron.
    """
    twice = Domains.cat([domains, domains])
    return replace(twice, share=twice.share / 2, splits=both_signs(domains.splits, columns))

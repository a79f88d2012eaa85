"""The open domains of many instances at once, and which of them come next."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from verify_pipeline.branching.tree.subproblems import Domains


class Frontier:
    """Open domains in slots that are used again.

    Whatever was pushed comes out once, unless it is dropped before. Sharing is fair: every
    instance's worst domain comes before any instance's second worst, and so on; among domains of
    one rank the instance that was served least comes first.
    """

    def __init__(self, like: Domains) -> None:
        self._slots = like[:0]
        self._used = torch.zeros(0, dtype=torch.bool, device=like.open_row.device)

    def __len__(self) -> int:
        return int(self._used.sum())

    @property
    def bytes(self) -> int:
        """What the open domains take."""
        return len(self) * self._slots.bytes_each

    def counts(self, instance_of: Tensor, instances: int) -> Tensor:
        """Open domains of each instance, ``N``; ``instance_of`` maps open rows to instances."""
        return torch.bincount(instance_of[self._slots.open_row[self._used]], minlength=instances)

    def push(self, domains: Domains) -> None:
        """Take domains in."""
        free = (~self._used).nonzero().squeeze(1)
        if len(free) < len(domains):
            self._grow(len(self) + len(domains))
            free = (~self._used).nonzero().squeeze(1)
        slots = free[: len(domains)]
        for f in fields(domains):
            getattr(self._slots, f.name)[slots] = getattr(domains, f.name)
        self._used[slots] = True

    def pop(self, count: int, instance_of: Tensor, served: Tensor, going: Tensor) -> Domains:
        """Hand out at most ``count`` domains.

        Args:
            count: at least 1.
            instance_of: ``G``, open rows' instances.
            served: ``N``, how much each instance has had; less goes first.
            going: ``N`` booleans, the instances whose domains may be handed out.
        """
        slots = self._used.nonzero().squeeze(1)
        slots = slots[going[instance_of[self._slots.open_row[slots]]]]
        instance = instance_of[self._slots.open_row[slots]]
        turn = in_turn(instance, self._slots.lower[slots], served)
        chosen = slots[turn[:count]]
        self._used[chosen] = False
        return self._slots[chosen]

    def drop(self, open_rows: Tensor) -> None:
        """Forget all domains of some open rows, ``G`` booleans."""
        self._used &= ~open_rows[self._slots.open_row]

    def all(self) -> Domains:
        """The open domains, which stay open."""
        return self._slots[self._used]

    def of(self, open_rows: Tensor) -> Domains:
        """The open domains of some open rows, ``G`` booleans, which stay open."""
        return self._slots[self._used & open_rows[self._slots.open_row]]

    def _grow(self, needed: int) -> None:
        size = max(needed, 2 * len(self._used))
        grown = {}
        for f in fields(self._slots):
            old = getattr(self._slots, f.name)
            grown[f.name] = old.new_zeros(size, *old.shape[1:])
            grown[f.name][: len(old)] = old
        self._slots = Domains(**grown)
        used = self._used.new_zeros(size)
        used[: len(self._used)] = self._used
        self._used = used


def in_turn(instance: Tensor, lower: Tensor, served: Tensor) -> Tensor:
    """The order in which open domains are to be taken, ``D`` places.

    Args:
        instance: of each domain, ``D``.
        lower: their bounds, ``D``; of an instance's domains the worst comes first.
        served: ``N``, how much each instance has had; less goes first.
    """
    order = lower.argsort(stable=True)
    order = order[instance[order].argsort(stable=True)]
    place = torch.arange(len(order), device=order.device)
    first = torch.ones_like(place, dtype=torch.bool)
    first[1:] = instance[order[1:]] != instance[order[:-1]]
    rank = place - torch.where(first, place, 0).cummax(0).values
    turn = served[instance[order]].argsort(stable=True)
    return order[turn[rank[turn].argsort(stable=True)]]

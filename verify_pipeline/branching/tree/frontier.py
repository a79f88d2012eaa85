"""The open subproblems of many instances at once, and the order in which they are taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from verify_pipeline.batched import Batched


@dataclass(frozen=True, eq=False)
class Subproblems(Batched):
    """Parts of instances' boxes that are not proved; each kind of split derives a class from this.

    Attributes:
        instance: ``D``, the instance of each subproblem.
        lower: ``D``, a lower bound of the value that has to become positive; the worst comes first.
        share: ``D`` float64, the share of the instance's trees; a split halves it.
    """

    instance: Tensor
    lower: Tensor
    share: Tensor

    @property
    def can_be_split(self) -> Tensor:
        """``D`` booleans; a subproblem that cannot be split stays open for another search."""
        return torch.ones_like(self.instance, dtype=torch.bool)


S = TypeVar("S", bound=Subproblems)


class Frontier(Generic[S]):
    """Open subproblems in slots that are reused.

    Every subproblem that is pushed is popped once, unless it is dropped before. The order is fair:
    every instance's worst subproblem comes before any instance's second worst, and so on. Among
    subproblems of one rank, the instance that was served least comes first.

    Args:
        like: subproblems of the kind that the frontier will hold.
        instances: N.
    """

    def __init__(self, like: S, instances: int) -> None:
        self._slots = like[:0]
        self._used = torch.zeros(0, dtype=torch.bool, device=like.instance.device)
        self._instances = instances

    def __len__(self) -> int:
        return int(self._used.sum())

    @property
    def bytes(self) -> int:
        """Bytes that the open subproblems take."""
        return len(self) * self._slots.bytes_each

    @property
    def counts(self) -> Tensor:
        """Open subproblems of each instance, ``N``."""
        return torch.bincount(self._slots.instance[self._used], minlength=self._instances)

    @property
    def shares(self) -> Tensor:
        """The open share of each instance's trees, ``N`` float64."""
        nothing = torch.zeros(self._instances, dtype=torch.float64, device=self._used.device)
        used = self._used
        return nothing.index_add_(0, self._slots.instance[used], self._slots.share[used])

    def push(self, subproblems: S) -> None:
        """Add subproblems."""
        missing = len(subproblems) - int((~self._used).sum())
        if missing > 0:
            self._grow(max(missing, len(self._used)), subproblems)
        free = (~self._used).nonzero().squeeze(1)[: len(subproblems)]
        self._slots.put(free, subproblems)
        self._used[free] = True

    def pop(self, count: int, served: Tensor, going: Tensor) -> S:
        """Remove and return at most ``count`` subproblems that can be split.

        Args:
            count: at least 1.
            served: ``N``, how much each instance was served; the least served comes first.
            going: ``N`` booleans, the instances whose subproblems may be returned.
        """
        slots = (self._used & self._slots.can_be_split).nonzero().squeeze(1)
        slots = slots[going[self._slots.instance[slots]]]
        turn = in_turn(self._slots.instance[slots], self._slots.lower[slots], served)
        chosen = slots[turn[:count]]
        self._used[chosen] = False
        return self._slots[chosen]

    def drop(self, instance: int) -> None:
        """Remove all subproblems of an instance."""
        self._used &= self._slots.instance != instance

    def all(self) -> S:
        """Return the open subproblems and keep them open."""
        return self._slots[self._used]

    def _grow(self, more: int, like: S) -> None:
        room = torch.zeros(more, dtype=torch.long, device=self._used.device)
        self._slots = like[room] if len(self._used) == 0 else self._slots.with_more(like[room])
        self._used = torch.cat([self._used, self._used.new_zeros(more)])


def in_turn(instance: Tensor, lower: Tensor, served: Tensor) -> Tensor:
    """The order in which open subproblems are taken, ``D`` indices.

    Args:
        instance: the instance of each subproblem, ``D``.
        lower: their bounds, ``D``; an instance's worst subproblem comes first.
        served: ``N``, how much each instance was served; the least served comes first.
    """
    order = lower.argsort(stable=True)
    order = order[instance[order].argsort(stable=True)]
    place = torch.arange(len(order), device=order.device)
    first = torch.ones_like(place, dtype=torch.bool)
    first[1:] = instance[order[1:]] != instance[order[:-1]]
    rank = place - torch.where(first, place, 0).cummax(0).values
    turn = served[instance[order]].argsort(stable=True)
    return order[turn[rank[turn].argsort(stable=True)]]

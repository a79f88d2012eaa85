"""Value objects that hold many things of one kind, a field for each of their properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from verify_pipeline.bounds import NodeBounds

Column = Tensor | NodeBounds | dict[int, Tensor]
"""A property of D things: the first axis is D, in every tensor of it."""


@dataclass(frozen=True, eq=False)
class Batched:
    """D things; every field of a subclass is a :data:`Column`, the first one a tensor."""

    def __len__(self) -> int:
        """D."""
        return len(self.columns()[0])

    def __getitem__(self, index: slice | Tensor) -> Self:
        """Some of them (in the index's order, repeated where it repeats)."""
        return type(self)(*(_picked(column, index) for column in self.columns()))

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """All of one or more parts, in order; of empty ones, nothing is looked at."""
        some = [part for part in parts if len(part)]
        if len(some) <= 1:
            return some[0] if some else parts[0]
        together = zip(*(part.columns() for part in some), strict=True)
        return cls(*(_joined(columns) for columns in together))

    def with_more(self, other: Self) -> Self:
        """These and others, in order."""
        return self.cat([self, other])

    def columns(self) -> list[Column]:
        """The fields' values, in order."""
        return [getattr(self, f.name) for f in fields(self)]


def _picked(column: Column, index: slice | Tensor) -> Column:
    if isinstance(column, dict):
        return {place: values[index] for place, values in column.items()}
    return column[index]


def _joined(columns: Sequence[Column]) -> Column:
    """One column of several of the same property."""
    first, *others = columns
    if isinstance(first, Tensor):
        return torch.cat([column for column in columns if isinstance(column, Tensor)])
    if isinstance(first, dict):
        dicts = [column for column in columns if isinstance(column, dict)]
        return {place: torch.cat([one[place] for one in dicts]) for place in first}
    for other in others:
        assert isinstance(other, NodeBounds)
        first = first.followed_by(other)
    return first

"""Value objects that hold many things of one kind: one field for each property of them.

Every tensor of such an object has the batch axis first, also those inside dictionaries and inside
other batched objects. What is no tensor (a graph, a number) belongs to all things together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

Index = slice | Tensor
"""Picks some of the things, in its own order, and repeats what it repeats."""


@dataclass(frozen=True, eq=False)
class Batched:
    """N things; the first tensor of the first field tells how many."""

    def __len__(self) -> int:
        """N; 0 if there is no tensor."""
        first = next(_tensors(list(_values(self))), None)
        return 0 if first is None else first.shape[0]

    def __getitem__(self, index: Index) -> Self:
        """Some of them."""
        return self.map(lambda values: values[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with each tensor changed."""
        return type(self)(**{f.name: _mapped(getattr(self, f.name), change) for f in fields(self)})

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """All of one or more batches, in order; of empty ones nothing is looked at."""
        some = [part for part in parts if len(part)]
        if len(some) <= 1:
            return some[0] if some else parts[0]
        columns = zip(*(_values(part) for part in some), strict=True)
        return cls(*(_joined(list(column)) for column in columns))

    def with_more(self, other: Self) -> Self:
        """These and others, in order."""
        return self.cat([self, other])

    def put(self, index: Tensor, others: Self) -> None:
        """Write ``others`` over those at ``index``, in place."""
        for mine, new in zip(_tensors([self]), _tensors([others]), strict=True):
            mine[index] = new

    def with_put(self, index: Tensor, others: Self) -> Self:
        """The same with ``others`` instead of those at ``index``."""
        changed = self.map(torch.clone)
        changed.put(index, others)
        return changed

    @property
    def bytes_each(self) -> int:
        """What one of them takes."""
        return sum(v.element_size() * math.prod(v.shape[1:]) for v in _tensors([self]))


def _values(batch: Batched) -> Iterator[Any]:
    return (getattr(batch, f.name) for f in fields(batch))


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """Every tensor in some values, in a fixed order."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from _tensors(list(value.values()))
        elif isinstance(value, Batched):
            yield from _tensors(list(_values(value)))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    return value.map(change) if isinstance(value, Batched) else value


def _joined(values: list[Any]) -> Any:
    """One property of several batches."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, dict):
        return {key: _joined([one[key] for one in values]) for key in first}
    return type(first).cat(values) if isinstance(first, Batched) else first

"""Value objects that hold a batch of items, with one field for each property of an item.

The batch axis is the first axis of every tensor, including tensors in dictionaries and in nested
batched objects. A field that is not a tensor (a graph, a number) belongs to the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

Index = slice | Tensor
"""Selects items, in any order and with repetitions: a slice, indices, or booleans."""


@dataclass(frozen=True, eq=False)
class Batched:
    """A batch of N items; its first tensor determines N."""

    def __len__(self) -> int:
        """N, or 0 if there is no tensor."""
        first = next(_tensors(list(_values(self))), None)
        return 0 if first is None else first.shape[0]

    def __getitem__(self, index: Index) -> Self:
        """The selected items."""
        return self.map(lambda values: values[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same object with ``change`` applied to each tensor."""
        return type(self)(**{f.name: _mapped(getattr(self, f.name), change) for f in fields(self)})

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Concatenate one or more batches in order; empty batches are ignored."""
        some = [part for part in parts if len(part)]
        if len(some) <= 1:
            return some[0] if some else parts[0]
        columns = zip(*(_values(part) for part in some), strict=True)
        return cls(*(_joined(list(column)) for column in columns))

    def with_more(self, other: Self) -> Self:
        """Append the items of ``other``."""
        return self.cat([self, other])

    def put(self, index: Tensor, others: Self) -> None:
        """Overwrite the items at ``index`` with ``others``, in place."""
        for mine, new in zip(_tensors([self]), _tensors([others]), strict=True):
            mine[index] = new

    def with_put(self, index: Tensor, others: Self) -> Self:
        """A copy in which ``others`` replace the items at ``index``."""
        changed = self.map(torch.clone)
        changed.put(index, others)
        return changed

    @property
    def bytes_each(self) -> int:
        """Memory of one item in bytes."""
        return sum(v.element_size() * math.prod(v.shape[1:]) for v in _tensors([self]))


def _values(batch: Batched) -> Iterator[Any]:
    return (getattr(batch, f.name) for f in fields(batch))


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """All tensors in the values, in a fixed order."""
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
    """One property, concatenated over several batches."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, dict):
        return {key: _joined([one[key] for one in values]) for key in first}
    return type(first).cat(values) if isinstance(first, Batched) else first

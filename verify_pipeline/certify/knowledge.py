"""Results that stages keep for later stages, per instance and within a memory limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, NodeBounds


@dataclass(frozen=True, eq=False)
class Learned:
    """For ``N`` instances: float64 bounds of nodes, and multipliers if they were optimised."""

    bounds: NodeBounds
    multipliers: Multipliers | None = None


class Knowledge:
    """A store of :class:`Learned` by the image's index.

    When it is full, it stores nothing more, and later stages compute what they need again: it
    affects the time, never a verdict.

    Args:
        limit: bytes that it may hold.
        device: where to hand tensors out; they are kept on the CPU.
    """

    def __init__(self, limit: int, device: torch.device) -> None:
        self._limit = limit
        self._device = device
        self._learned: dict[int, Learned] = {}
        self._bytes = 0

    def remember(self, indices: Sequence[int], learned: Learned) -> None:
        """Keep what was learned of ``indices`` (instance n of it is ``indices[n]``)."""
        for place, index in enumerate(indices):
            self.forget(index)
            one = _one(learned, place)
            size = _bytes(one)
            if self._bytes + size <= self._limit:
                self._learned[index] = one
                self._bytes += size

    def recall(self, indices: Sequence[int]) -> Learned | None:
        """The entries of ``indices`` as one batch; None unless all of them have one.

        Multipliers are included only if every entry has them, for the same nodes.
        """
        found = [self._learned[index] for index in indices if index in self._learned]
        if not found or len(found) < len(indices):
            return None
        bounds = NodeBounds(
            _stack([one.bounds.lower for one in found]), _stack([one.bounds.upper for one in found])
        ).to(self._device)
        each = [one.multipliers for one in found if one.multipliers is not None]
        if len(each) < len(found) or len({_signature(m) for m in each}) > 1:
            return Learned(bounds)
        multipliers = Multipliers(_stack([m.alpha for m in each]), _stack([m.beta for m in each]))
        return Learned(bounds, multipliers.to(self._device))

    def forget(self, index: int) -> None:
        """Drop the entry of ``index``, if there is one."""
        one = self._learned.pop(index, None)
        if one is not None:
            self._bytes -= _bytes(one)


def _one(learned: Learned, place: int) -> Learned:
    """Instance ``place``, as copies that do not hold the whole batch in memory."""
    bounds = NodeBounds(_cut(learned.bounds.lower, place), _cut(learned.bounds.upper, place))
    if learned.multipliers is None:
        return Learned(bounds)
    multipliers = learned.multipliers
    return Learned(
        bounds, Multipliers(_cut(multipliers.alpha, place), _cut(multipliers.beta, place))
    )


def _cut(tensors: dict[int, Tensor], place: int) -> dict[int, Tensor]:
    return {key: value[place : place + 1].detach().cpu().clone() for key, value in tensors.items()}


def _stack(batches: list[dict[int, Tensor]]) -> dict[int, Tensor]:
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def _signature(multipliers: Multipliers) -> tuple[object, ...]:
    return tuple(
        (key, tuple(value.shape[1:]))
        for tensors in (multipliers.alpha, multipliers.beta)
        for key, value in sorted(tensors.items())
    )


def _bytes(learned: Learned) -> int:
    tensors = [*learned.bounds.lower.values(), *learned.bounds.upper.values()]
    if learned.multipliers is not None:
        tensors += [*learned.multipliers.alpha.values(), *learned.multipliers.beta.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

"""Results that stages keep for later stages, per instance and within a memory limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds import Multipliers, NodeBounds
from verify_pipeline.problem import Specification
from verify_pipeline.rounding import next_down


@dataclass(frozen=True, eq=False)
class RowBounds(Batched):
    """Lower bounds of the rows of ``N`` specifications over their boxes, in float64.

    Attributes:
        lower: ``N x S``.
        offsets: of the specifications that were bounded, ``N x S``.
    """

    lower: Tensor
    offsets: Tensor

    def of(self, spec: Specification) -> Tensor:
        """Lower bounds ``N x S`` for the same rows with the offsets of ``spec``.

        Offsets differ if the errors of the file's evaluation were bounded better in between.
        """
        more = next_down(spec.offsets - self.offsets)
        moved = next_down(self.lower + more)
        return torch.where(spec.offsets == self.offsets, self.lower, moved)


@dataclass(frozen=True, eq=False)
class Learned(Batched):
    """What stages have learned of ``N`` instances.

    Attributes:
        bounds: float64 bounds of nodes.
        multipliers: of the rows' bounds; None: they were not optimised.
        rows: bounds of the rows; None: they were not computed.
    """

    bounds: NodeBounds
    multipliers: Multipliers | None = None
    rows: RowBounds | None = None


class Knowledge:
    """A store of :class:`Learned` by the image's index.

    An entry that does not fit is stored without its multipliers. When that does not fit either,
    later stages compute what they need again: it affects the time, never a verdict.

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
            one = learned[place : place + 1]
            if not self._fits(one):
                one = replace(one, multipliers=None)
            if self._fits(one):
                # a copy, which does not hold the whole batch in memory
                self._learned[index] = one.map(lambda values: values.detach().cpu().clone())
                self._bytes += one.bytes_each

    def _fits(self, one: Learned) -> bool:
        return self._bytes + one.bytes_each <= self._limit

    def __contains__(self, index: int) -> bool:
        """Whether there is an entry of ``index``."""
        return index in self._learned

    def recall(self, indices: Sequence[int]) -> Learned | None:
        """The entries of ``indices`` as one batch; None unless all of them have one.

        Multipliers are included only if every entry has them, for the same nodes; bounds of rows,
        if every entry has them.
        """
        found = [self._learned[index] for index in indices if index in self._learned]
        if not found or len(found) < len(indices):
            return None
        if len({_signature(one.multipliers) for one in found}) > 1:
            found = [replace(one, multipliers=None) for one in found]
        if any(one.rows is None for one in found):
            found = [replace(one, rows=None) for one in found]
        return Learned.cat(found).map(lambda values: values.to(self._device))

    def forget(self, index: int) -> None:
        """Drop the entry of ``index``, if there is one."""
        one = self._learned.pop(index, None)
        if one is not None:
            self._bytes -= one.bytes_each


def _signature(multipliers: Multipliers | None) -> tuple[object, ...] | None:
    if multipliers is None:
        return None
    return tuple(
        (key, tuple(value.shape[1:]))
        for tensors in (multipliers.alpha, multipliers.beta)
        for key, value in sorted(tensors.items())
    )

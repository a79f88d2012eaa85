"""The losses of an epoch's steps: read from their device in groups, then told in order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

READ_EVERY = {"cpu": 1}
"""Steps whose losses are read together, by the type of their device."""

READ_EVERY_ELSEWHERE = 16
"""As many on an accelerator: the host prepares further steps instead of waiting for each loss."""

Part = tuple[Tensor, float]
"""A loss of a part of a batch, and the part's share of the batch."""


def read_every(device: torch.device) -> int:
    """How many steps' losses are read together."""
    return READ_EVERY.get(device.type, READ_EVERY_ELSEWHERE)


class StepLosses:
    """Keeps losses until they are read.

    The first step's loss is read at once, so that whoever is told can measure from there on.

    Args:
        every: steps whose losses are read together.
        tell: gets each step, counted from 1, and its loss.
    """

    def __init__(self, every: int, tell: Callable[[int, float], None]) -> None:
        self._every, self._tell = every, tell
        self._told = 0
        self._kept: list[list[Part]] = []

    def add(self, parts: list[Part]) -> None:
        """Add a step's losses, one for each part of its batch."""
        self._kept.append(parts)
        step = self._told + len(self._kept)
        if (step - 1) % self._every == 0:
            self.read()

    def read(self) -> None:
        """Read and tell what was not read yet."""
        if not self._kept:
            return
        kept, self._kept = self._kept, []
        values = iter(torch.stack([loss for parts in kept for loss, _ in parts]).tolist())
        for parts in kept:
            total = 0.0
            for _, share in parts:
                total += next(values) * share
            self._told += 1
            self._tell(self._told, total)

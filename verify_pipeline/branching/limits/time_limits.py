"""Time limits of instances, some of which share their time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.batched import Batched

_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Deadlines(Batched):
    """Seconds that instances may be charged; a group shares what its instances leave unused.

    Attributes:
        seconds: ``N``, > 0, each instance's own part.
        group: ``N`` integers >= 0, equal for instances that share their time.
    """

    seconds: Tensor
    group: Tensor

    @staticmethod
    def alone(seconds: Tensor) -> Deadlines:
        """Deadlines of ``N`` instances that share nothing, from the seconds of each."""
        return Deadlines(seconds, torch.arange(len(seconds), device=seconds.device))

    def shared(self) -> Tensor:
        """Seconds that each instance may be charged if it gets all seconds of its group, ``N``."""
        _, place = self.group.unique(return_inverse=True)
        total = torch.zeros_like(self.seconds).index_add_(0, place, self.seconds)
        return total[place]

    def after(self, ended: int, charged: Tensor, open_: Tensor) -> Deadlines:
        """Divide the unused seconds of an instance equally among the open instances of its group.

        Args:
            ended: index of the instance.
            charged: seconds charged to each instance, ``N``.
            open_: ``N`` booleans, instances that go on; ``ended`` is not among them.
        """
        heirs = open_ & (self.group == self.group[ended])
        left = float(self.seconds[ended] - charged[ended])
        if left <= 0 or not bool(heirs.any()):
            return self
        return Deadlines(self.seconds + heirs * (left / int(heirs.sum())), self.group)

    def less(self, seconds: float) -> Deadlines:
        """Deadlines with so many seconds less for each instance, but still positive."""
        return Deadlines((self.seconds - seconds).clamp_min(_LEAST), self.group)

    def to(self, target: torch.device | torch.dtype) -> Deadlines:
        """The same on another device, or with seconds of another dtype."""
        if isinstance(target, torch.dtype):
            return Deadlines(self.seconds.to(target), self.group)
        return Deadlines(self.seconds.to(target), self.group.to(target))

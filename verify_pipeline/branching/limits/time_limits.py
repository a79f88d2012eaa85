"""Until when an instance may be worked on, where some share their time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.batched import Batched

_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Deadlines(Batched):
    """Seconds that instances may be charged; what one leaves unused goes to its group.

    Attributes:
        seconds: ``N``, > 0, each instance's own part.
        group: ``N`` integers >= 0, equal for instances that share.
    """

    seconds: Tensor
    group: Tensor

    @staticmethod
    def alone(seconds: Tensor) -> Deadlines:
        """Each instance for itself, ``N`` seconds."""
        return Deadlines(seconds, torch.arange(len(seconds), device=seconds.device))

    def shared(self) -> Tensor:
        """Seconds that each instance may be charged if it gets all of its group's, ``N``."""
        _, place = self.group.unique(return_inverse=True)
        total = torch.zeros_like(self.seconds).index_add_(0, place, self.seconds)
        return total[place]

    def after(self, ended: int, charged: Tensor, open_: Tensor) -> Deadlines:
        """With what an instance leaves unused handed to the open ones of its group, in equal parts.

        Args:
            ended: the instance's place.
            charged: ``N`` seconds.
            open_: ``N`` booleans, instances that go on; the ended one is none of them.
        """
        heirs = open_ & (self.group == self.group[ended])
        left = float(self.seconds[ended] - charged[ended])
        if left <= 0 or not bool(heirs.any()):
            return self
        return Deadlines(self.seconds + heirs * (left / int(heirs.sum())), self.group)

    def less(self, seconds: float) -> Deadlines:
        """With so many seconds used up of each; something positive stays."""
        return Deadlines((self.seconds - seconds).clamp_min(_LEAST), self.group)

    def to(self, target: torch.device | torch.dtype) -> Deadlines:
        """The same on another device, or with seconds of another dtype."""
        if isinstance(target, torch.dtype):
            return Deadlines(self.seconds.to(target), self.group)
        return Deadlines(self.seconds.to(target), self.group.to(target))

"""A step's forward passes, and which mean and variance batch normalisation uses in each.

Batch normalisation makes the order of the passes part of the method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from torch import Tensor, nn

from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.training.batch_norm import Statistics, batch_norms, held, recorded

Network = Callable[[Tensor], Tensor]
"""From pixels ``N x C x H x W`` to logits ``N x K``."""


class Passes(Protocol):
    """The passes of one step, called in this order."""

    @property
    def clean_has_influence(self) -> bool:
        """Whether later passes depend on the clean one's activations."""
        ...

    def clean(self, images: Tensor) -> Tensor:
        """Logits of the images; moves the running statistics."""
        ...

    def attack(self) -> AbstractContextManager[Network]:
        """The network that the attack uses; the running statistics stay unchanged."""
        ...

    def adversarial(self, points: Tensor) -> Tensor:
        """Logits of the attack's points; the step's bounds are computed after this pass."""
        ...


class AdversarialStatistics:
    """As De Palma et al. 2024 (arXiv:2305.13991) train.

    Clean and adversarial pass each use their own batch's statistics and move the running ones,
    which the attack uses. Bounds use those of the last pass, with gradients through them.

    Args:
        module: the network.
        bounder: the same with bounds, if there are any; with batch normalisation it makes the
            passes, as it keeps the batch's statistics.
        group: of processes, whose parts of the batch have their statistics together.
    """

    clean_has_influence = False

    def __init__(
        self, module: nn.Module, bounder: AutoLirpaBounder | None, group: ProcessGroup = ALONE
    ) -> None:
        self._module, self._bounder, self._group = module, bounder, group
        has_statistics = bool(batch_norms(module))
        self._forward: Network = bounder.forward if bounder and has_statistics else module
        if group.size > 1 and has_statistics:
            self._forward = self._synchronised

    def clean(self, images: Tensor) -> Tensor:
        """In train mode."""
        self._module.train()
        if self._bounder is not None:
            self._bounder.train(True)
        return self._forward(images)

    @contextmanager
    def attack(self) -> Iterator[Network]:
        """In eval mode."""
        self._module.eval()
        yield self._module
        self._module.train()

    def adversarial(self, points: Tensor) -> Tensor:
        """In train mode."""
        return self._forward(points)

    def _synchronised(self, points: Tensor) -> Tensor:
        """With statistics of all processes' points, which the bounds then use."""
        with recorded(self._module, self._group) as statistics:
            logits: Tensor = self._module(points)
        if self._bounder is not None:
            self._bounder.use_statistics(statistics)
        return logits


class CleanStatistics:
    """As CTBench trains (Mao et al. 2024, arXiv:2406.04848).

    Attack, adversarial pass and bounds all use the clean batch's mean and biased variance, with
    gradients through them (but for the attack). Only the clean pass moves the running statistics,
    which training itself does not use.

    Args:
        module: the network.
        bounder: the same with bounds, if there are any.
        group: of processes, whose parts of the batch have their statistics together.
    """

    def __init__(
        self, module: nn.Module, bounder: AutoLirpaBounder | None, group: ProcessGroup = ALONE
    ) -> None:
        self._module, self._bounder, self._group = module, bounder, group
        self._statistics: Statistics = {}
        self.clean_has_influence = bool(batch_norms(module))

    def clean(self, images: Tensor) -> Tensor:
        """In train mode."""
        if self._bounder is not None:
            self._bounder.train(True)
        self._module.train()
        with recorded(self._module, self._group) as self._statistics:
            logits: Tensor = self._module(images)
        if self._bounder is not None:
            self._bounder.use_statistics(self._statistics)
        return logits

    @contextmanager
    def attack(self) -> Iterator[Network]:
        """With the clean batch's statistics as constants."""
        fixed = {name: (m.detach(), v.detach()) for name, (m, v) in self._statistics.items()}
        with held(self._module, fixed):
            yield self._module

    def adversarial(self, points: Tensor) -> Tensor:
        """With the clean batch's statistics."""
        with held(self._module, self._statistics):
            logits: Tensor = self._module(points)
        return logits


POLICIES: dict[str, Callable[[nn.Module, AutoLirpaBounder | None, ProcessGroup], Passes]] = {
    "paper": AdversarialStatistics,
    "ctbench": CleanStatistics,
}
"""By the name that settings give them."""

"""Gradients of a batch that is cut into parts, with statistics of the whole batch.

Batch normalisation makes a part's loss depend on the other parts. Here one pass without gradients
over the whole batch gives mean and variance of every layer; the parts then use them as constants.
So the loss is that of the whole batch, but for means over the batch inside a loss (Exp-IBP) or
regulariser. Its gradient lacks what goes through the statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.training.batch_norm import Statistics, held, recorded
from verify_pipeline.training.passes import Network


class WholeBatchStatistics:
    """The passes of a part's step, see ``passes.Passes``, with statistics of the whole batch.

    Call :meth:`of_clean` with the whole batch, then :meth:`of_adversarial` with all points of the
    attack; then the parts may pass.

    Args:
        module: the network.
        bounder: the same with bounds, if there are any.
        group: of processes.
        policy: whose statistics which pass uses, as in ``TrainSettings.batch_norm_policy``.
    """

    clean_has_influence = False

    def __init__(
        self,
        module: nn.Module,
        bounder: AutoLirpaBounder | None,
        group: ProcessGroup = ALONE,
        policy: str = "paper",
    ) -> None:
        self._module, self._bounder, self._group = module, bounder, group
        self._is_paper = policy == "paper"
        self._of_clean: Statistics = {}
        self._of_bounds: Statistics = {}

    def of_clean(self, images: Tensor) -> None:
        """Compute the statistics of this process's images, together with the others'."""
        self._of_clean = self._of_bounds = self._measured(images)

    def of_adversarial(self, points: Tensor) -> None:
        """Compute those of the attack's points, where the policy has them."""
        if self._is_paper:
            self._of_bounds = self._measured(points)

    @torch.no_grad()
    def _measured(self, x: Tensor) -> Statistics:
        """Of the whole batch; the running statistics move, as in a usual pass."""
        self._module.train()
        with recorded(self._module, self._group) as statistics:
            self._module(x)
        return statistics

    def clean(self, images: Tensor) -> Tensor:
        """With the clean batch's statistics."""
        if self._bounder is not None:
            self._bounder.train(True)
            self._bounder.use_statistics(self._of_bounds)
        return self._held(images, self._of_clean)

    @contextmanager
    def attack(self) -> Iterator[Network]:
        """With the running statistics, or with the clean batch's (``ctbench``)."""
        if not self._is_paper:
            with held(self._module, self._of_clean):
                yield self._module
            return
        self._module.eval()
        yield self._module
        self._module.train()

    def adversarial(self, points: Tensor) -> Tensor:
        """With the statistics that bounds use, too."""
        return self._held(points, self._of_bounds)

    def _held(self, x: Tensor, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        with held(self._module, statistics):
            logits: Tensor = self._module(x)
        return logits


Part = tuple[Tensor, Tensor]
"""Pixels ``N x C x H x W`` and labels ``N`` of a part."""

Attack = Callable[[Tensor, Tensor], Tensor | None]
"""From a part to its points of this process; None if the loss attacks nothing."""


def measure(
    passes: WholeBatchStatistics, parts: list[Part], attack: Attack, group: ProcessGroup = ALONE
) -> list[Tensor | None]:
    """Compute the statistics of a batch; returns the attack's points of each part.

    Args:
        passes: get the statistics.
        parts: of the batch.
        attack: finds the points.
        group: of processes, each of which passes its share of each part.
    """
    passes.of_clean(torch.cat([images[group.part(len(images))] for images, _ in parts]))
    points = [attack(images, labels) for images, labels in parts]
    found = [each for each in points if each is not None]
    if found:
        passes.of_adversarial(torch.cat(found))
    return points

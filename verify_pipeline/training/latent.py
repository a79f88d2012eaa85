"""The margins of TAPS: what an attack finds in the box of a layer's outputs.

Mao et al. 2023 (arXiv:2305.04574). ``losses/taps.py`` has the loss and the gradient connector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.errors import NetworkError
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import connected, gradient_weighted
from verify_pipeline.network.cutting import ModuleCuts
from verify_pipeline.problem import Box
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.training.batch_norm import Statistics, held
from verify_pipeline.training.precision import passes_in
from verify_pipeline.training.settings import TapsSettings


class LatentMargins:
    """Least margins that an attack finds in the latent box, each by an attack of its own.

    The latent box is the IBP box of the outputs of the ReLU before the classifier. Attack and
    margins use the batch-norm statistics that the bounds use: no margin is below its IBP bound, but
    for rounding. Gradients go through these statistics, except in the attack.

    Args:
        module: the network.
        bounder: the same with bounds.
        settings: where the network is cut, and how it is attacked.
        generator: of the attack's random starts.
        group: of processes.

    Raises:
        ConfigError: the network cannot be cut there.
        NetworkError: the network cannot be cut, or its ReLUs cannot be told apart.
    """

    def __init__(
        self,
        module: nn.Module,
        bounder: AutoLirpaBounder,
        settings: TapsSettings,
        generator: torch.Generator,
        group: ProcessGroup = ALONE,
    ) -> None:
        self._module, self._bounder, self._settings = module, bounder, settings
        self._generator, self._group = generator, group
        cuts = ModuleCuts(module)
        self._classifier = cuts.behind(settings.classifier_relus)
        self._place = cuts.relus - settings.classifier_relus - 1
        self._relus = cuts.relus

    def __call__(self, box: Box, rows: Tensor, count: int | None = None) -> Tensor:
        """Margins ``N x S``; to be called right after ``bounder.ibp(box, rows)``.

        Args:
            box: ``N`` boxes of inputs.
            rows: ``N x S x K``.
            count: images of the whole batch, of which N are this process's; None: N.
        """
        lower, upper = self._latent_box(box)
        statistics = self._bounder.statistics()
        points = self._attacked(lower, upper, rows, count or len(rows), statistics)
        with held(self._module, statistics):
            reached = connected(points, lower, upper, self._settings.connector)
            margins = self._margins(reached.flatten(0, 1), rows).view(rows.shape[:2])
        return gradient_weighted(margins, self._settings.gradient_weight)

    def _latent_box(self, box: Box) -> tuple[Tensor, Tensor]:
        """Lower and upper sides ``N x *V``, with gradients unless they are the input's."""
        if self._place < 0:
            return box.lower, box.upper
        outputs = self._bounder.relu_outputs()
        if len(outputs) != self._relus:
            raise NetworkError(
                "cutting the network in two",
                expected=f"the {self._relus} ReLUs that torch.fx sees",
                got=f"{len(outputs)} in auto_LiRPA's graph",
            )
        return outputs[self._place]

    def _attacked(
        self, lower: Tensor, upper: Tensor, rows: Tensor, count: int, statistics: Statistics
    ) -> Tensor:
        """Points ``N x S x *V`` of the latent boxes that approximately minimise one row each."""
        specified = rows.shape[1]
        fixed = {name: (m.detach(), v.detach()) for name, (m, v) in statistics.items()}
        attack = self._settings.attack
        with held(self._module, fixed), passes_in(attack.precision, lower.device):
            points = pgd(
                lambda x: -self._margins(x, rows),
                Box.unread(*(_repeated(side.detach(), specified) for side in (lower, upper))),
                steps=attack.steps,
                step_size=attack.step_size,
                restarts=attack.restarts,
                generator=self._generator,
                rand=_rows_of_images(self._group.rand(count), specified),
            )
        return points.reshape(*rows.shape[:2], *points.shape[1:])

    def _margins(self, latent: Tensor, rows: Tensor) -> Tensor:
        """One margin of each latent point: of row s at point s; ``NS x *V`` to ``NS``."""
        outputs: Tensor = self._classifier(latent)
        return torch.einsum("nk,nk->n", rows.flatten(0, 1), outputs)


def _repeated(x: Tensor, times: int) -> Tensor:
    """Each instance of ``N x *V`` so many times in a row."""
    return x.repeat_interleave(times, 0)


def _rows_of_images(rand: Callable[..., Tensor], specified: int) -> Callable[..., Tensor]:
    """Random numbers for ``NS x *V``, drawn image by image: a process has all rows of its own."""

    def draw(shape: torch.Size, **options: Any) -> Tensor:
        images = (shape[0] // specified, specified, *shape[1:])
        return rand(torch.Size(images), **options).flatten(0, 1)

    return draw

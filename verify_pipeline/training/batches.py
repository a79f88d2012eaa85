"""Which images a step sees: the epoch's order, cut into batches, and batches into parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from verify_pipeline.data import ImageSet
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.training.batch_norm import batch_norms
from verify_pipeline.training.settings import OptimiserSettings


@dataclass(frozen=True)
class Batches:
    """How the images of an epoch are cut.

    Attributes:
        images: how many there are.
        size: of a batch.
        least: images that a batch or a part of one has at least. A last batch of fewer is left out
            (the next epoch's order holds its images again).
        parts: that a batch is cut into, if it has enough images.
    """

    images: int
    size: int
    least: int
    parts: int

    @staticmethod
    def of(
        images: ImageSet,
        settings: OptimiserSettings,
        module: nn.Module,
        group: ProcessGroup = ALONE,
    ) -> Batches:
        """For these images, settings and network.

        How images are cut does not depend on the number of processes, so that it may change.

        Raises:
            ConfigError: batches of one image for a network with batch normalisation, or parts of
                fewer images than processes.
            DataError: too few images.
        """
        least = 2 if batch_norms(module) else 1
        why = ": batch normalisation has no variance of a single image" if least == 2 else ""
        if len(images) < least:
            raise DataError(
                f"images {images.name} ({images.split})",
                expected=f"at least {least} to train on{why}",
                got=str(len(images)),
            )
        if settings.batch < least:
            raise ConfigError(
                "train.optimiser.batch",
                expected=f"at least {least}{why}",
                got=str(settings.batch),
                remedy="Choose larger batches, or train.network.batch_norm: false.",
            )
        made = Batches(len(images), settings.batch, least, settings.accumulate)
        if made.smallest < group.size:
            raise ConfigError(
                "processes",
                expected=f"at most {made.smallest}, the images of the smallest step",
                got=str(group.size),
                remedy="Start fewer, or choose another train.optimiser.batch.",
            )
        return made

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(self.images, self.size)
        return whole + (rest >= self.least)

    @property
    def smallest(self) -> int:
        """Images of the smallest part of a batch."""
        rest = self.images % self.size
        batches = [min(self.size, self.images), *([rest] if rest >= self.least else [])]
        return min(size // min(self.parts, size // self.least) for size in batches)

    def shuffled(
        self, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Iterator[Tensor]:
        """Indices of each step's images, in an order that the generator's state decides.

        Args:
            generator: of the order, on the CPU.
            device: of the indices; they are moved there once.
        """
        order = torch.randperm(self.images, generator=generator).to(device)
        for step in range(self.steps):
            yield order[step * self.size : (step + 1) * self.size]

    def cut(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The parts of a batch, whose gradients are added up."""
        return batch.tensor_split(min(self.parts, len(batch) // self.least))

"""What is certified: instances with their boxes and specifications, made batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from verify_pipeline.certify.boxes import exact_box
from verify_pipeline.certify.records import instance_digest
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import DataError
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


@dataclass(frozen=True, eq=False)
class Batch:
    """Instances as the stages take them, on the CPU.

    Attributes:
        box: float64.
        spec: float64.
        points: float32 ``N x *X``, one input of each box.
    """

    box: Box
    spec: Specification
    points: Tensor


class Instances(Protocol):
    """A set of instances, each known by its index in its data set.

    Attributes:
        indices: of the instances, in order.
        rows: S, at most, of the specifications.
    """

    @property
    def indices(self) -> tuple[int, ...]:
        """Of the instances, in order."""
        ...

    @property
    def rows(self) -> int:
        """S, at most, of the specifications."""
        ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """Some of the instances."""
        ...

    def digest(self, index: int) -> str:
        """Of the instance's box and specification: equal iff they are."""
        ...

    def label(self, index: int) -> int | None:
        """The right class, where the specification is about classes."""
        ...


class RobustImages:
    """Images that must keep their class within the L∞ ball of half-width ``epsilon``, in [0, 1].

    Args:
        images: the whole data set.
        indices: which of its images.
        epsilon: half-width of the boxes.
    """

    def __init__(self, images: ImageSet, indices: Sequence[int], epsilon: float) -> None:
        self._images = images
        self._epsilon = epsilon
        self.indices = tuple(indices)
        self.rows = images.classes - 1

    def batch(self, indices: Sequence[int]) -> Batch:
        """Float64 boxes and margins of these images."""
        chosen = torch.tensor(indices, dtype=torch.int64)
        pixels = self._images.pixels(chosen).cpu()
        labels = self._images.labels[chosen].cpu()
        spec = Specification.margins(labels, self._images.classes, torch.float64)
        return Batch(exact_box(pixels, self._epsilon), spec, pixels)

    def digest(self, index: int) -> str:
        """Of pixels and label: the run's key says ε, and the rest follows."""
        chosen = torch.tensor([index])
        label = self._images.labels[chosen].cpu()
        return instance_digest(self._images.pixels(chosen).cpu(), label)

    def label(self, index: int) -> int:
        """The image's class."""
        return int(self._images.labels[index])

    def check_fits(self, graph: Graph) -> None:
        """Refuse a network that these images are not for.

        Raises:
            DataError: input shapes or numbers of classes differ.
        """
        shape = tuple(self._images.images.shape[1:])
        if shape != graph.input_shape:
            raise DataError(
                f"images of {self._images.name}",
                expected=f"the network's input shape {graph.input_shape}",
                got=str(shape),
                remedy="Check that the data set and the network belong together.",
            )
        if self._images.classes != graph.outputs:
            raise DataError(
                f"classes of {self._images.name}",
                expected=f"the network's {graph.outputs} outputs",
                got=str(self._images.classes),
                remedy="Check that the data set and the network belong together.",
            )

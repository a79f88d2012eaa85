"""Instances with their boxes and specifications, created batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.certify.perturbations import BoxRule
from verify_pipeline.certify.preprocessing import Prepared
from verify_pipeline.certify.records import instance_digest
from verify_pipeline.certify.specifications import MARGINS, OutputSpecification
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import DataError
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification
from verify_pipeline.rounding import nearest, searched

CHUNK = 256
"""Boxes that are examined together."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Instances as the stages take them, on the CPU.

    Attributes:
        box: float64.
        spec: float64.
        points: ``N x *X`` of the network's input dtype, one input of each box.
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
        """Digest of the instance's box and specification: equal iff they are equal."""
        ...

    def label(self, index: int) -> int | None:
        """The label, if the specification is about classes."""
        ...


def reach(instances: Instances) -> Box:
    """The least box that all boxes lie in, float64, ``1 x *X``."""
    found: Box | None = None
    for first in range(0, len(instances.indices), CHUNK):
        box = instances.batch(instances.indices[first : first + CHUNK]).box
        lower, upper = box.lower.amin(0, keepdim=True), box.upper.amax(0, keepdim=True)
        if found is not None:
            lower, upper = torch.minimum(lower, found.lower), torch.maximum(upper, found.upper)
        found = Box(lower, upper)
    assert found is not None
    return found


def vary_little(instances: Instances, few: int) -> bool:
    """Whether every box has at most ``few`` free inputs."""
    indices = instances.indices
    for chunk in (indices[:1], *(indices[n : n + CHUNK] for n in range(1, len(indices), CHUNK))):
        box = instances.batch(chunk).box
        if int((box.lower < box.upper).flatten(1).sum(1).max()) > few:
            return False
    return True


class RobustImages:
    """Images with boxes around them, over which a specification must hold.

    Args:
        images: the whole data set.
        indices: which of its images.
        perturbation: the boxes.
        specification: what must hold; by default that the images keep their classes.
        dtype: that the network takes; narrower than float32, pixels are float32 and points rounded.
    """

    def __init__(
        self,
        images: ImageSet,
        indices: Sequence[int],
        perturbation: BoxRule,
        specification: OutputSpecification = MARGINS,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._images = images
        self._perturbation = perturbation
        self._specification = specification
        self._dtype = dtype
        self.indices = tuple(indices)
        self.rows = specification.rows(images.classes)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Float64 boxes and specifications of these images."""
        chosen = torch.tensor(indices, dtype=torch.int64)
        pixels = self._images.pixels(chosen, searched(self._dtype)).cpu()
        labels = self._images.labels[chosen].cpu()
        spec = self._specification.of(labels, chosen, self._images.classes)
        box = self._perturbation.box(pixels, indices)
        return Batch(box, spec, nearest(pixels, self._dtype))

    def within(self, rule: BoxRule, indices: Sequence[int]) -> RobustImages:
        """Some of the images, with the boxes of another rule."""
        return RobustImages(self._images, indices, rule, self._specification, self._dtype)

    def digest(self, index: int) -> str:
        """Of pixels and label: the run's key says the rest."""
        chosen = torch.tensor([index])
        label = self._images.labels[chosen].cpu()
        return instance_digest(self._images.pixels(chosen, searched(self._dtype)).cpu(), label)

    def label(self, index: int) -> int:
        """The image's class."""
        return int(self._images.labels[index])

    def check_fits(self, graph: Graph) -> None:
        """Refuse a network that does not fit these images.

        Raises:
            DataError: input shapes or numbers of classes differ.
        """
        shape = self._images.shape
        if shape != graph.input_shape:
            raise DataError(
                f"images of {self._images.name}",
                expected=f"the network's input shape {graph.input_shape}",
                got=str(shape),
                remedy="Check that the data set and the network belong together.",
            )
        if self._specification.needs_labels and self._images.classes != graph.outputs:
            raise DataError(
                f"classes of {self._images.name}",
                expected=f"the network's {graph.outputs} outputs",
                got=str(self._images.classes),
                remedy="Check that the data set and the network belong together.",
            )


class BoxInstances:
    """Boxes as they are given, over which a specification must hold.

    Args:
        boxes: the whole set.
        indices: which of them.
        specification: what must hold.
        network: that they are for.

    Raises:
        DataError: a label is none of the network's outputs, where the specification is about them;
            a point as the network takes it is not in its box; or no input of the network's type is
            in a box.
    """

    def __init__(
        self,
        boxes: BoxSet,
        indices: Sequence[int],
        specification: OutputSpecification,
        network: Prepared,
    ) -> None:
        self._boxes = boxes
        self._specification = specification
        self._dtype = network.input_dtype
        self._points = None
        if boxes.points is not None:
            self._points = boxes.rounded_points(self._dtype).to(searched(self._dtype))
        self._outputs = network.graph.outputs
        self._labels = torch.zeros(len(boxes), dtype=torch.int64)
        if boxes.labels is not None:
            self._labels = boxes.labels
        if specification.needs_labels and bool((self._labels >= self._outputs).any()):
            raise DataError(
                f"labels of boxes {boxes.name}",
                expected=f"integers from 0 to {self._outputs - 1}",
                got=str(int(self._labels.max())),
            )
        self.indices = tuple(indices)
        self.rows = specification.rows(self._outputs)
        self._check_inputs()

    def _check_inputs(self) -> None:
        """Refuse a box without an input of the type: no counterexample in it could be replayed."""
        lower, upper = self._boxes.lower.double(), self._boxes.upper.double()
        inner = inner_box(Box(lower, upper), self._dtype)
        reached = inner.lower.double()
        without = ((reached < lower) | (reached > upper)).flatten(1)
        for place in self.indices:
            if bool(without[place].any()):
                at = int(without[place].nonzero()[0])
                name = str(self._dtype).removeprefix("torch.")
                limits = lower[place].flatten()[at], upper[place].flatten()[at]
                raise DataError(
                    f"box {place} of {self._boxes.name}",
                    expected=f"a {name} number between the limits of every input",
                    got=f"none from {limits[0]:.17g} to {limits[1]:.17g}, input {at}",
                    remedy=f"The network is given {name} inputs: widen the box, or round its "
                    f"limits to {name}.",
                )

    def batch(self, indices: Sequence[int]) -> Batch:
        """These boxes in float64, with their specifications and points."""
        chosen = torch.tensor(indices, dtype=torch.int64)
        box = Box(self._boxes.lower[chosen].double(), self._boxes.upper[chosen].double())
        inner = inner_box(box, self._dtype)
        points = inner.center if self._points is None else self._points[chosen]
        spec = self._specification.of(self._labels[chosen], chosen, self._outputs)
        return Batch(box, spec, points)

    def digest(self, index: int) -> str:
        """Of the limits and the label: the run's key says the rest."""
        one = slice(index, index + 1)
        lower, upper = self._boxes.lower[one].double(), self._boxes.upper[one].double()
        return instance_digest(lower, upper, self._labels[one])

    def label(self, index: int) -> int | None:
        """The box's class, where it has one."""
        return None if self._boxes.labels is None else int(self._labels[index])

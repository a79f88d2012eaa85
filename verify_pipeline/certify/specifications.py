"""What must hold of a network's outputs all over an image's box, and how a ledger names it.

Each is a value object that makes the ``problem.Specification`` of a batch of images. Shape letters:
``N`` images, ``K`` classes or outputs, ``S`` rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from verify_pipeline.certify.records import instance_digest
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.problem import Specification


class OutputSpecification(Protocol):
    """A requirement on the outputs.

    Attributes:
        name: as in the ledger; equal iff the same is asked of every image.
        needs_labels: whether it is about the images' classes.
    """

    @property
    def name(self) -> str:
        """As in the ledger; equal iff the same is asked of every image."""
        ...

    @property
    def needs_labels(self) -> bool:
        """Whether it is about the images' classes."""
        ...

    def rows(self, outputs: int) -> int:
        """S, of a network with so many outputs."""
        ...

    def concerns(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Which images it applies to, by their labels ``N`` and places in the set ``N``."""
        ...

    def of(self, labels: Tensor, indices: Tensor, outputs: int) -> Specification:
        """The float64 specifications of images, by their labels and places in the data set."""
        ...

    def check_outputs(self, outputs: int) -> None:
        """Refuse a network that has too few outputs for this requirement.

        Raises:
            DataError: it has too few.
        """
        ...

    def check_fits(self, count: int, outputs: int) -> None:
        """Refuse a number of images or outputs that this requirement does not fit.

        Raises:
            DataError: shapes or classes do not fit.
        """
        ...


@dataclass(frozen=True)
class Margins:
    """The label beats every other class."""

    name = "margins"
    needs_labels = True

    def rows(self, outputs: int) -> int:
        """``K - 1``."""
        return outputs - 1

    def concerns(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Every image."""
        return torch.ones_like(labels, dtype=torch.bool)

    def of(self, labels: Tensor, indices: Tensor, outputs: int) -> Specification:
        """``f_y - f_j > 0`` for every other class j."""
        return Specification.margins(labels, outputs, torch.float64)

    def check_outputs(self, outputs: int) -> None:
        """Refuse a network with a single output.

        Raises:
            DataError: it has a single output.
        """
        _check_classifier(outputs)

    def check_fits(self, count: int, outputs: int) -> None:
        """Fits every classifier."""
        _check_classifier(outputs)


MARGINS = Margins()
"""The default requirement."""


@dataclass(frozen=True)
class TopK:
    """Fewer than k other classes reach the label: it stays among the k best, without a tie.

    Proofs are sound but not complete: they show that all classes except k - 1, the same ones over
    the whole box, stay below the label. A counterexample has k other classes that reach it at once.

    Attributes:
        k: at least 1.

    Raises:
        ConfigError: k is below 1.
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError("top-k", expected="k of at least 1", got=str(self.k))

    needs_labels = True

    @property
    def name(self) -> str:
        """As in the ledger."""
        return f"top-{self.k}"

    def rows(self, outputs: int) -> int:
        """``K - 1``."""
        return outputs - 1

    def concerns(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Every image."""
        return torch.ones_like(labels, dtype=torch.bool)

    def of(self, labels: Tensor, indices: Tensor, outputs: int) -> Specification:
        """The margins, of which k - 1 may fail."""
        return replace(Specification.margins(labels, outputs, torch.float64), spare=self.k - 1)

    def check_outputs(self, outputs: int) -> None:
        """Refuse a network with a single output.

        Raises:
            DataError: it has a single output.
        """
        _check_classifier(outputs)

    def check_fits(self, count: int, outputs: int) -> None:
        """Refuse a k that is not below the number of classes.

        Raises:
            DataError: k is not below the number of classes.
        """
        if self.k >= outputs:
            raise DataError(
                "top-k", expected=f"k below the number of classes, {outputs}", got=str(self.k)
            )


@dataclass(frozen=True, eq=False)
class Targeted:
    """The label beats one class, the target; images with that label are left out.

    Attributes:
        targets: one class for all images (no axis), or one for each image of the set.
    """

    targets: Tensor

    def __repr__(self) -> str:
        one = self.targets.dim() == 0
        return f"Targeted({int(self.targets) if one else f'{self.targets.numel()} targets'})"

    needs_labels = True

    @property
    def name(self) -> str:
        """As in the ledger."""
        if self.targets.dim() == 0:
            return f"target {int(self.targets)}"
        return f"targets {instance_digest(self.targets.long())}"

    def rows(self, outputs: int) -> int:
        """One."""
        return 1

    def concerns(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Images whose label is not their target."""
        return labels != self._targets(indices)

    def of(self, labels: Tensor, indices: Tensor, outputs: int) -> Specification:
        """``f_y - f_t > 0``."""
        eye = torch.eye(outputs, dtype=torch.float64)
        rows = (eye[labels] - eye[self._targets(indices)]).unsqueeze(1)
        return Specification(rows, rows.new_zeros(len(rows), 1))

    def check_outputs(self, outputs: int) -> None:
        """Refuse a network with a single output.

        Raises:
            DataError: it has a single output.
        """
        _check_classifier(outputs)

    def check_fits(self, count: int, outputs: int) -> None:
        """Refuse targets that are not one class per image.

        Raises:
            DataError: their number, or one of them, is wrong.
        """
        if self.targets.dim() > 1 or (self.targets.dim() == 1 and len(self.targets) != count):
            raise DataError(
                "targets",
                expected=f"one class, or one for each of {count} images",
                got=f"shape {tuple(self.targets.shape)}",
            )
        wrong = self.targets[(self.targets < 0) | (self.targets >= outputs)]
        if wrong.numel():
            first = str(int(wrong.flatten()[0]))
            raise DataError("targets", expected=f"classes from 0 to {outputs - 1}", got=first)

    def _targets(self, indices: Tensor) -> Tensor:
        targets = self.targets.long()
        return targets.expand(len(indices)) if targets.dim() == 0 else targets[indices]


@dataclass(frozen=True, eq=False)
class LinearRows:
    """Every row of ``C f + d`` is positive.

    Attributes:
        matrix: C, ``S x K`` for all images, or ``N x S x K`` for those of the set.
        offsets: d, ``S`` or ``N x S`` with it.

    Raises:
        DataError: shapes that do not fit together, or a number that is not finite.
    """

    matrix: Tensor
    offsets: Tensor

    needs_labels = False

    def __post_init__(self) -> None:
        if self.matrix.dim() not in (2, 3) or self.matrix.shape[:-1] != self.offsets.shape:
            raise DataError(
                "specification",
                expected="rows S x K and offsets S, or rows N x S x K and offsets N x S",
                got=f"{tuple(self.matrix.shape)} and {tuple(self.offsets.shape)}",
            )
        if self.matrix.shape[-2] == 0:
            raise DataError("specification", expected="at least one row", got="none")
        if not bool(torch.isfinite(self.matrix).all() and torch.isfinite(self.offsets).all()):
            raise DataError("specification", expected="finite coefficients", got="NaN or infinity")

    def __repr__(self) -> str:
        return f"LinearRows(matrix {' x '.join(map(str, self.matrix.shape))})"

    @property
    def name(self) -> str:
        """As in the ledger: numbers by their digest."""
        return f"rows {instance_digest(self.matrix.double(), self.offsets.double())}"

    def rows(self, outputs: int) -> int:
        """As many as there are."""
        return self.matrix.shape[-2]

    def concerns(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Every image."""
        return torch.ones_like(indices, dtype=torch.bool)

    def of(self, labels: Tensor, indices: Tensor, outputs: int) -> Specification:
        """The rows themselves."""
        matrix, offsets = self.matrix.double(), self.offsets.double()
        if matrix.dim() == 2:
            count = len(indices)
            return Specification(matrix.expand(count, -1, -1), offsets.expand(count, -1))
        return Specification(matrix[indices], offsets[indices])

    def check_outputs(self, outputs: int) -> None:
        """Fits every network that :meth:`check_fits` does."""

    def check_fits(self, count: int, outputs: int) -> None:
        """Refuse another number of outputs, or of images.

        Raises:
            DataError: they differ.
        """
        per_image = self.matrix.dim() == 3
        if self.matrix.shape[-1] != outputs or (per_image and len(self.matrix) != count):
            images = f" and {count} images" if per_image else ""
            raise DataError(
                "specification",
                expected=f"rows for {outputs} outputs{images}",
                got=f"shape {tuple(self.matrix.shape)}",
            )


def _check_classifier(outputs: int) -> None:
    if outputs < LEAST_CLASSES:
        raise DataError(
            "network",
            expected="at least 2 outputs, for a class to beat the others",
            got=f"{outputs}",
            remedy="Of a single output, ask with --rows and --offsets that it is positive.",
        )


LEAST_CLASSES = 2
"""Outputs that a question about classes needs."""

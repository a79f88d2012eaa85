"""A user's own boxes of inputs, with or without labels and points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.errors import DataError


@dataclass(frozen=True, eq=False)
class BoxSet:
    """Boxes of inputs, of any range.

    Attributes:
        name: for ledgers and tables.
        split: a user's word.
        lower: ``N x *X``, finite.
        upper: ``N x *X``, finite, nowhere below ``lower``.
        labels: ``N`` int64 >= 0, the class that is right all over a box, where there is one.
        points: ``N x *X`` float32 or float64, an input of each box, such as the image it was made
            of; None: the middles.

    Raises:
        DataError: shapes or types that do not fit, an empty interval, a point outside its box.
    """

    name: str
    split: str
    lower: Tensor
    upper: Tensor
    labels: Tensor | None = None
    points: Tensor | None = None

    def __post_init__(self) -> None:
        lower, upper, where = self.lower, self.upper, f"boxes {self.name}"
        if lower.dim() < 2 or lower.shape != upper.shape:
            raise DataError(
                where,
                expected="lower and upper N x ..., of one shape",
                got=f"{tuple(lower.shape)} and {tuple(upper.shape)}",
            )
        if not bool(torch.isfinite(lower).all() and torch.isfinite(upper).all()):
            raise DataError(where, expected="finite limits", got="NaN or infinity")
        empty = (lower > upper).flatten(1).any(1)
        if bool(empty.any()):
            raise DataError(
                where, expected="lower <= upper", got=f"an empty box at {int(empty.nonzero()[0])}"
            )
        if self.labels is not None:
            self._check_labels(self.labels)
        if self.points is not None:
            self._check_points(self.points)

    def __repr__(self) -> str:
        labelled = "" if self.labels is None else ", with labels"
        return f"BoxSet({self.name} {self.split}: {len(self)} of shape {self.shape}{labelled})"

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def shape(self) -> tuple[int, ...]:
        """``*X``."""
        return tuple(self.lower.shape[1:])

    def _check_labels(self, labels: Tensor) -> None:
        if labels.shape != self.lower.shape[:1] or labels.dtype != torch.int64:
            raise DataError(
                f"labels of boxes {self.name}",
                expected=f"{len(self)} int64 numbers",
                got=f"{labels.dtype} of shape {tuple(labels.shape)}",
            )
        if bool((labels < 0).any()):
            raise DataError(
                f"labels of boxes {self.name}", expected="classes", got="a negative number"
            )

    def _check_points(self, points: Tensor) -> None:
        right = points.dtype in (torch.float32, torch.float64)
        if points.shape != self.lower.shape or not right:
            raise DataError(
                f"points of boxes {self.name}",
                expected=f"float32 or float64 of shape {tuple(self.lower.shape)}",
                got=f"{points.dtype} of shape {tuple(points.shape)}",
            )
        self._check_inside(points)

    def rounded_points(self, dtype: torch.dtype) -> Tensor:
        """The points ``N x *X`` in the dtype of the network's input.

        Raises:
            DataError: there are no points, or rounding moves one outside its box.
        """
        if self.points is None:
            raise DataError(f"points of boxes {self.name}", got="none")
        points = self.points.to(dtype)
        self._check_inside(points)
        return points

    def _check_inside(self, points: Tensor) -> None:
        exact = points.double()
        inside = ((exact >= self.lower) & (exact <= self.upper)).flatten(1).all(1)
        if not bool(inside.all()):
            raise DataError(
                f"points of boxes {self.name}",
                expected="a point inside each box",
                got=f"one outside at {int((~inside).nonzero()[0])}",
            )

"""Errors of a file's evaluation in the greatest row of each group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.certify.evaluation_errors import EvaluationErrors
from verify_pipeline.interop.max_of_rows import AnyOf
from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.problem import Box, Specification


@dataclass(frozen=True, eq=False)
class MaximaErrors:
    """What is known of the outputs of :func:`max_of_rows.append_any_of`.

    The file is evaluated up to its own outputs; rows and maxima of them are exact. A maximum moves
    by at most the greatest of its rows' errors.

    Attributes:
        errors: of the file's evaluation.
        groups: G of them, over the file's K outputs.
    """

    errors: EvaluationErrors
    groups: tuple[AnyOf, ...]

    @property
    def arithmetic(self) -> Arithmetic:
        """In which the file is evaluated."""
        return self.errors.arithmetic

    @property
    def refused(self) -> str:
        """Why the file's operations are not analysed; empty: they are."""
        return self.errors.refused

    def of_rows(self, box: Box, spec: Specification) -> Tensor:
        """At least the differences of computed and exact maxima, ``N x G``; may be infinite.

        Args:
            box: ``N`` boxes, float64.
            spec: of the maxima, ``N x G x G``: that each of them is positive.
        """
        return self._of_groups(self.errors.of_rows(box, self._rows(spec)))

    def sharpened(
        self, box: Box, spec: Specification, errors: Tensor, has_time: Callable[[], bool]
    ) -> Tensor:
        """Less than ``errors`` where CROWN bounds of values show it, ``N x G``.

        Args:
            box: ``N`` boxes, float64.
            spec: of the maxima.
            errors: of :meth:`of_rows`.
            has_time: called now and then; once it returns False, what is known is returned.
        """
        of_rows = errors.repeat_interleave(torch.tensor(self._sizes), 1)
        return self._of_groups(self.errors.sharpened(box, self._rows(spec), of_rows, has_time))

    @property
    def _sizes(self) -> list[int]:
        return [len(group) for group in self.groups]

    def _rows(self, spec: Specification) -> Specification:
        """The groups' rows, of the file's outputs."""
        count = len(spec.offsets)
        rows = torch.cat([group.rows for group in self.groups]).expand(count, -1, -1)
        offsets = torch.cat([group.offsets for group in self.groups]).expand(count, -1)
        return Specification(rows, offsets)

    def _of_groups(self, errors: Tensor) -> Tensor:
        """The greatest of each group."""
        return torch.stack([part.amax(1) for part in errors.split(self._sizes, 1)], 1)

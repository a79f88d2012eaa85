"""Errors of a file's evaluation that a test chooses."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from verify_pipeline.certify.evaluation_errors import Hardening
from verify_pipeline.problem import Specification


class Harder(Hardening):
    """Takes errors off the offsets, whatever the file.

    Args:
        errors: broadcast to ``N x S``.
    """

    def __init__(self, errors: Tensor | float) -> None:
        self._off = errors

    def __call__(
        self, indices: object, box: object, spec: Specification, *_: object
    ) -> Specification:
        """The specifications, less the errors."""
        return replace(spec, offsets=spec.offsets - self._off)

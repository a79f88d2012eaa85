"""Proofs that hold for every evaluation of the file in an arithmetic, not only for real numbers.

Computed and exact margins differ by at most e, which depends on the instance's box. If the exact
margins exceed e everywhere in the box, all computed ones are above zero. So bounds have to prove a
harder specification, ``C f + d - e > 0``. Counterexamples are replayed with the one that was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from verify_pipeline.bounds.forward_error import (
    greatest_softmax_tie,
    refusal,
    row_errors,
    sharper_row_errors,
)
from verify_pipeline.bounds.types import always
from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size
from verify_pipeline.network.outputs import Beginning, beginning
from verify_pipeline.network.written import Written
from verify_pipeline.problem import Box, Decision, Reason, Specification, Status
from verify_pipeline.rounding import next_down

SMALL = 0.01
"""Errors of at most this share of the margins in the middles of boxes are not weighted with
derivatives, unless they keep an instance open, and boxes are not cut into parts for them."""

UPWARD = 1 + 2.0**-20
"""Makes up for the rounding of a sum of two errors."""

BATCH = 64
"""Instances that are analysed together, at most."""

LARGEST = 2**22
"""Derivatives of rows by the elements of a value that are bounded at once, about."""


class RowErrors(Protocol):
    """Errors of rows of specifications, such as :class:`EvaluationErrors`."""

    @property
    def arithmetic(self) -> Arithmetic:
        """In which the file is evaluated."""
        ...

    @property
    def refused(self) -> str:
        """Why the file's operations are not analysed; empty: they are."""
        ...

    def of_rows(self, box: Box, spec: Specification) -> Tensor:
        """At least the differences of computed and exact margins, ``N x S``; may be infinite."""
        ...

    def sharpened(
        self, box: Box, spec: Specification, errors: Tensor, has_time: Callable[[], bool]
    ) -> Tensor:
        """Less than ``errors`` where CROWN bounds of values show it, ``N x S``."""
        ...


@dataclass(frozen=True, eq=False)
class EvaluationErrors:
    """What is known of a file's evaluation.

    Attributes:
        arithmetic: in which the file is evaluated.
        graph: the file's own operations up to the rows' outputs; None: they are not analysed.
        refused: why they are not; empty: they are.
        least: what computed outputs have to differ by, so that those behind an end that is left out
            differ.
    """

    arithmetic: Arithmetic
    graph: Graph | None
    refused: str = ""
    least: float = 0.0

    @staticmethod
    def of(
        written: Written | None, arithmetic: Arithmetic, begun: Beginning | None
    ) -> EvaluationErrors:
        """Of a network.

        Args:
            written: the file's own operations, behind any preprocessing; None: they are not known.
            arithmetic: in which it is evaluated.
            begun: what is bounded in its place, of :func:`provable_beginning`; None: all of it.
        """
        refused = refusal(written, arithmetic)
        if written is None or refused:
            return EvaluationErrors(arithmetic, None, refused)
        if arithmetic.name not in written.held_by:
            arithmetic = arithmetic.converting
        if begun is None:
            return EvaluationErrors(arithmetic, written.graph)
        cut = beginning(written.graph)
        assert cut is not None
        least = greatest_softmax_tie(arithmetic, cut.graph.outputs)
        return EvaluationErrors(arithmetic, cut.graph, least=least)

    def of_rows(self, box: Box, spec: Specification) -> Tensor:
        """At least the differences of computed and exact margins, ``N x S``; may be infinite."""
        graph = self.graph
        if graph is None:
            return torch.full_like(spec.offsets, torch.inf)
        found = [
            row_errors(
                graph,
                box[part],
                spec[part],
                self.arithmetic,
                enough=_enough(graph, box[part], spec[part]),
            )
            for part in self._parts(spec)
        ]
        return (torch.cat(found) + self.least) * UPWARD

    def sharpened(
        self, box: Box, spec: Specification, errors: Tensor, has_time: Callable[[], bool]
    ) -> Tensor:
        """Less than ``errors`` where CROWN bounds of values show it, ``N x S``.

        Args:
            box: ``N`` boxes, float64.
            spec: ``N`` specifications, float64.
            errors: of :meth:`of_rows`.
            has_time: called now and then; once it returns False, what is known is returned.
        """
        graph = self.graph
        if graph is None:
            return errors
        found = errors.clone()
        for part in self._parts(spec):
            if not has_time():
                break
            some = box[part], spec[part]
            enough = _enough(graph, *some)
            new = sharper_row_errors(graph, *some, self.arithmetic, enough, has_time)
            found[part] = torch.fmin(found[part], (new + self.least) * UPWARD)
        return found

    def _parts(self, spec: Specification) -> list[slice]:
        """Instances that are analysed together."""
        assert self.graph is not None
        most = max(size(node.shape) for node in self.graph.nodes)
        count = max(1, min(BATCH, LARGEST // (spec.offsets.shape[1] * most)))
        return [slice(first, first + count) for first in range(0, len(spec.offsets), count)]


def _enough(graph: Graph, box: Box, spec: Specification) -> Tensor:
    """Errors that are small beside the margins in the middles of boxes, ``N x S``."""
    return SMALL * spec.values(graph(box.center)).abs()


def provable_beginning(graph: Graph, written: Written | None) -> Beginning | None:
    """The network without a softmax at its end; None: it ends in nothing else that is left out.

    Valid if an output has to exceed all others. Of two computed outputs, a sigmoid may make one
    number. A softmax's greatest output stays apart from the others if its score is greater by a few
    roundings.

    Args:
        graph: the network as it is bounded.
        written: the file's own operations; None: they are not known.
    """
    begun = beginning(graph)
    same = None if written is None else beginning(written.graph)
    both = [one for one in (begun, same) if one is not None and one.only_softmax]
    return begun if len(both) == 2 else None


class Hardening:
    """The specifications that bounds have to prove of instances.

    Errors by intervals are cheap. They are bounded better where that may decide an instance: if
    they keep it from being verified, and before a search, which would need more time for a harder
    specification.

    Args:
        errors: of the file's evaluation.
    """

    def __init__(self, errors: RowErrors) -> None:
        self._errors = errors
        self._known: dict[int, Tensor] = {}
        self._wanted: set[int] = set()
        self._sharp: set[int] = set()

    def __call__(
        self,
        indices: Sequence[int],
        box: Box,
        spec: Specification,
        has_time: Callable[[], bool] = always,
    ) -> Specification:
        """The harder specifications of some instances; those asked for where nothing is known.

        Args:
            indices: of the instances.
            box: their boxes.
            spec: what was asked.
            has_time: called now and then; once it returns False, errors stay as they are.
        """
        new = [place for place, index in enumerate(indices) if index not in self._known]
        if new:
            self._keep(new, indices, self._errors.of_rows(*_on_cpu(box, spec, new)))
        open_ = self._wanted - self._sharp
        again = [place for place, index in enumerate(indices) if index in open_]
        if again:
            known = torch.stack([self._known[indices[place]] for place in again])
            some = _on_cpu(box, spec, again)
            self._keep(again, indices, self._errors.sharpened(*some, known, has_time))
            if has_time():  # else a later stage tries again
                self._sharp.update(indices[place] for place in again)
        errors = torch.stack([self._known[index] for index in indices]).to(spec.offsets)
        harder = next_down(spec.offsets - errors)
        known = harder.isfinite().all(1, keepdim=True)
        return Specification(spec.rows, torch.where(known, harder, spec.offsets), spec.spare)

    def sharpen(self, indices: Collection[int]) -> None:
        """Bound errors of these instances better when they are asked for next."""
        self._wanted.update(indices)

    def judged(self, index: int, decision: Decision) -> Decision:
        """A stage's decision about an instance, as far as it is about every evaluation.

        VERIFIED is kept only if the harder specification is known. What cheap errors keep open is
        not final: the next stage gets better ones.
        """
        uncovered = decision.status is Status.VERIFIED and not self.covers(index)
        cheap = index not in self._sharp
        if cheap and (uncovered or decision.reason is Reason.ROUNDING):
            self._wanted.add(index)
            reason = None if decision.final else Reason.ROUNDING
            return replace(decision, status=Status.UNKNOWN, reason=reason, final=False)
        if not uncovered:
            return decision
        return replace(
            decision,
            status=Status.UNKNOWN,
            reason=Reason.NOT_ANALYSED,
            detail=self.refused,
            claimed_by="",
            final=True,
        )

    def covers(self, index: int) -> bool:
        """Whether a proof of the instance's harder specification is about every evaluation."""
        return index in self._known and bool(self._known[index].isfinite().all())

    @property
    def refused(self) -> str:
        """Why the instances that are not covered are not."""
        name = self._errors.arithmetic.name
        return self._errors.refused or f"a number may overflow {name} or its error is not bounded"

    def _keep(self, places: Sequence[int], indices: Sequence[int], errors: Tensor) -> None:
        self._known.update(zip((indices[place] for place in places), errors, strict=True))


def _on_cpu(box: Box, spec: Specification, places: Sequence[int]) -> tuple[Box, Specification]:
    chosen = torch.tensor(places)
    return box.to("cpu")[chosen], spec.to("cpu")[chosen]

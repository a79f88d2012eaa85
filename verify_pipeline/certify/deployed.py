"""Proofs about a network without its last layers, compared with the deployed file.

If outputs are only compared, final layers that keep their order are removed before bounding
(``network/outputs.py``). In exact arithmetic that changes nothing. In floating point a sigmoid
returns 1 for all large scores, so outputs may tie although their scores differ. This module
searches for such inputs, where the final layers are most likely saturated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.certify.contract import Replay
from verify_pipeline.certify.instances import Batch
from verify_pipeline.certify.replay import confirm
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.outputs import Beginning
from verify_pipeline.problem import (
    TIED,
    Box,
    Counterexample,
    Specification,
    Status,
    Verdict,
)
from verify_pipeline.rounding import searched

PROVED = "proved of"
"""Start of a detail that names the bounded function."""


@dataclass(frozen=True, eq=False)
class Deployed:
    """A network without its last layers, and its file.

    Attributes:
        beginning: the network without its end.
        replay: the whole file in onnxruntime.
        dtype: of its input.
    """

    beginning: Beginning
    replay: Replay
    dtype: torch.dtype

    @cached_property
    def _searched(self) -> Graph:
        return self.beginning.graph.to(searched(self.dtype))

    @property
    def proved(self) -> str:
        """A text that names the bounded function."""
        return f"{PROVED} {self.beginning.name}, before the network's end"

    def noted(self, verdict: Verdict, batch: Batch) -> Verdict:
        """The verdict with a detail that names the bounded function and says whether the file ties.

        Args:
            verdict: of one instance.
            batch: that instance.
        """
        if verdict.status is not Status.VERIFIED or verdict.claimed_by:
            return verdict
        ties = self._may_tie(batch.spec) and self.tie(batch) is not None
        words = [verdict.detail, self.proved, TIED if ties else ""]
        return replace(verdict, detail="; ".join(word for word in words if word))

    def _may_tie(self, spec: Specification) -> bool:
        """Whether compared outputs may tie in the file although their scores differ.

        After a softmax, only the greatest output is sure to differ from all others.
        """
        beats_all = spec.rows.shape[1] == self.beginning.graph.outputs - 1 and spec.spare == 0
        return self.beginning.saturates or not beats_all

    def tie(self, batch: Batch) -> Counterexample | None:
        """An input of one instance's box at which the file's outputs are a tie, or worse."""
        points = torch.cat([batch.points, *self._towards_limits(batch.box, batch.spec)])
        count = len(points)
        box = Box(
            batch.box.lower.expand(count, *batch.box.lower.shape[1:]),
            batch.box.upper.expand(count, *batch.box.upper.shape[1:]),
        )
        rows = batch.spec.rows.expand(count, -1, -1)
        spec = Specification(rows, batch.spec.offsets.expand(count, -1), batch.spec.spare)
        found = confirm(self.replay, box, spec, points, self.dtype)
        return next((one for one in found if one is not None), None)

    def _towards_limits(self, box: Box, spec: Specification) -> list[Tensor]:
        """Corners ``1 x *X`` where scores are largest, or smallest, by their gradients.

        Of the row that is least in the middle: where the scores that count against it are large,
        where those that count for it are small, and where the row itself is.
        """
        inner = inner_box(box, self.dtype)
        graph = self._searched
        row = spec.rows[0, int(spec.values(graph(inner.center).double()).argmin())].to(inner.lower)
        corners = [inner.center]
        for weights in (row.clamp(max=0), row.clamp(min=0), row):
            with torch.enable_grad():
                x = inner.center.detach().requires_grad_()
                (gradient,) = torch.autograd.grad((graph(x) * weights).sum(), x)
            corners.append(torch.where(gradient > 0, inner.lower, inner.upper))
        return corners

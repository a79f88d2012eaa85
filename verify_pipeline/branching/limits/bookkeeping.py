"""The records of a search for each instance: time, work, subproblems, and what is proved so far."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.problem import Counterexample, Decision, Reason, Status

LEAST_STEP = 0.02
"""An instance's part of a batch may always take this share of its time, however little is left."""


class Bookkeeping:
    """The records of N instances.

    Args:
        at_root: ``N x S`` float64, lower bounds of the rows before any split; ``-inf``: unknown.
        deadlines: of the ``N`` instances.

    Attributes:
        charged: seconds charged to each instance, ``N``.
        bounded: ``N``, how many subproblems were bounded.
        work: ``N`` float64, counted work: bounding one subproblem counts 1.
        open: ``N``, how many subproblems are neither closed nor split.
        proved: ``N``, the least float64 bound of closed rows and subproblems; at most 0 once a
            subproblem was closed without a proof.
        ended: ``N`` booleans, instances that have a decision.
    """

    def __init__(self, at_root: Tensor, deadlines: Deadlines) -> None:
        zeros = torch.zeros_like(at_root[:, 0])
        self.charged = zeros.clone()
        self.bounded = zeros.long()
        self.work = zeros.clone()
        self.open = zeros.long()
        self.proved = torch.where(at_root > 0, at_root, math.inf).amin(1)
        self.ended = zeros.bool()
        self._deadlines = deadlines.to(at_root.device).to(at_root.dtype)

    @property
    def used(self) -> Tensor:
        """The share of its seconds that each instance has used, ``N``."""
        return self.charged / self._deadlines.seconds

    @property
    def left(self) -> Tensor:
        """Seconds that each instance may still be charged, ``N``."""
        return self._deadlines.seconds - self.charged

    @property
    def going(self) -> Tensor:
        """Instances that have not ended and have an open subproblem, ``N`` booleans."""
        return (self.open > 0) & ~self.ended

    def for_a_batch(self, going: Tensor) -> float:
        """Seconds that one batch of the open instances among ``going``, ``N`` booleans, may take.

        Each instance may use half of the seconds it has left, or ``LEAST_STEP`` of its time if that
        is more.
        """
        open_ = going & self.going
        if not bool(open_.any()):
            return 0.0
        each = torch.maximum(self.left / 2, LEAST_STEP * self._deadlines.seconds)[open_]
        return float(each.min()) * int(open_.sum())

    def for_a_step(self, served: Tensor) -> float:
        """Seconds after which one of the instances that share a step has no time left.

        Args:
            served: the instance of each of the step's ``D`` subproblems.
        """
        shares = self.count(served) / len(served)
        return float((self.left / shares)[served].min())

    def charge(self, instance: Tensor, seconds: float) -> None:
        """Charge seconds to the instances of ``D`` subproblems, an equal part per subproblem."""
        if len(instance):
            self.charged += self.count(instance) * (seconds / len(instance))

    def count(self, instance: Tensor) -> Tensor:
        """How often each of the N instances occurs, ``N``."""
        return torch.bincount(instance, minlength=len(self.open))

    def opened(self, instance: Tensor) -> None:
        """Count ``D`` subproblems as open."""
        self.open += self.count(instance)

    def split(self, instance: Tensor, parts: int) -> None:
        """Replace ``D`` open subproblems by ``parts`` open subproblems each."""
        self.open += (parts - 1) * self.count(instance)

    def close(self, instance: Tensor, bounds: Tensor) -> None:
        """Count ``D`` subproblems as closed with their float64 bounds."""
        self.open -= self.count(instance)
        self.proved.scatter_reduce_(0, instance, bounds, "amin")

    def complete(self) -> list[int]:
        """Instances that have not ended and have no open subproblem."""
        return _places((self.open == 0) & ~self.ended)

    def overdue(self) -> list[int]:
        """Instances that have not ended and have no seconds left."""
        return _places((self.left <= 0) & ~self.ended)

    def over(self, subproblems: int) -> list[int]:
        """Instances that have not ended and for which more subproblems than that were bounded."""
        return _places((self.bounded > subproblems) & ~self.ended)

    def end(
        self,
        n: int,
        status: Status,
        bound: float,
        reason: Reason | None = None,
        counterexample: Counterexample | None = None,
    ) -> Decision:
        """End an instance; its group gets the time that it has not used."""
        self.ended[n] = True
        self._deadlines = self._deadlines.after(n, self.charged, ~self.ended)
        return Decision(
            n,
            status,
            bound if math.isfinite(bound) else None,
            counterexample,
            reason,
            seconds=float(self.charged[n]),
            subproblems=int(self.bounded[n]),
        )


def _places(mask: Tensor) -> list[int]:
    places: list[int] = mask.nonzero().squeeze(1).tolist()
    return places

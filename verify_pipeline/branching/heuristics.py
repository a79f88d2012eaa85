"""Branching heuristics: they choose the neuron or input at which a subproblem is split.

A heuristic picks candidates by scores that one backward pass through the network gives. It serves
every kind of split: signs of ReLUs, intervals of smooth neurons, inputs. To add one, write a
function of type :data:`Heuristic` and name it in :data:`HEURISTICS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.batched import Batched


@dataclass(frozen=True, eq=False)
class Candidates(Batched):
    """U neurons or inputs at which D subproblems can be split.

    Attributes:
        allowed: ``D x U`` booleans. If no column of a subproblem is allowed, an arbitrary one is
            picked.
        gain: ``D x U``, an estimate of what the worse part of a split gains. For ReLUs: BaBSR.
        loss: ``D x U``, what the relaxation loses there. For ReLUs: the intercept score.
        layer: ``D x U``, the layer of each neuron, counted from 0.
    """

    allowed: Tensor
    gain: Tensor
    loss: Tensor
    layer: Tensor

    @staticmethod
    def scored(scores: Tensor, allowed: Tensor) -> Candidates:
        """Candidates of one layer with a single score, ``D x U``, as gain and as loss."""
        return Candidates(allowed, scores, scores, torch.zeros_like(allowed, dtype=torch.long))


Heuristic = Callable[[Candidates, int], Tensor]
"""Picks ``D x C`` columns. Its second argument says how many columns each score should give. Splits
of ReLUs bound the children of all C candidates and take the best one; other splits take the first.
"""


def best_gain(candidates: Candidates, count: int) -> Tensor:
    """The one candidate with the largest gain (BaBSR: Bunel et al. 2020, arXiv:1909.06588)."""
    return _best(candidates.gain, candidates.allowed, 1)


def best_of_both(candidates: Candidates, count: int) -> Tensor:
    """The best by gain and by loss (kFSB: De Palma et al. 2021, arXiv:2104.06718, section 5)."""
    both = candidates.gain, candidates.loss
    return torch.cat([_best(values, candidates.allowed, count) for values in both], 1)


def best_of_layers(candidates: Candidates, count: int) -> Tensor:
    """The best by gain and by loss in each layer (FSB: De Palma et al. 2021, section 5)."""
    picked, layers = [], int(candidates.layer.masked_fill(~candidates.allowed, 0).max()) + 1
    for values in (candidates.gain, candidates.loss):
        fallback = _best(values, candidates.allowed, 1)
        for number in range(layers):
            here = candidates.allowed & (candidates.layer == number)
            columns = _best(values, here, count)
            picked.append(torch.where(here.any(1, keepdim=True), columns, fallback))
    return torch.cat(picked, 1)


HEURISTICS: dict[str, Heuristic] = {
    "gain": best_gain,
    "babsr": best_gain,
    "kfsb": best_of_both,
    "fsb": best_of_layers,
}
"""The heuristics by the names that settings use."""


def _best(values: Tensor, allowed: Tensor, count: int) -> Tensor:
    """The ``count`` best allowed columns of each row; the best is repeated if fewer are allowed."""
    # finite scores stay above the -inf of columns that are not allowed
    values = values.nan_to_num(nan=0.0, neginf=torch.finfo(values.dtype).min)
    best = torch.where(allowed, values, -torch.inf).topk(min(count, values.shape[1]), 1)
    return torch.where(best.values > -torch.inf, best.indices, best.indices[:, :1])

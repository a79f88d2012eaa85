"""Branching heuristics: which neuron or input a subproblem is split at.

A heuristic picks candidates from what one walk back through the network shows of each. It serves
every kind of split: signs of ReLUs, intervals of smooth neurons, inputs. To add one, write a
function of this form and name it in :data:`HEURISTICS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.batched import Batched


@dataclass(frozen=True, eq=False)
class Candidates(Batched):
    """U neurons or inputs that D subproblems can be split at.

    Attributes:
        allowed: ``D x U`` booleans; at least one of each subproblem, or any column is picked.
        gain: ``D x U``, about what the worse part of a split gains. Of ReLUs: BaBSR.
        loss: ``D x U``, what the relaxation loses there. Of ReLUs: the intercept score.
        layer: ``D x U``, which layer each belongs to, counted from 0.
    """

    allowed: Tensor
    gain: Tensor
    loss: Tensor
    layer: Tensor

    @staticmethod
    def scored(scores: Tensor, allowed: Tensor) -> Candidates:
        """Candidates of one layer, of which there is one score, ``D x U``."""
        return Candidates(allowed, scores, scores, torch.zeros_like(allowed, dtype=torch.long))


Heuristic = Callable[[Candidates, int], Tensor]
"""Picks ``D x C`` columns; of several, the one whose parts are bounded best is taken where that is
affordable, else the first. It is told how many of each score are wanted."""


def best_gain(candidates: Candidates, count: int) -> Tensor:
    """The candidate that gains most, alone (BaBSR: Bunel et al. 2020, arXiv:1909.06588)."""
    return _best(candidates.gain, candidates.allowed, 1)


def best_of_both(candidates: Candidates, count: int) -> Tensor:
    """The best of gain and of loss (kFSB: De Palma et al. 2021, arXiv:2104.06718, section 5)."""
    both = candidates.gain, candidates.loss
    return torch.cat([_best(values, candidates.allowed, count) for values in both], 1)


def best_of_layers(candidates: Candidates, count: int) -> Tensor:
    """The best of gain and of loss in each layer (FSB: the same, section 5)."""
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
"""By the names that settings have."""


def _best(values: Tensor, allowed: Tensor, count: int) -> Tensor:
    """The ``count`` best allowed columns of each row, the best again where fewer are allowed."""
    # no score, however low, is below that of a column that is not allowed
    values = values.nan_to_num(nan=0.0, neginf=torch.finfo(values.dtype).min)
    best = torch.where(allowed, values, -torch.inf).topk(min(count, values.shape[1]), 1)
    return torch.where(best.values > -torch.inf, best.indices, best.indices[:, :1])

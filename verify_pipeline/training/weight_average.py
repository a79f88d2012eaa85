"""Averages of a network's weights over time: by step (EMA) or by epoch (SWA)."""

from __future__ import annotations

import copy

import torch
from torch import nn

from verify_pipeline.training.loop_settings import AverageSettings

DECAY = 0.999
"""Of EMA, if settings do not say another."""


class WeightAverage:
    """The average of a network's weights, in a network of its own.

    EMA: ``a ← d a + (1 - d) w`` after each step (Polyak and Juditsky 1992, with exponential
    weights), from the weights after the first step of epoch ``start`` on. SWA: the plain mean of
    the weights after the epochs ``start``, ``start + 1``, … (Izmailov et al. 2018,
    arXiv:1803.05407, algorithm 1).

    The count of averaged weights follows from epoch and step, so that a checkpoint needs the
    weights only.

    Args:
        network: whose weights are averaged; it is not changed.
        settings: of the average; ``kind`` is not None.
        steps: of an epoch.
    """

    def __init__(self, network: nn.Module, settings: AverageSettings, steps: int) -> None:
        self.module = copy.deepcopy(network).eval().requires_grad_(False)
        self._network, self._settings, self._steps = network, settings, steps

    def has_begun(self, epoch: int) -> bool:
        """Whether there is an average at the end of this epoch."""
        return epoch >= self._settings.start

    def step_done(self, step: int) -> None:
        """Average the weights behind a step, counted from 0 over the whole training."""
        count = step - (self._settings.start - 1) * self._steps
        if self._settings.kind == "ema" and count >= 0:
            self._move(1.0 if count == 0 else 1 - (self._settings.decay or DECAY))

    def epoch_done(self, epoch: int) -> None:
        """Average the weights behind an epoch, counted from 1."""
        count = epoch - self._settings.start
        if self._settings.kind == "swa" and count >= 0:
            self._move(1 / (count + 1))

    @torch.no_grad()
    def _move(self, share: float) -> None:
        """Towards the network's weights; all the way with a share of 1."""
        pairs = zip(self.module.parameters(), self._network.parameters(), strict=True)
        for average, weight in pairs:
            average.lerp_(weight, share)
        for mine, buffer in zip(self.module.buffers(), self._network.buffers(), strict=True):
            mine.copy_(buffer)  # batch normalisation gets statistics of its own after the epoch

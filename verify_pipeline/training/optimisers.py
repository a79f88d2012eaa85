"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from verify_pipeline.training.optimiser_settings import OptimiserName, OptimiserSettings

Parameters = Iterable[nn.Parameter]


def _sgd(settings: OptimiserSettings, parameters: Parameters) -> torch.optim.Optimizer:
    """Gradient descent, with momentum as in Sutskever et al. 2013 up to its scale, as torch has it.

    ``v ← μ v + g``, ``w ← w - η v``; with Nesterov's, ``w ← w - η (g + μ v)``.
    """
    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _adam(
    kind: type[torch.optim.Adam], settings: OptimiserSettings, parameters: Parameters
) -> torch.optim.Optimizer:
    """Adam (arXiv:1412.6980), or AdamW (arXiv:1711.05101), whose decay is not in the gradient."""
    decay = settings.weight_decay
    return kind(parameters, lr=settings.learning_rate, weight_decay=decay, fused=True)


def _radam(settings: OptimiserSettings, parameters: Parameters) -> torch.optim.Optimizer:
    """RAdam (arXiv:1908.03265), algorithm 2."""
    decay = settings.weight_decay
    return torch.optim.RAdam(parameters, lr=settings.learning_rate, weight_decay=decay)


OPTIMISERS: dict[
    OptimiserName, Callable[[OptimiserSettings, Parameters], torch.optim.Optimizer]
] = {
    "adam": partial(_adam, torch.optim.Adam),
    "adamw": partial(_adam, torch.optim.AdamW),
    "radam": _radam,
    "sgd": _sgd,
}


def make_optimiser(settings: OptimiserSettings, parameters: Parameters) -> torch.optim.Optimizer:
    """The optimiser that settings name, for these parameters.

    Args:
        settings: of the training.
        parameters: that it updates; weight decay is of all of them.
    """
    return OPTIMISERS[settings.name](settings, parameters)


@contextmanager
def without_decay(optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """No weight decay in the steps meanwhile."""
    decays = [group["weight_decay"] for group in optimiser.param_groups]
    try:
        for group in optimiser.param_groups:
            group["weight_decay"] = 0.0
        yield
    finally:
        for group, decay in zip(optimiser.param_groups, decays, strict=True):
            group["weight_decay"] = decay

"""Bounds of margins for a training loop of one's own, in one call."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from verify_pipeline.errors import DataError
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.problem import Box, margin_matrix
from verify_pipeline.training.batch_norm import batch_norms, observed


def ibp_margins(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    statistics_of: Tensor | None = None,
) -> Tensor:
    """IBP lower bounds of all margins over the boxes of half-width ε around images, cut to [0, 1].

    Gradients reach the module's weights, so that a loss of these bounds trains it: Gowal et al.
    2018 (arXiv:1810.12715). In train mode, batch normalisation uses the mean and variance of a
    batch, with gradients through them; neither the running statistics nor the mode change.

    The first call for a module takes longer than the others: auto_LiRPA traces it once.

    Args:
        module: of pixels ``N x *X`` in [0, 1] to logits ``N x K``.
        images: ``N x *X``, pixels in [0, 1].
        labels: ``N``, in ``[0, K)``.
        epsilon: ε >= 0.
        statistics_of: the batch ``M x *X`` whose mean and variance are used in train mode, such as
            an attack's points; None: ``images``.

    Returns:
        ``N x (K − 1)`` lower bounds of ``f_y − f_j``, j ≠ y.

    Raises:
        DataError: images and labels do not fit each other, or a label is no output of the network.
        DependencyError: auto_LiRPA is missing.
        NetworkError: auto_LiRPA cannot bound an operation of the module.
    """
    if labels.shape != images.shape[:1]:
        raise DataError(
            "labels",
            expected=f"one for each of {len(images)} images",
            got=f"shape {tuple(labels.shape)}",
        )
    bounder = _bounder(module, images)
    bounder.train(module.training)
    if module.training and batch_norms(module):
        with observed(module) as statistics:
            outputs = module(images if statistics_of is None else statistics_of)
        bounder.use_statistics(statistics)
    else:
        with torch.no_grad():
            outputs = module(images[:1])
    classes = outputs.shape[-1]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            "labels",
            expected=f"classes from 0 to {classes - 1}",
            got=f"{int(labels.min())} to {int(labels.max())}",
        )
    rows = margin_matrix(labels, classes, images.dtype)
    return bounder.ibp(Box.around(images, epsilon), rows)


@dataclass(frozen=True, eq=False)
class _Traced:
    """A bounder, and what of its module it is only valid for."""

    parts: tuple[Any, ...]
    bounder: AutoLirpaBounder


_TRACED: MutableMapping[nn.Module, _Traced] = weakref.WeakKeyDictionary()
"""A cache: tracing takes longer than a step of a small network."""


def _bounder(module: nn.Module, images: Tensor) -> AutoLirpaBounder:
    """The module's bounder, made anew if the module or the images' shape has changed since."""
    parts = (
        tuple(images.shape[1:]),
        *(id(each) for each in module.modules()),
        *(id(each) for each in (*module.parameters(), *module.buffers())),
        *((each.device, each.dtype) for each in module.parameters()),
    )
    kept = _TRACED.get(module)
    if kept is not None and kept.parts == parts:
        return kept.bounder
    made = AutoLirpaBounder(module, tuple(images.shape[1:]))
    made.hold_module_weakly()
    _TRACED[module] = _Traced(parts, made)
    return made

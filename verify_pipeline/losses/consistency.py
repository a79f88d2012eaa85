"""Adversarial training that also keeps clean and adversarial probabilities close: MART and ARoW.

Both add ``λ mean KL(p(x) ‖ p(x')) w`` to a cross-entropy, x' being the attack's point; they differ
in the cross-entropy, in the weight w of each instance, and in what the attack maximises. They bound
nothing: they are baselines for certified training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.losses.base import (
    Loss,
    Network,
    margin_cross_entropy,
    of_clean_and_adversarial,
)
from verify_pipeline.losses.probabilities import (
    divergence,
    doubt,
    log_probabilities,
    relative_logits,
)


@dataclass(frozen=True)
class LossNumbers:
    """Numbers of losses besides α; a loss that does not have one ignores it.

    Attributes:
        kl_weight: λ of MART and ARoW, >= 0; None: the usual one, 5 for MART and 7 for ARoW.
        label_smoothing: of ARoW's cross-entropy, in [0, 1].
    """

    kl_weight: float | None = None
    label_smoothing: float = 0.2


def mart_loss(clean: Tensor, adversarial: Tensor, weight: float = 5.0) -> Tensor:
    """``mean (BCE(x') + λ KL(p(x) ‖ p(x')) (1 - p_y(x)))``: MART, with the boosted cross-entropy.

    ``BCE(x') = -log p_y(x') - log(1 - max_{k≠y} p_k(x'))``: Wang et al. 2020 (ICLR, openreview
    rklOg6EFwS). With margins, the second term is ``softplus(-z_k - log(1 + Σ_{j≠k} exp(-z_j)))``,
    k being the class of the least margin, which stays finite where ``p_k`` is 1.

    Args:
        clean: margins at the images, ``N x S``; see ``margins_of_logits``.
        adversarial: margins at the attack's points, ``N x S``.
        weight: λ, >= 0.

    Returns:
        A scalar, >= 0 up to rounding.
    """
    before, after = log_probabilities(clean), log_probabilities(adversarial)
    boosted = margin_cross_entropy(adversarial) + _runner_up(adversarial)
    return (boosted + weight * divergence(before, after) * doubt(before[:, 0])).mean()


def _runner_up(margins: Tensor) -> Tensor:
    """``-log(1 - p_k)``, ``N``, of the most probable class k that is not the label."""
    logits = relative_logits(margins)
    most = 1 + margins.argmin(-1, keepdim=True)
    others = logits.scatter(-1, most, -torch.inf).logsumexp(-1)
    return F.softplus(logits.gather(-1, most).squeeze(-1) - others)


def arow_loss(
    clean: Tensor, adversarial: Tensor, weight: float = 7.0, smoothing: float = 0.2
) -> Tensor:
    """``mean (CE_s(x) + λ KL(p(x) ‖ p(x')) (1 - p_y(x')))``: ARoW, with smoothed labels.

    Yang et al. 2023 (arXiv:2206.03353), whose 2λ is λ here. Labels are ``1 - s + s/K`` for y and
    ``s/K`` for the others; with margins, ``CE_s = L(z) + (s/K) Σ_j z_j``. The attack maximises the
    divergence, as in TRADES; see :func:`divergence_attack`.

    Args:
        clean: margins at the images, ``N x S``; see ``margins_of_logits``.
        adversarial: margins at the attack's points, ``N x S``.
        weight: λ, >= 0.
        smoothing: s in [0, 1].

    Returns:
        A scalar, >= 0 up to rounding.
    """
    before, after = log_probabilities(clean), log_probabilities(adversarial)
    smoothed = margin_cross_entropy(clean) + smoothing / before.shape[1] * clean.sum(-1)
    return (smoothed + weight * divergence(before, after) * doubt(after[:, 0])).mean()


def divergence_attack(network: Network, images: Tensor, labels: Tensor) -> Network:
    """What ARoW's attack maximises: ``KL(p(x) ‖ p(x'))`` of each point x', ``N``.

    Args:
        network: maps ``N x *X`` to logits ``N x K``.
        images: x, ``N x *X``.
        labels: ``N``; the divergence does not depend on them.
    """
    with torch.no_grad():
        before = network(images).log_softmax(-1)
    return lambda points: divergence(before, network(points).log_softmax(-1))


def mart(numbers: LossNumbers) -> Loss:
    """MART with this λ."""
    weight = 5.0 if numbers.kl_weight is None else numbers.kl_weight
    value = of_clean_and_adversarial(lambda clean, attacked: mart_loss(clean, attacked, weight))
    return Loss("mart", value, needs_clean=True, needs_attack=True)


def arow(numbers: LossNumbers) -> Loss:
    """ARoW with this λ and smoothing of labels."""
    weight = 7.0 if numbers.kl_weight is None else numbers.kl_weight
    smoothing = numbers.label_smoothing
    value = of_clean_and_adversarial(
        lambda clean, attacked: arow_loss(clean, attacked, weight, smoothing)
    )
    return Loss(
        "arow", value, needs_clean=True, needs_attack=True, attack_objective=divergence_attack
    )

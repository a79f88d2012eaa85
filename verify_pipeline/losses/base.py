"""The contract of losses, and the formula that all of them share.

De Palma et al. 2024 (arXiv:2305.13991) write every loss as a function of the ``S = K - 1`` margins
``z_j = f_y - f_j``, j ≠ y. It depends on margins at an attack point, on lower bounds of the margins
over a box, or on both.

Each loss exists twice: as a plain function of tensors, ``<name>_loss``, for any training loop, and
as a :class:`Loss`, which tells this package's training loop what the function needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.problem import Box


def margin_cross_entropy(margins: Tensor) -> Tensor:
    """``L(z) = log(1 + Σ_j exp(-z_j))``: cross-entropy of each instance in terms of its margins.

    It is computed as ``softplus(logsumexp(-z))``, which does not overflow and keeps small values.

    Args:
        margins: ``N x S``.

    Returns:
        Losses, ``N``, >= 0.
    """
    return F.softplus((-margins).logsumexp(dim=-1))


@dataclass(frozen=True, eq=False)
class LossMargins:
    """The margins that a loss can use. Margins that it does not need may be None.

    Attributes:
        clean: margins at the images, ``N x S``.
        adversarial: margins at the attack's points, ``N x S``.
        ibp: IBP lower bounds over the loss's box, ``N x S``.
        crown: CROWN-IBP lower bounds over the loss's box, ``N x S``; of a loss with a combination,
            of this combination alone, ``N x 1``.
        latent: margins at the worst points that an attack found in the box of a layer's outputs,
            ``N x S``; see ``taps``.
        ibp_upper: IBP upper bounds over the loss's box, ``N x S``.
    """

    clean: Tensor | None = None
    adversarial: Tensor | None = None
    ibp: Tensor | None = None
    crown: Tensor | None = None
    latent: Tensor | None = None
    ibp_upper: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Perturbed:
    """The images of a training step with their perturbations.

    Attributes:
        images: ``N x *X``, pixels in [0, 1].
        epsilon: half-width of the boxes that are bounded, >= 0.
        attack_epsilon: half-width of the boxes that the attack searches, >= 0.
        points: the attack's points, ``N x *X``; None if the loss does not need them.
    """

    images: Tensor
    epsilon: float
    attack_epsilon: float
    points: Tensor | None = None


def whole_box(perturbed: Perturbed, share: float) -> Box:
    """The whole perturbation box, over which losses without a box of their own are bounded."""
    return Box.around_pixels(perturbed.images, perturbed.epsilon)


Value = Callable[[LossMargins, float], Tensor]
"""Maps (margins, α) to a scalar."""

Network = Callable[[Tensor], Tensor]
"""Maps inputs ``N x *X`` to one row of values each."""

AttackObjective = Callable[[Network, Tensor, Tensor], Network]
"""Maps (the attacked network, images, labels) to what the attack maximises: of points, ``N``."""


def cross_entropy_attack(network: Network, images: Tensor, labels: Tensor) -> Network:
    """What most attacks maximise: the cross-entropy at each point, ``N``.

    Args:
        network: maps ``N x *X`` to logits ``N x K``.
        images: ``N x *X``; the cross-entropy does not depend on them.
        labels: ``N``.
    """
    return lambda points: F.cross_entropy(network(points), labels, reduction="none")


@dataclass(frozen=True)
class Loss:
    """A loss, and what it needs from a training step.

    Attributes:
        name: its name in recipes.
        value: maps (margins, α) to a scalar, the mean over the batch.
        needs_attack: whether it needs margins at the attack's points.
        needs_bounds: whether it needs IBP lower bounds.
        needs_crown: whether it also needs CROWN-IBP lower bounds.
        needs_latent: whether it also needs margins in the box of a layer's outputs.
        bounded_box: maps (perturbed images, λ) to the boxes over which margins are bounded.
        while_growing: the loss that takes its place while ε grows, which needs the same attack and
            the same bounds; None: it is its own.
        needs_clean: whether it needs margins at the images besides others.
        attack_objective: what the attack maximises.
        combination: maps IBP lower and upper bounds, ``N x S`` each, to weights >= 0, ``N x S``, of
            the one sum of margins that CROWN-IBP bounds; None: it bounds each margin.
    """

    name: str
    value: Value
    needs_attack: bool = False
    needs_bounds: bool = False
    needs_crown: bool = False
    needs_latent: bool = False
    bounded_box: Callable[[Perturbed, float], Box] = whole_box
    while_growing: Loss | None = None
    needs_clean: bool = False
    attack_objective: AttackObjective = cross_entropy_attack
    combination: Callable[[Tensor, Tensor], Tensor] | None = None


def required(margins: Tensor | None, kind: str) -> Tensor:
    """The margins, unless they are missing.

    Raises:
        ValueError: they are missing; the message names their kind.
    """
    if margins is None:
        raise ValueError(f"this loss is a function of {kind} margins, which were not given")
    return margins


def of_clean(loss: Callable[[Tensor], Tensor]) -> Value:
    """A loss of the margins at the images."""
    return lambda margins, alpha: loss(required(margins.clean, "clean"))


def of_adversarial(loss: Callable[[Tensor], Tensor]) -> Value:
    """A loss of the margins at the attack's points."""
    return lambda margins, alpha: loss(required(margins.adversarial, "adversarial"))


def of_clean_and_adversarial(loss: Callable[[Tensor, Tensor], Tensor]) -> Value:
    """A loss of the margins at the images and at the attack's points."""
    return lambda margins, alpha: loss(
        required(margins.clean, "clean"), required(margins.adversarial, "adversarial")
    )


def of_ibp(loss: Callable[[Tensor], Tensor]) -> Value:
    """A loss of the margins' IBP bounds."""
    return lambda margins, alpha: loss(required(margins.ibp, "IBP"))


def of_adversarial_and_ibp(loss: Callable[[Tensor, Tensor, float], Tensor]) -> Value:
    """A loss of the margins at the attack's points, their IBP bounds, and α."""
    return lambda margins, alpha: loss(
        required(margins.adversarial, "adversarial"), required(margins.ibp, "IBP"), alpha
    )


def of_crown_and_ibp(loss: Callable[[Tensor, Tensor, float], Tensor]) -> Value:
    """A loss of the margins' CROWN-IBP bounds, their IBP bounds, and the weight of the former."""
    return lambda margins, alpha: loss(
        required(margins.crown, "CROWN"), required(margins.ibp, "IBP"), alpha
    )


def of_latent_and_ibp(loss: Callable[[Tensor, Tensor], Tensor]) -> Value:
    """A loss of the margins at latent points, and of the margins' IBP bounds."""
    return lambda margins, alpha: loss(
        required(margins.latent, "latent"), required(margins.ibp, "IBP")
    )

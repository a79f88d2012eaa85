"""The contract of losses, and the one formula under all of them.

De Palma et al. 2024 (arXiv:2305.13991) write every loss as a function of margins
``z_j = f_y - f_j``, j ≠ y (``S = K - 1`` of them): of the margins at an attack point, of lower
bounds of the margins over a box, or of both.

Each loss is a plain function of tensors, ``<name>_loss``, for anybody's training loop, and a
:class:`Loss` that tells this package's loop what the function needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.problem import Box


def margin_cross_entropy(margins: Tensor) -> Tensor:
    """``L(z) = log(1 + Σ_j exp(-z_j))``: cross-entropy in terms of margins, per instance.

    Args:
        margins: ``N x S``.

    Returns:
        ``N``, >= 0. ``log(1 + Σ exp(-z)) = softplus(logsumexp(-z))``, which neither overflows nor
        loses the small values.
    """
    return F.softplus((-margins).logsumexp(dim=-1))


@dataclass(frozen=True, eq=False)
class LossMargins:
    """The margins a loss may look at; it names those it needs, the others may be missing.

    Attributes:
        clean: at the images themselves, ``N x S``.
        adversarial: at the attack's points, ``N x S``.
        ibp: IBP lower bounds over the loss's box, ``N x S``.
        crown: CROWN-IBP lower bounds over the loss's box, ``N x S``.
    """

    clean: Tensor | None = None
    adversarial: Tensor | None = None
    ibp: Tensor | None = None
    crown: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Perturbed:
    """The images of a step and what surrounds them.

    Attributes:
        images: ``N x *X``, pixels in [0, 1].
        epsilon: half-width of the boxes that are bounded, >= 0.
        attack_epsilon: half-width of the boxes that the attack looks in, >= 0.
        points: the attack's points, ``N x *X``, where the loss needs them.
    """

    images: Tensor
    epsilon: float
    attack_epsilon: float
    points: Tensor | None = None


def whole_box(perturbed: Perturbed, share: float) -> Box:
    """Bounds over the whole perturbation box: what every loss but SABR asks for."""
    return Box.around(perturbed.images, perturbed.epsilon)


Value = Callable[[LossMargins, float], Tensor]
"""Of (margins, α), a scalar."""


@dataclass(frozen=True)
class Loss:
    """A loss and what it asks of a training step.

    Attributes:
        name: in recipes.
        value: of (margins, α), a scalar: the mean over the batch.
        needs_attack: margins at the attack's points.
        needs_bounds: IBP lower bounds.
        needs_crown: CROWN-IBP lower bounds too.
        bounded_box: of (what surrounds the images, λ), the box to bound.
    """

    name: str
    value: Value
    needs_attack: bool = False
    needs_bounds: bool = False
    needs_crown: bool = False
    bounded_box: Callable[[Perturbed, float], Box] = whole_box


def required(margins: Tensor | None, kind: str) -> Tensor:
    """The margins, or an error that says which kind a loss was called without."""
    if margins is None:
        raise ValueError(f"this loss is a function of {kind} margins, which were not given")
    return margins


def of_clean(loss: Callable[[Tensor], Tensor]) -> Value:
    """A loss of the margins at the images."""
    return lambda margins, alpha: loss(required(margins.clean, "clean"))


def of_adversarial(loss: Callable[[Tensor], Tensor]) -> Value:
    """A loss of the margins at the attack's points."""
    return lambda margins, alpha: loss(required(margins.adversarial, "adversarial"))


def of_ibp(loss: Callable[[Tensor], Tensor]) -> Value:
    """A loss of IBP bounds of the margins."""
    return lambda margins, alpha: loss(required(margins.ibp, "IBP"))


def of_adversarial_and_ibp(loss: Callable[[Tensor, Tensor, float], Tensor]) -> Value:
    """A loss of the margins at the attack's points, their IBP bounds, and α."""
    return lambda margins, alpha: loss(
        required(margins.adversarial, "adversarial"), required(margins.ibp, "IBP"), alpha
    )


def of_crown_and_ibp(loss: Callable[[Tensor, Tensor, float], Tensor]) -> Value:
    """A loss of CROWN-IBP and IBP bounds of the margins, and the weight of the former."""
    return lambda margins, alpha: loss(
        required(margins.crown, "CROWN"), required(margins.ibp, "IBP"), alpha
    )

"""One training step's loss, in the order of De Palma et al. 2024 (arXiv:2305.13991, appendix):

1. a clean forward pass in train mode;
2. the attack in eval mode;
3. the adversarial forward pass in train mode;
4. bounds in train mode, with the adversarial batch's mean and variance.

During warm-up the loss is the cross-entropy of the first pass. The other passes still run, in boxes
of half-width 1e-6, because they move the running statistics. ``passes.py`` has the other policy for
batch normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import (
    Loss,
    LossMargins,
    Perturbed,
    adversarial_certainty,
    margin_cross_entropy,
)
from verify_pipeline.losses.base import required
from verify_pipeline.network.zoo.layers import Normalise
from verify_pipeline.problem import Box, margin_matrix
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.training.initialise import l1_norm
from verify_pipeline.training.latent import LatentMargins
from verify_pipeline.training.passes import POLICIES, Passes
from verify_pipeline.training.precision import passes_in
from verify_pipeline.training.regulariser import shi_regulariser
from verify_pipeline.training.settings import TrainSettings

WARM_UP_EPSILON = 1e-6
"""Half-width of the boxes of the attack and the regulariser while ε = 0."""


@dataclass(frozen=True)
class StepPlan:
    """What changes from step to step.

    Attributes:
        epsilon: half-width of the bounded box; 0 while warming up.
        alpha: the loss's α.
        regulariser: weight of Shi's regulariser; 0 for none.
        clean_weight: κ of the cross-entropy of the images.
    """

    epsilon: float
    alpha: float
    regulariser: float
    clean_weight: float = 0.0


@dataclass(frozen=True, eq=False)
class StepResult:
    """A step's loss, and what metrics are made of: scalars, still on the training's device.

    A step reads none of its values, since the host would wait for an accelerator to compute them.

    Attributes:
        loss: a scalar that gradients go through: everything that is minimised.
        correct: number of instances classified rightly without attack.
        adversarial_correct: under the attack; None where there was none.
        verified: with all IBP margins > 0; None if the loss uses no bounds.
        cross_entropies: means over the instances, by what was measured: ``clean``, ``adversarial``,
            ``ibp`` (of the lower bounds of the margins) and ``latent``.
    """

    loss: Tensor
    correct: Tensor
    adversarial_correct: Tensor | None = None
    verified: Tensor | None = None
    cross_entropies: Mapping[str, Tensor] = field(default_factory=dict)


class LossStep:
    """The loss of a batch, as the settings say.

    Args:
        module: the network, of pixels ``N x C x H x W`` to logits ``N x K``.
        bounder: the same module with bounds; None where the loss needs none.
        loss: from ``losses``.
        settings: of the whole training.
        generator: of the attack's random starts.
        group: of processes. Each passes its part of the batch through the network; margins are
            gathered, so that the loss and all counts are those of the whole batch in each.
        passes: through the network; None: those of the settings' policy.

    Raises:
        ConfigError: the loss attacks a part of the network at which it cannot be cut.
        NetworkError: the network cannot be cut at all.
    """

    def __init__(
        self,
        module: nn.Module,
        bounder: AutoLirpaBounder | None,
        loss: Loss,
        settings: TrainSettings,
        generator: torch.Generator,
        group: ProcessGroup = ALONE,
        passes: Passes | None = None,
    ) -> None:
        self._module = module
        self._bounder = bounder
        self._loss = loss
        self._settings = settings
        self._generator = generator
        self._group = group
        self._latent: LatentMargins | None = None
        if loss.needs_latent and bounder is not None:
            self._latent = LatentMargins(module, bounder, settings.loss.taps, generator, group)
        self._passes = passes or POLICIES[settings.batch_norm_policy](module, bounder, group)
        self._normalise = next(
            (layer for layer in module.modules() if isinstance(layer, Normalise)), nn.Identity()
        )

    def attacked(self, images: Tensor, labels: Tensor, plan: StepPlan) -> Tensor | None:
        """The attack's points of this process's images; None if the loss attacks nothing.

        Arguments as for a call.
        """
        count, part = len(images), self._group.part(len(images))
        return self._perturbed(images[part], labels[part], plan.epsilon, count).points

    def __call__(
        self, images: Tensor, labels: Tensor, plan: StepPlan, points: Tensor | None = None
    ) -> StepResult:
        """The loss of pixels ``N x C x H x W`` in [0, 1] with labels ``N``.

        With several processes, pixels and labels are those of the whole batch in each of them.

        Args:
            images: the pixels.
            labels: of the images.
            plan: of the step.
            points: of the attack, from :meth:`attacked`; None: they are found now.
        """
        warming_up = plan.epsilon == 0 or not (self._loss.needs_attack or self._loss.needs_bounds)
        count, part = len(images), self._group.part(len(images))
        images = images[part]
        logits = self._group.gathered(self._clean(images, warming_up), count)
        correct = (logits.argmax(1) == labels).sum()
        rows = margin_matrix(labels, logits.shape[1], logits.dtype)
        perturbed = self._perturbed(images, labels[part], plan.epsilon, count, points)
        # before bounds, which use its statistics
        adversarial = self._adversarial(perturbed, rows, count)
        if warming_up:
            box = Box.around_pixels(images, WARM_UP_EPSILON)
            if plan.regulariser and self._bounder is not None:
                self._bounder.ibp(box, rows[part])
            loss = F.cross_entropy(logits, labels) + self._penalties(box, plan)
            measured = _cross_entropies(logits, labels, adversarial)
            return StepResult(loss, correct, _positive(adversarial), None, measured)
        of_margins = self._loss_at(plan.epsilon)
        box = of_margins.bounded_box(perturbed, self._settings.loss.sabr_lambda)
        bounds = self._bounds(of_margins, box, rows[part], count)
        clean = torch.einsum("nsk,nk->ns", rows, logits) if of_margins.needs_clean else None
        margins = replace(bounds, clean=clean, adversarial=adversarial)
        loss = of_margins.value(margins, plan.alpha)
        if plan.clean_weight:
            natural = F.cross_entropy(logits, labels)
            loss = plan.clean_weight * natural + (1 - plan.clean_weight) * loss
        loss = loss + self._penalties(box, plan)
        measured = _cross_entropies(logits, labels, adversarial, margins.ibp, margins.latent)
        return StepResult(loss, correct, _positive(adversarial), _positive(margins.ibp), measured)

    def _loss_at(self, epsilon: float) -> Loss:
        """The loss, or the one that takes its place while ε grows."""
        target = self._settings.epsilon
        is_growing = epsilon < target.target * target.train_factor
        return (self._loss.while_growing if is_growing else None) or self._loss

    def certainty(
        self, images: Tensor, labels: Tensor, plan: StepPlan, points: Tensor | None = None
    ) -> Tensor:
        """The adversarial certainty (EDAC) with its weight, a scalar with gradients.

        It makes the passes of a step up to the adversarial one. Arguments as for a step.
        """
        count, part = len(images), self._group.part(len(images))
        images = images[part]
        logits = self._group.gathered(self._clean(images, warming_up=False), count)
        rows = margin_matrix(labels, logits.shape[1], logits.dtype)
        perturbed = self._perturbed(images, labels[part], plan.epsilon, count, points)
        adversarial = required(self._adversarial(perturbed, rows, count), "adversarial")
        return self._settings.loss.edac_step * adversarial_certainty(adversarial)

    def _clean(self, images: Tensor, warming_up: bool) -> Tensor:
        """Logits of the images; with gradients only if the loss needs them."""
        loss = self._loss
        needed = warming_up or not loss.needs_attack or loss.needs_clean
        needed = needed or self._passes.clean_has_influence or self._settings.loss.mixes_clean
        with torch.set_grad_enabled(needed):
            return self._passes.clean(images)

    def _perturbed(
        self,
        images: Tensor,
        labels: Tensor,
        epsilon: float,
        count: int,
        points: Tensor | None = None,
    ) -> Perturbed:
        """The images, the half-widths of bounds and attack, and the attack's points.

        Args:
            images: this process's.
            labels: of these images.
            epsilon: half-width of the bounded box.
            count: images of the whole batch.
            points: of the attack, if they were found before.
        """
        attack_epsilon = epsilon * self._settings.epsilon.attack_epsilon_factor
        if epsilon == 0:
            epsilon = attack_epsilon = WARM_UP_EPSILON
        perturbed = Perturbed(images, epsilon, attack_epsilon, points)
        if points is not None or not self._loss.needs_attack:
            return perturbed
        attack = self._settings.attack
        with self._passes.attack() as network, passes_in(attack.precision, images.device):
            points = pgd(
                self._loss.attack_objective(network, images, labels),
                Box.around_pixels(images, attack_epsilon),
                steps=attack.steps,
                step_size=attack.step_size,
                restarts=attack.restarts,
                generator=self._generator,
                rand=self._group.rand(count),
            )
        return replace(perturbed, points=points)

    def _adversarial(self, perturbed: Perturbed, rows: Tensor, count: int) -> Tensor | None:
        """Margins of all ``count`` images at the attack's points; None if there are none."""
        if perturbed.points is None:
            return None
        outputs = self._group.gathered(self._passes.adversarial(perturbed.points), count)
        return torch.einsum("nsk,nk->ns", rows, outputs)

    def _bounds(self, loss: Loss, box: Box, rows: Tensor, count: int) -> LossMargins:
        """What the loss needs of the box, of all ``count`` images.

        Args:
            loss: of this step.
            box: this process's boxes.
            rows: of these boxes, ``N x S x K``.
            count: images of the whole batch.
        """
        if self._bounder is None:
            return LossMargins()
        gathered = self._group.gathered
        lower, upper = self._bounder.ibp_interval(box, rows)
        bounds = LossMargins(ibp=gathered(lower, count))
        if loss.needs_latent and self._latent is not None:
            bounds = replace(bounds, latent=gathered(self._latent(box, rows, count), count))
        if not loss.needs_crown:
            return bounds
        if loss.combination is None:
            crown = self._bounder.crown_of_last_ibp(rows)
            return replace(bounds, crown=gathered(crown, count))
        weights = loss.combination(lower, upper)
        crown = self._bounder.crown_of_last_ibp(weights.unsqueeze(1) @ rows)
        return replace(bounds, crown=gathered(crown, count), ibp_upper=gathered(upper, count))

    def _penalties(self, box: Box, plan: StepPlan) -> Tensor:
        """L1 and Shi's regulariser, with their weights; the latter of the last bounds, of a box."""
        total = box.lower.new_zeros(())
        if self._settings.optimiser.l1:
            total = total + self._settings.optimiser.l1 * l1_norm(self._module)
        if plan.regulariser and self._bounder is not None:
            # as the first layer of weights sees it, after normalisation
            radius = self._group.mean(self._normalise(box.upper) - self._normalise(box.lower)) / 2
            bounds = self._bounder.relu_inputs()
            tolerance = self._settings.regulariser.tolerance
            term = shi_regulariser(bounds, radius, tolerance, self._group.total)
            total = total + plan.regulariser * term
        return total


def _positive(margins: Tensor | None) -> Tensor | None:
    """Number of instances whose margins are all > 0; None where there are no margins."""
    return None if margins is None else (margins > 0).all(1).sum()


@torch.no_grad()
def _cross_entropies(
    logits: Tensor,
    labels: Tensor,
    adversarial: Tensor | None,
    ibp: Tensor | None = None,
    latent: Tensor | None = None,
) -> dict[str, Tensor]:
    """Cross-entropies of the logits, and of the margins that there are."""
    margins = {"adversarial": adversarial, "ibp": ibp, "latent": latent}
    return {"clean": F.cross_entropy(logits, labels)} | {
        name: margin_cross_entropy(each).mean()
        for name, each in margins.items()
        if each is not None
    }

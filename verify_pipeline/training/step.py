"""One training step's loss, in the order that batch normalisation makes matter (PAPER: De Palma
et al. 2024, arXiv:2305.13991, appendix):

1. a clean forward pass in train mode;
2. the attack in eval mode;
3. the adversarial forward pass in train mode;
4. bounds in train mode, with the adversarial batch's mean and variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.lirpa import Bounder
from verify_pipeline.losses import Loss, Margins
from verify_pipeline.network.zoo.layers import Normalise
from verify_pipeline.problem import Box, margin_matrix
from verify_pipeline.training.batch_norm import has_batch_norm
from verify_pipeline.training.initialise import l1_norm
from verify_pipeline.training.regulariser import shi_regulariser
from verify_pipeline.training.settings import TrainSettings

WARM_UP_EPSILON = 1e-6
"""Half-width of the boxes that the regulariser looks at while ε = 0."""


@dataclass(frozen=True)
class StepPlan:
    """What changes from step to step.

    Attributes:
        epsilon: half-width of the bounded box; 0 while warming up.
        alpha: the loss's α.
        regulariser: weight of Shi's regulariser; 0 for none.
    """

    epsilon: float
    alpha: float
    regulariser: float


@dataclass(frozen=True, eq=False)
class StepResult:
    """A step's loss and what a progress bar shows of it.

    Attributes:
        loss: a scalar that gradients go through: everything that is minimised.
        correct: instances classified rightly without attack.
        adversarial_correct: under the attack; 0 where the loss has none.
        verified: with all IBP margins > 0; 0 where the loss has no bounds.
    """

    loss: Tensor
    correct: int
    adversarial_correct: int = 0
    verified: int = 0


class LossStep:
    """The loss of a batch, as the settings say.

    Args:
        module: the network, of pixels ``N x C x H x W`` to logits ``N x K``.
        bounder: the same module with bounds; None where the loss needs none.
        loss: from ``losses``.
        settings: of the whole training.
        generator: of the attack's random starts.
    """

    def __init__(
        self,
        module: nn.Module,
        bounder: Bounder | None,
        loss: Loss,
        settings: TrainSettings,
        generator: torch.Generator,
    ) -> None:
        self._module = module
        self._bounder = bounder
        self._loss = loss
        self._settings = settings
        self._generator = generator
        self._has_statistics = has_batch_norm(module)
        self._normalise = next(
            (layer for layer in module.modules() if isinstance(layer, Normalise)), nn.Identity()
        )

    def __call__(self, images: Tensor, labels: Tensor, plan: StepPlan) -> StepResult:
        """The loss of pixels ``N x C x H x W`` in [0, 1] with labels ``N``."""
        self._use_batch_statistics()
        warming_up = plan.epsilon == 0 or not (self._loss.needs_attack or self._loss.needs_bounds)
        # with an attack, the clean pass is there for batch norm's statistics (and the accuracy)
        with torch.set_grad_enabled(warming_up or not self._loss.needs_attack):
            logits = self._forward(images)
        correct = int((logits.argmax(1) == labels).sum())
        if self._settings.batch_norm_policy == "ctbench":
            self._freeze_statistics()
        rows = margin_matrix(labels, logits.shape[1], logits.dtype)
        if warming_up:
            penalties = self._penalties(Box.around(images, WARM_UP_EPSILON), rows, plan, True)
            return StepResult(F.cross_entropy(logits, labels) + penalties, correct)
        points = self._attack(images, labels, plan.epsilon) if self._loss.needs_attack else None
        share = self._settings.loss.sabr_lambda
        box = self._loss.bounded_box(images, points, plan.epsilon, share)
        margins = self._margins(points, box, rows)
        loss = self._loss.value(margins, plan.alpha) + self._penalties(box, rows, plan, False)
        return StepResult(loss, correct, _positive(margins.adversarial), _positive(margins.ibp))

    def _margins(self, points: Tensor | None, box: Box, rows: Tensor) -> Margins:
        """The margins the loss needs: adversarial ones first, whose statistics bounds use."""
        adversarial = crown = ibp = None
        if points is not None:
            adversarial = torch.einsum("nsk,nk->ns", rows, self._forward(points))
        if self._bounder is not None:
            if self._loss.needs_crown:
                crown = self._bounder.crown_ibp(box, rows)
            ibp = self._bounder.ibp(box, rows)
        return Margins(adversarial=adversarial, ibp=ibp, crown=crown)

    def _attack(self, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        attack = self._settings.attack
        box = Box.around(images, epsilon * self._settings.epsilon.attack_epsilon_factor)
        self._module.eval()
        points = pgd(
            lambda x: F.cross_entropy(self._module(x), labels, reduction="none"),
            box,
            steps=attack.steps,
            step_size=attack.step_size,
            restarts=attack.restarts,
            generator=self._generator,
        )
        if self._settings.batch_norm_policy == "paper":
            self._module.train()
        return points

    def _penalties(self, box: Box, rows: Tensor, plan: StepPlan, bounds_missing: bool) -> Tensor:
        """L1 and Shi's regulariser, with their weights; the latter of the last bounds computed."""
        total = rows.new_zeros(())
        if self._settings.optimiser.l1:
            total = total + self._settings.optimiser.l1 * l1_norm(self._module)
        if plan.regulariser and self._bounder is not None:
            if bounds_missing:
                self._bounder.ibp(box, rows)
            # as the first layer of weights sees it, after normalisation
            radius = (self._normalise(box.upper) - self._normalise(box.lower)).mean() / 2
            bounds = self._bounder.relu_inputs()
            term = shi_regulariser(bounds, radius, self._settings.regulariser.tolerance)
            total = total + plan.regulariser * term
        return total

    def _use_batch_statistics(self) -> None:
        self._module.train()
        if self._bounder is not None:
            self._bounder.train(True)

    def _freeze_statistics(self) -> None:
        """Normalise with the running statistics, which the clean batch has just set."""
        self._module.eval()
        if self._bounder is not None:
            self._bounder.freeze_batch_norm()

    def _forward(self, x: Tensor) -> Tensor:
        """Logits; with batch norm through the bounder, which keeps the batch's statistics."""
        if self._bounder is not None and self._has_statistics:
            return self._bounder.forward(x)
        out: Tensor = self._module(x)
        return out


def _positive(margins: Tensor | None) -> int:
    """Instances whose margins are all > 0; 0 where there are no margins."""
    return 0 if margins is None else int((margins > 0).all(1).sum())

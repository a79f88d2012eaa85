"""The same step written once more, as the code of De Palma et al. 2024 (arXiv:2305.13991) does it.

Written from the paper's description and from what that code calls: auto_LiRPA's own interval
rules through ``compute_bounds`` with the margin matrix C, all passes through the bounded module, an
attack in eval mode, L1 over the weights one by one, and the loss read in every step. No loss,
attack, rule or step of this package is used, only its import of auto_LiRPA with the repairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stepping.subject import Subject
from verify_pipeline.lirpa.bounder import BOUND_OPTIONS
from verify_pipeline.lirpa.shims import load

CLIP = 10.0
RATE = 1e-6
LOSSES = ("natural", "adversarial", "ibp", "cc-ibp", "mtl-ibp", "exp-ibp", "sabr")

Noise = Callable[[Tensor], Tensor]
"""Uniform numbers in [0, 1) of a tensor's shape."""


class AuthorsStep:
    """The step, to be called again and again.

    Args:
        subject: network and batch.
        loss: one of :data:`LOSSES`.
        noise: of the attack's start.
    """

    def __init__(self, subject: Subject, loss: str, noise: Noise = torch.rand_like) -> None:
        if loss not in LOSSES:
            raise ValueError(f"loss {loss!r}; expected one of {', '.join(LOSSES)}")
        self._subject, self._loss, self._noise = subject, loss, noise
        lirpa = load().module
        self._box = lirpa.perturbations.PerturbationLpNorm
        self._tensor = lirpa.BoundedTensor
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject.module.eval()
            self._model = lirpa.BoundedModule(
                subject.module, torch.zeros_like(subject.images[:2]), bound_opts=BOUND_OPTIONS
            )
        self._optimiser = torch.optim.Adam(self._model.parameters(), lr=RATE)

    def __call__(self) -> float:
        """One step; its loss, read."""
        self._optimiser.zero_grad()
        loss = self.loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), CLIP)
        self._optimiser.step()
        return loss.item()

    def loss(self) -> Tensor:
        """The loss of the batch, with L1."""
        x, y, size = self._subject.images, self._subject.labels, self._subject.size
        self._model.train()
        clean = self._model(x)
        total: Tensor = size.l1 * sum(
            p.abs().sum() for p in self._model.parameters() if p.dim() > 1
        )
        if self._loss == "natural":
            return total + F.cross_entropy(clean, y)
        epsilon = size.epsilon
        reach = epsilon * size.attack_factor
        if self._loss == "ibp":
            return total + self._worst(x - epsilon, x + epsilon)[0]
        points = self._attacked(reach)
        outputs = self._model(points)
        attacked = F.cross_entropy(outputs, y)
        if self._loss == "adversarial":
            return total + attacked
        if self._loss == "sabr":
            low, high = (x - reach).clamp(0, 1), (x + reach).clamp(0, 1)
            width = size.sabr_lambda * reach
            center = torch.max(torch.min(points, high - width), low + width)
            return total + self._worst(center - width, center + width)[0]
        worst, bounds = self._worst(x - epsilon, x + epsilon)
        if self._loss == "mtl-ibp":
            return total + size.alpha * worst + (1 - size.alpha) * attacked
        if self._loss == "exp-ibp":
            return total + worst**size.alpha * attacked ** (1 - size.alpha)
        margins = torch.bmm(self._rows(), outputs.unsqueeze(2)).squeeze(2)
        return total + _cross_entropy(size.alpha * bounds + (1 - size.alpha) * margins)

    def _rows(self) -> Tensor:
        """C: one row ``e_y - e_j`` for each other class."""
        y, classes = self._subject.labels, self._subject.size.classes
        eye = torch.eye(classes, device=y.device)
        rows = eye[y].unsqueeze(1) - eye.unsqueeze(0)
        kept = y.unsqueeze(1) != torch.arange(classes, device=y.device).unsqueeze(0)
        return rows[kept].view(len(y), classes - 1, classes)

    def _worst(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the margins' lower bounds over a box, and these bounds."""
        box = self._box(norm=float("inf"), x_L=lower.clamp(0, 1), x_U=upper.clamp(0, 1))
        data = self._tensor(self._subject.images.clone(), box)
        bounds, _ = self._model.compute_bounds(
            x=(data,), C=self._rows(), method="IBP", bound_upper=False
        )
        return _cross_entropy(bounds), bounds

    def _attacked(self, reach: float) -> Tensor:
        """The iterate of greatest loss of a projected gradient ascent."""
        subject = self._subject
        x, y, attack = subject.images, subject.labels, subject.size.attack
        network = self._model  # with its own running statistics, which its passes move
        network.eval()
        lower, upper = (x - reach).clamp(0, 1), (x + reach).clamp(0, 1)
        length = attack.step_size * (upper - lower) / 2
        point = lower + self._noise(x) * (upper - lower)
        best, most = point.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        for step in range(attack.steps + 1):
            point = point.detach().requires_grad_()
            losses = F.cross_entropy(network(point), y, reduction="none")
            better = losses.detach() > most
            best = torch.where(better.view(-1, 1, 1, 1), point.detach(), best)
            most = torch.where(better, losses.detach(), most)
            if step < attack.steps:
                (slope,) = torch.autograd.grad(losses.sum(), point)
                point = torch.min(torch.max(point + length * slope.sign(), lower), upper)
        network.train()
        return point.detach() if attack.steps == 1 else best


def _cross_entropy(margins: Tensor) -> Tensor:
    """Of ``[0, -z]`` against class 0, the mean over the batch."""
    scores = torch.cat([torch.zeros_like(margins[:, :1]), -margins], 1)
    first = torch.zeros(len(margins), dtype=torch.long, device=scores.device)
    return F.cross_entropy(scores, first)

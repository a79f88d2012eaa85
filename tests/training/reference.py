"""The method once more, in plain loops for a perceptron: what the package's training has to equal.

De Palma et al. 2024 (arXiv:2305.13991), written from the paper, and other methods likewise: no part
of the package computes a loss, a bound, an attack or a schedule here. Initial weights, augmentation
and the seeds of noise are the package's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline.data import DataSetInfo, ImageSet, augment
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box
from verify_pipeline.training.initialise import ibp_init
from verify_pipeline.training.noise import _seed
from verify_pipeline.training.settings import TrainSettings

from .reference_formulas import arow, crown, interval, kl, latent_box, mart, regulariser


def initial(settings: TrainSettings, info: DataSetInfo) -> nn.Sequential:
    """The perceptron before its first step."""
    torch.manual_seed(settings.seed)
    net = settings.network
    module = zoo.build(
        net.name, info.shape, info.classes, info.mean, info.std, net.width, net.batch_norm
    )
    ibp_init(module)
    assert isinstance(module, nn.Sequential)
    return module


def ramp(step: int, first: int, last: int) -> float:
    """0 to 1: x^4 for a quarter of the way, then a line of the same slope."""
    if not first < step < last:
        return float(step >= last)
    middle = first + (last - first) // 4
    at, whole = middle - first, last - first
    slope = 4 * at**3  # of x^4 at the middle
    top = at**4 + slope * (whole - at)
    x = step - first
    return (x**4 if step < middle else at**4 + slope * (x - at)) / top


@dataclass
class Reference:
    """A training in plain loops.

    Attributes:
        settings: of the training; the network is a perceptron without batch normalisation.
        info: of the images.
        images: to train on.
    """

    settings: TrainSettings
    info: DataSetInfo
    images: ImageSet

    def run(self) -> nn.Sequential:
        """The trained network."""
        chosen, optimiser = self.settings, self.settings.optimiser
        self.module = initial(chosen, self.info)
        order, change, self.noise = (
            torch.Generator().manual_seed(3 * chosen.seed + place) for place in range(3)
        )
        decay = optimiser.weight_decay
        adam = torch.optim.AdamW(self.module.parameters(), lr=1.0, weight_decay=decay)
        per_epoch = len(self.images) // optimiser.batch
        for epoch in range(1, optimiser.epochs + 1):
            rate = optimiser.learning_rate
            for milestone in optimiser.milestones:
                rate *= optimiser.decay if epoch > milestone else 1.0
            adam.param_groups[0]["lr"] = rate
            places = torch.randperm(len(self.images), generator=order)
            for step in range(per_epoch):
                batch = places[step * optimiser.batch : (step + 1) * optimiser.batch]
                pixels = self.images.images[batch].float() / 255
                if chosen.data.augment:
                    pixels = augment(pixels, self.info.augmentation, change)
                self.module.zero_grad()
                labels, now = self.images.labels[batch], (epoch - 1) * per_epoch + step
                if chosen.loss.edac_step and self.epsilon(now, per_epoch)[0]:
                    reach = self.epsilon(now, per_epoch)[1]
                    outputs = self.module(self.attacked(pixels, labels, reach))
                    (chosen.loss.edac_step * outputs.std(1).mean()).backward()
                    adam.param_groups[0]["weight_decay"] = 0.0
                    adam.step()
                    adam.param_groups[0]["weight_decay"] = decay
                    self.module.zero_grad()
                exact = self.add_noise(now)
                self.loss(pixels, labels, now, per_epoch).backward()
                for layer, weight in exact:
                    layer.weight.data = weight
                self.clip(optimiser.clip)
                adam.step()
        return self.module

    def add_noise(self, step: int) -> list[tuple[nn.Linear, Tensor]]:
        """Gaussian noise on the weights, which are returned as they were."""
        scale = self.settings.optimiser.weight_noise
        if not scale:
            return []
        generator = torch.Generator().manual_seed(_seed((self.settings.seed, step)))
        exact = []
        for layer in self.module:
            if isinstance(layer, nn.Linear):
                weight = layer.weight.data
                exact.append((layer, weight))
                noise = torch.empty_like(weight).normal_(generator=generator)
                layer.weight.data = weight + scale * weight.std() * noise
        return exact

    def epsilon(self, step: int, per_epoch: int) -> tuple[float, float, float]:
        """ε of bounds, ε of the attack, and the share of the way."""
        at = self.settings.epsilon
        first = (at.start - 1) * per_epoch
        grown = ramp(step, first, first + at.length * per_epoch)
        epsilon = at.target * at.train_factor * grown
        return epsilon, epsilon * at.attack_epsilon_factor, grown

    def clip(self, most: float) -> None:
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        norm = sum(float(g.square().sum()) for g in gradients) ** 0.5
        for gradient in gradients:
            gradient *= min(1.0, most / (norm + 1e-6))

    def loss(self, x: Tensor, labels: Tensor, step: int, per_epoch: int) -> Tensor:
        chosen, of = self.settings, self.settings.loss
        epsilon, reach, grown = self.epsilon(step, per_epoch)
        alpha = of.alpha
        if of.alpha_ramp.shape == "linear":
            part = min(1.0, step / (of.alpha_ramp.length * per_epoch))
            alpha = of.alpha_ramp.start_value * (1 - part) + of.alpha * part
        bounds_only = of.name in ("ibp", "taps", "crown-ibp", "crown-ibp-fused")
        points = None if bounds_only else self.attacked(x, labels, reach or 1e-6)
        center, width = x, epsilon or 1e-6
        lower, upper = (x - width).clamp(0, 1), (x + width).clamp(0, 1)
        if of.name in ("sabr", "mtl-sabr", "staps") and epsilon:
            width = of.sabr_lambda * reach
            low, high = (x - reach).clamp(0, 1), (x + reach).clamp(0, 1)
            center = torch.minimum(torch.maximum(points, low + width), high - width)
            lower, upper = center - width, center + width
        bounds = interval(list(self.module), lower, upper, labels, of.relu_shrinkage)
        total = chosen.optimiser.l1 * sum(
            layer.weight.abs().sum() for layer in self.module if isinstance(layer, nn.Linear)
        )
        normalise = self.module[0]
        radius = ((normalise(upper) - normalise(lower)) / 2).mean()
        weight = chosen.regulariser.weight * (1 - grown)
        if of.name not in ("mart", "arow", "adversarial"):
            total = total + weight * regulariser(bounds[2], radius, chosen.regulariser.tolerance)
        if epsilon == 0:
            return total + F.cross_entropy(self.module(x), labels)
        kappa = self.kappa(step, per_epoch)
        natural = F.cross_entropy(self.module(x), labels) if kappa else 0.0
        loss = self.of_margins(x, labels, points, alpha, grown, Box(lower, upper), bounds)
        return total + kappa * natural + (1 - kappa) * loss

    def kappa(self, step: int, per_epoch: int) -> float:
        """The weight of the images' cross-entropy."""
        last, by = self.settings.loss.clean_weight, self.settings.loss.clean_ramp
        if by.shape == "constant":
            return last
        assert by.shape == "smoothed"
        first = (by.start - 1) * per_epoch
        part = ramp(step, first, first + by.length * per_epoch)
        return by.start_value * (1 - part) + last * part

    def of_margins(
        self,
        x: Tensor,
        labels: Tensor,
        points: Tensor | None,
        alpha: float,
        grown: float,
        whole: Box,
        bounds: tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]],
    ) -> Tensor:
        """The loss of a step with ε > 0, without penalties."""
        of, layers = self.settings.loss, list(self.module)
        lower, upper = whole.lower, whole.upper
        margins, most, seen = bounds
        verified = F.cross_entropy(-margins, labels)
        rows = torch.eye(margins.shape[1])
        rows = rows[labels].unsqueeze(1) - rows
        if of.name == "crown-ibp":
            tighter = crown(layers, seen, lower, upper, rows)
            return F.cross_entropy(-(alpha * tighter + (1 - alpha) * margins), labels)
        if of.name == "crown-ibp-fused":
            others = rows.any(2)  # y's own row is 0
            gap = torch.where(others, most - margins, 1.0)
            slope = torch.where(others, ((-margins).exp() - (-most).exp()) / gap, 0.0)
            least = crown(layers, seen, lower, upper, (slope.unsqueeze(2) * rows).sum(1, True))
            chords = (others * ((-most).exp() + slope * most)).sum(1) - least[:, 0]
            corner = (others * (-margins).exp()).sum(1)
            return (1 + alpha * chords + (1 - alpha) * corner).log().mean()
        if of.name in ("ibp", "sabr") or (of.name in ("taps", "staps") and grown < 1):
            return verified
        if of.name in ("taps", "staps"):
            box = latent_box(layers, seen, of.taps.classifier_relus, of.relu_shrinkage)
            latent = F.cross_entropy(-self.latent_margins(*box, labels), labels)
            weight = of.taps.gradient_weight
            return (weight * latent - (weight - 1) * latent.detach()) * verified
        outputs = self.module(points)
        attacked = F.cross_entropy(outputs, labels)
        if of.name == "adversarial":
            return attacked
        if of.name == "mart":
            return mart(self.module(x), outputs, labels, of.kl_weight or 5.0)
        if of.name == "arow":
            smooth = of.label_smoothing
            return arow(self.module(x), outputs, labels, of.kl_weight or 7.0, smooth)
        if of.name in ("mtl-ibp", "mtl-sabr"):
            return alpha * verified + (1 - alpha) * attacked
        if of.name == "exp-ibp":
            return verified**alpha * attacked ** (1 - alpha)
        assert of.name == "cc-ibp"
        differences = outputs.gather(1, labels.unsqueeze(1)) - outputs
        mixed = alpha * margins + (1 - alpha) * differences
        return F.cross_entropy(-mixed, labels)

    def latent_margins(
        self, lower: Tensor, upper: Tensor, layers: list[nn.Module], labels: Tensor
    ) -> Tensor:
        """The least f_y - f_j that an attack on each j finds in the box, y itself as 0."""
        taps, classifier = self.settings.loss.taps, nn.Sequential(*layers)
        low, high = lower.detach(), upper.detach()
        classes = int(layers[-1].out_features)
        others = torch.tensor([[j for j in range(classes) if j != y] for y in labels.tolist()])
        noise = torch.rand((len(labels), classes - 1, low.shape[1]), generator=self.noise)
        margins = torch.zeros(len(labels), classes)
        for place in range(classes - 1):
            other = others[:, place : place + 1]

            def margin(z: Tensor, other: Tensor = other) -> Tensor:
                out: Tensor = classifier(z)
                return (out.gather(1, labels.unsqueeze(1)) - out.gather(1, other)).squeeze(1)

            z = low + noise[:, place] * (high - low)
            worst, least = z, margin(z).detach()
            for _ in range(taps.attack.steps):
                z.requires_grad_()
                (gradient,) = torch.autograd.grad(margin(z).sum(), z)
                z = z.detach() - taps.attack.step_size * (high - low) / 2 * gradient.sign()
                z = torch.minimum(torch.maximum(z, low), high)
                found = margin(z).detach()
                worst = torch.where((found < least).unsqueeze(1), z, worst)
                least = torch.minimum(found, least)
            # the gradient of each coordinate goes to a side as far as it is near
            reach = taps.connector * (high - low)
            of_low = ((low + reach - worst) / reach).clamp(0, 1).nan_to_num(0.5)
            of_high = ((worst - high + reach) / reach).clamp(0, 1).nan_to_num(0.5)
            linked = worst + of_low * (lower - low) + of_high * (upper - high)
            margins = margins.scatter(1, other, margin(linked).unsqueeze(1))
        return margins

    def attacked(self, x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        """One step of the gradient's sign from a random start."""
        assert self.settings.attack.steps == 1
        lower, upper = (x - epsilon).clamp(0, 1), (x + epsilon).clamp(0, 1)
        start = lower + torch.rand(x.shape, generator=self.noise) * (upper - lower)
        start.requires_grad_()
        if self.settings.loss.name == "arow":
            aim = kl(self.module(x).detach(), self.module(start)).sum()
        else:
            aim = F.cross_entropy(self.module(start), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(aim, start)
        step = self.settings.attack.step_size * (upper - lower) / 2
        moved = start.detach() + step * gradient.sign()
        return torch.minimum(torch.maximum(moved, lower), upper)


def flat(module: nn.Module) -> Tensor:
    """All parameters, one after the other."""
    values: list[Any] = [p.detach().flatten() for p in module.parameters()]
    return torch.cat(values)

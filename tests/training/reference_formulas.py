"""Formulas of bounds and losses for a perceptron, written a second time: see ``reference.py``."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline.network import zoo


def interval(
    layers: list[nn.Module], lower: Tensor, upper: Tensor, labels: Tensor, shrinkage: float = 1.0
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Bounds of all f_y - f_j, y itself among them as 0, and bounds of each ReLU's input."""
    seen = []
    *before, last = layers
    for layer in before:
        if isinstance(layer, nn.Linear):
            center, radius = layer((lower + upper) / 2), (upper - lower) / 2 @ layer.weight.abs().T
            lower, upper = center - radius, center + radius
        else:
            if isinstance(layer, nn.ReLU):
                seen.append((lower, upper))
                upper = upper * (1 - (1 - shrinkage) * (lower < 0).float())
            lower, upper = layer(lower), layer(upper)
    assert isinstance(last, nn.Linear)
    weight = last.weight[labels].unsqueeze(1) - last.weight
    offset = last.bias[labels].unsqueeze(1) - last.bias
    low, high = lower.unsqueeze(1), upper.unsqueeze(1)
    least = torch.where(weight > 0, weight * low, weight * high)
    most = torch.where(weight > 0, weight * high, weight * low)
    return least.sum(2) + offset, most.sum(2) + offset, seen


def crown(
    layers: list[nn.Module],
    seen: list[tuple[Tensor, Tensor]],
    lower: Tensor,
    upper: Tensor,
    rows: Tensor,
) -> Tensor:
    """CROWN's lower bounds ``N x S`` of rows ``N x S x K``: Zhang et al. 2018, with IBP's bounds.

    Args:
        layers: of the perceptron.
        seen: bounds of each ReLU's input.
        lower: of the images' boxes.
        upper: of the images' boxes.
        rows: of the outputs.
    """
    a, constant, relus = rows, torch.zeros(()), list(seen)
    for layer in reversed(layers):
        if isinstance(layer, nn.Linear):
            a, constant = a @ layer.weight, constant + a @ layer.bias
        elif isinstance(layer, nn.ReLU):
            low, high = relus.pop()
            crossing = (low < 0) & (high > 0)
            chord = torch.where(crossing, high / (high - low), (low >= 0).float())
            under = torch.where(crossing, (high > -low).float(), chord).unsqueeze(1)
            height = torch.where(crossing, -low * chord, 0.0).unsqueeze(1)
            constant = constant + (a * (a < 0) * height).sum(2)
            a = torch.where(a < 0, a * chord.unsqueeze(1), a * under)
        elif isinstance(layer, zoo.layers.Normalise):
            a = a / layer.std.item()
            constant = constant - a.sum(2) * layer.mean.item()
    lower, upper = lower.flatten(1).unsqueeze(1), upper.flatten(1).unsqueeze(1)
    return torch.where(a > 0, a * lower, a * upper).sum(2) + constant


def kl(first: Tensor, second: Tensor) -> Tensor:
    """The divergence of the second logits' probabilities from the first ones'."""
    p, q = first.softmax(1), second.softmax(1)
    return (p * (p / q).log()).sum(1)


def of_label(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)


def mart(clean: Tensor, attacked: Tensor, labels: Tensor, weight: float) -> Tensor:
    others = attacked.softmax(1).scatter(1, labels.unsqueeze(1), 0.0).max(1).values
    boosted = F.cross_entropy(attacked, labels) - (1 - others).log().mean()
    return boosted + weight * (kl(clean, attacked) * (1 - of_label(clean, labels))).mean()


def arow(clean: Tensor, attacked: Tensor, labels: Tensor, weight: float, smooth: float) -> Tensor:
    smoothed = F.cross_entropy(clean, labels, label_smoothing=smooth)
    return smoothed + weight * (kl(clean, attacked) * (1 - of_label(attacked, labels))).mean()


def latent_box(
    layers: list[nn.Module], seen: list[tuple[Tensor, Tensor]], relus: int, shrinkage: float
) -> tuple[Tensor, Tensor, list[nn.Module]]:
    """The box behind the ReLU that has so many behind it, and the layers from there on."""
    lower, upper = seen[-1 - relus]
    upper = upper * (1 - (1 - shrinkage) * (lower < 0).float())
    places = [place for place, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
    return lower.relu(), upper.relu(), layers[places[-1 - relus] + 1 :]


def regulariser(seen: list[tuple[Tensor, Tensor]], radius: Tensor, tolerance: float) -> Tensor:
    """Shi et al. 2021: the means over layers of tightness and of balance."""
    total = torch.zeros(())
    for lower, upper in seen:
        total = total + F.relu(tolerance - radius / ((upper - lower) / 2).mean())
        center = (lower + upper) / 2
        on, off = lower > 0, upper < 0
        if on.any() and off.any():
            spread = (center - center.mean()) ** 2
            for a, b in (
                (center[on].sum(), -center[off].sum()),
                (spread[on].sum(), spread[off].sum()),
            ):
                total = total + F.relu(tolerance - torch.minimum(a / b, b / a))
    return total / len(seen) / tolerance

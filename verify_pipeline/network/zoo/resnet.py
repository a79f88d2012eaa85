"""A small residual network with batch normalisation."""

from __future__ import annotations

from torch import Tensor, nn

from verify_pipeline.network.zoo.layers import Normalise, convolution, scaled, with_head
from verify_pipeline.network.zoo.plan import LayerPlan


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut, followed by a ReLU.

    The shortcut is a 1×1 convolution if shapes differ. This is the basic block of He et al. 2016
    (arXiv:1512.03385).
    """

    def __init__(self, channels: tuple[int, int], stride: int, batch_norm: bool) -> None:
        super().__init__()
        before, after = channels
        branch = convolution((before, after), 3, stride, 1, batch_norm)
        branch.append(nn.Conv2d(after, after, 3, 1, 1))
        shortcut: list[nn.Module] = []
        if stride != 1 or before != after:
            shortcut.append(nn.Conv2d(before, after, 1, stride))
        if batch_norm:
            branch.append(nn.BatchNorm2d(after))
            if shortcut:
                shortcut.append(nn.BatchNorm2d(after))
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*shortcut)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``N x C x H x W`` to ``N x C' x H' x W'``."""
        out: Tensor = self.relu(self.branch(x) + self.shortcut(x))
        return out


def resnet(plan: LayerPlan) -> nn.Module:
    """Conv 16, blocks 16 s1, 32 s2, 64 s2, then Linear 100 and Linear K; with BN by default."""
    norm = True if plan.batch_norm is None else plan.batch_norm
    channels = scaled(16, plan.width)
    layers: list[nn.Module] = [Normalise(plan.mean, plan.std)]
    layers.extend(convolution((plan.input_shape[0], channels), 3, 1, 1, norm))
    for wanted, stride in ((16, 1), (32, 2), (64, 2)):
        wider = scaled(wanted, plan.width)
        layers.append(ResidualBlock((channels, wider), stride, norm))
        channels = wider
    return with_head(layers, plan.input_shape, [scaled(100, plan.width)], plan.classes, norm)

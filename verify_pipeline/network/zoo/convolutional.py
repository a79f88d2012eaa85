"""Multilayer perceptrons and plain convolutional networks."""

from __future__ import annotations

from torch import nn

from verify_pipeline.network.zoo.layers import Normalise, convolution, scaled, with_head
from verify_pipeline.network.zoo.plan import LayerPlan

Conv = tuple[int, int, int, int]
"""Channels, kernel, stride, padding."""


def _stack(
    plan: LayerPlan, convolutions: list[Conv], hidden: list[int], batch_norm: bool
) -> nn.Module:
    norm = batch_norm if plan.batch_norm is None else plan.batch_norm
    layers: list[nn.Module] = [Normalise(plan.mean, plan.std, len(plan.input_shape))]
    channels = plan.input_shape[0]
    for wanted, kernel, stride, padding in convolutions:
        wider = scaled(wanted, plan.width)
        layers.extend(convolution((channels, wider), kernel, stride, padding, norm))
        channels = wider
    neurons = [scaled(n, plan.width) for n in hidden]
    return with_head(layers, plan.input_shape, neurons, plan.classes, norm)


def mlp(plan: LayerPlan) -> nn.Module:
    """Three hidden layers of 256 neurons."""
    return _stack(plan, [], [256, 256, 256], batch_norm=False)


def conv_small(plan: LayerPlan) -> nn.Module:
    """Conv 16 and 32, each 4×4 stride 2 pad 1, Linear 100, Linear K; three ReLU layers."""
    return _stack(plan, [(16, 4, 2, 1), (32, 4, 2, 1)], [100], batch_norm=False)


def conv_medium(plan: LayerPlan) -> nn.Module:
    """Conv 16 3×3, 16 4×4 s2, 32 3×3, 32 4×4 s2, Linear 256, Linear K; five ReLU layers."""
    convolutions = [(16, 3, 1, 1), (16, 4, 2, 1), (32, 3, 1, 1), (32, 4, 2, 1)]
    return _stack(plan, convolutions, [256], batch_norm=False)


def cnn5(plan: LayerPlan) -> nn.Module:
    """Conv 64 s2, 128 s2, 128 s1, each 3×3 + BN, Linear 512 + BN, Linear K."""
    return _stack(plan, [(64, 3, 2, 1), (128, 3, 2, 1), (128, 3, 1, 1)], [512], batch_norm=True)


def cnn7(plan: LayerPlan) -> nn.Module:
    """CNN7 of Shi et al. 2021 (arXiv:2103.17268), as used by De Palma et al. 2024.

    It has 17.19 M parameters on CIFAR-10. Images with 64 or more pixels per side use the ImageNet
    variant, whose fifth convolution has stride 2.
    """
    last_stride = 2 if plan.input_shape[-1] >= 64 else 1
    convolutions = [
        (64, 3, 1, 1),
        (64, 3, 1, 1),
        (128, 3, 2, 1),
        (128, 3, 1, 1),
        (128, 3, last_stride, 1),
    ]
    return _stack(plan, convolutions, [512], batch_norm=True)

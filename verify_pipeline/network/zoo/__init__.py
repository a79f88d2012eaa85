"""The networks that recipes can name. They map pixels in [0, 1] to K logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from verify_pipeline.errors import ConfigError
from verify_pipeline.network.zoo.convolutional import cnn5, cnn7, conv_medium, conv_small, mlp
from verify_pipeline.network.zoo.plan import Builder, LayerPlan
from verify_pipeline.network.zoo.resnet import resnet
from verify_pipeline.network.zoo.transformer import vit

BUILDERS: dict[str, Builder] = {
    "mlp": mlp,
    "conv-small": conv_small,
    "conv-medium": conv_medium,
    "cnn5": cnn5,
    "cnn7": cnn7,
    "resnet": resnet,
    "vit": vit,
}


TAKE_VECTORS = frozenset(("mlp",))
"""The networks whose inputs may be vectors; those of the others are images ``C x H x W``."""


def names() -> tuple[str, ...]:
    """The names that :func:`build` knows."""
    return tuple(BUILDERS)


def build(
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    width: float = 1.0,
    batch_norm: bool | None = None,
) -> nn.Module:
    """A network in train mode, with initial weights from torch's global random generator.

    Args:
        name: one of :func:`names`.
        input_shape: ``C x H x W``, or ``(D,)`` of vectors.
        classes: K, at least 2.
        mean: mean of the pixels, one per channel or one for all.
        std: standard deviation of the pixels, likewise, > 0.
        width: factor of the numbers of channels and hidden neurons.
        batch_norm: with or without batch normalisation; None: the network's default.

    Raises:
        ConfigError: the name is unknown, images are too small for the network, or it takes no
            vectors.
    """
    if name not in BUILDERS:
        raise ConfigError(f"network {name!r}", expected="one of " + ", ".join(BUILDERS))
    if len(input_shape) == 1 and name not in TAKE_VECTORS:
        raise ConfigError(
            f"network {name!r}",
            expected="images C x H x W",
            got=f"vectors of {input_shape[0]} numbers",
            remedy=f"Choose {' or '.join(sorted(TAKE_VECTORS))}.",
        )
    try:
        return BUILDERS[name](LayerPlan(input_shape, classes, mean, std, width, batch_norm))
    except RuntimeError as error:
        raise ConfigError(
            f"network {name!r}",
            expected="images that its strides and kernels fit",
            got=f"{input_shape} ({error})",
            remedy="Choose a smaller network.",
        ) from error

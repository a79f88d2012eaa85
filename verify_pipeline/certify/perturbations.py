"""How much images may change: the boxes around them, and their names in ledgers.

If possible, a perturbation's name defines it, so that a ledger's row suffices to repeat its run.
Otherwise the name contains a digest of the arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from verify_pipeline.certify.boxes import exact_box
from verify_pipeline.certify.records import exactly, instance_digest
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.problem import Box

CHANNEL_AXES = 3
"""Axes of an image that has channels: ``C x H x W``."""


class BoxRule(Protocol):
    """A rule that gives each image its box."""

    def box(self, pixels: Tensor, indices: Sequence[int]) -> Box:
        """The float64 boxes around float32 pixels ``N x *X`` of the images at ``indices``."""
        ...


class Perturbation(BoxRule, Protocol):
    """A rule for a question, which a ledger's run names.

    Attributes:
        name: as in the ledger; equal iff the boxes of equal images are.
        epsilon: half-width of every side of every box, where there is one such number.
    """

    @property
    def name(self) -> str:
        """As in the ledger; equal iff the boxes of equal images are."""
        ...

    @property
    def epsilon(self) -> float | None:
        """Half-width of every side of every box, where there is one such number."""
        ...

    def check_fits(self, count: int, shape: tuple[int, ...]) -> None:
        """Refuse a set of ``count`` images of shape ``*X`` that this perturbation does not fit.

        Raises:
            DataError: it does not fit.
        """
        ...


@dataclass(frozen=True)
class LinfBall:
    """Every pixel by at most ε, within [0, 1].

    Attributes:
        epsilon: half-width, >= 0, pixels in [0, 1].

    Raises:
        ConfigError: ε is negative or not finite.
    """

    epsilon: float

    def __post_init__(self) -> None:
        _check_size(self.epsilon)

    @property
    def name(self) -> str:
        """As in the ledger."""
        return f"linf {exactly(self.epsilon)}"

    def box(self, pixels: Tensor, indices: Sequence[int]) -> Box:
        """The float64 boxes around float32 pixels ``N x *X``."""
        return exact_box(pixels, self.epsilon)

    def check_fits(self, count: int, shape: tuple[int, ...]) -> None:
        """Fits all images."""


@dataclass(frozen=True)
class OwnBalls:
    """Every pixel of an image by at most that image's own ε, within [0, 1].

    Each box is the same, bit for bit, as that of a :class:`LinfBall` of its ε. There is no name: a
    ledger has a run for every ε.

    Attributes:
        epsilons: half-widths >= 0 by the image's index.
    """

    epsilons: Mapping[int, float]

    def box(self, pixels: Tensor, indices: Sequence[int]) -> Box:
        """The float64 boxes around float32 pixels ``N x *X`` of the images at ``indices``."""
        widths = torch.tensor([self.epsilons[index] for index in indices], dtype=torch.float64)
        return exact_box(pixels, widths.reshape(-1, *[1] * (pixels.dim() - 1)))


@dataclass(frozen=True)
class ChannelBalls:
    """Every pixel of a channel by at most that channel's ε, within [0, 1].

    Attributes:
        epsilons: one number >= 0 for each channel.

    Raises:
        ConfigError: a number is negative or not finite.
    """

    epsilons: tuple[float, ...]

    def __post_init__(self) -> None:
        for epsilon in self.epsilons:
            _check_size(epsilon)

    @property
    def name(self) -> str:
        """As in the ledger."""
        return "linf " + ",".join(map(exactly, self.epsilons))

    @property
    def epsilon(self) -> float | None:
        """ε of images with one channel; None: there are several numbers."""
        return self.epsilons[0] if len(self.epsilons) == 1 else None

    def box(self, pixels: Tensor, indices: Sequence[int]) -> Box:
        """The float64 boxes around float32 pixels ``N x C x H x W``."""
        return exact_box(pixels, torch.tensor(self.epsilons, dtype=torch.float64)[:, None, None])

    def check_fits(self, count: int, shape: tuple[int, ...]) -> None:
        """Refuse images with another number of channels.

        Raises:
            DataError: it differs, or the images are flat.
        """
        if len(shape) != CHANNEL_AXES or shape[0] != len(self.epsilons):
            raise DataError(
                "epsilon",
                expected=f"one number, or one for each channel of images of shape {shape}",
                got=f"{len(self.epsilons)} numbers",
            )


@dataclass(frozen=True, eq=False)
class PixelBalls:
    """Every pixel by at most its own ε, within [0, 1].

    Attributes:
        epsilons: numbers >= 0, of a shape that broadcasts against ``*X``, for all images alike.

    Raises:
        DataError: a number is negative or not finite.
    """

    epsilons: Tensor

    def __post_init__(self) -> None:
        if not bool((torch.isfinite(self.epsilons) & (self.epsilons >= 0)).all()):
            raise DataError("epsilon", expected="finite numbers >= 0", got="another number")

    def __repr__(self) -> str:
        return f"PixelBalls(epsilons of shape {tuple(self.epsilons.shape)})"

    @property
    def name(self) -> str:
        """As in the ledger: numbers by their digest."""
        return f"linf by pixel {instance_digest(self.epsilons.double())}"

    @property
    def epsilon(self) -> None:
        """None: there are several."""
        return

    def box(self, pixels: Tensor, indices: Sequence[int]) -> Box:
        """The float64 boxes around float32 pixels ``N x *X``."""
        return exact_box(pixels, self.epsilons.double())

    def check_fits(self, count: int, shape: tuple[int, ...]) -> None:
        """Refuse images whose shape the numbers do not broadcast to.

        Raises:
            DataError: the shapes do not broadcast to that of an image.
        """
        own = tuple(self.epsilons.shape)
        padded = (1,) * (len(shape) - len(own)) + own
        fits = len(own) <= len(shape) and all(
            mine in (1, theirs) for mine, theirs in zip(padded, shape, strict=True)
        )
        if not fits:
            raise DataError(
                "epsilon", expected=f"a shape that broadcasts to an image's {shape}", got=str(own)
            )


def _check_size(epsilon: float) -> None:
    if not 0 <= epsilon < math.inf:
        raise ConfigError("epsilon", expected="a number >= 0", got=str(epsilon))

"""Random flips and crops of a whole batch at once, using only torch."""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.data.sets import Augmentation


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Each image flipped with probability 1/2 and cropped at random from its padded form.

    Args:
        images: ``N x C x H x W``, of any type.
        augmentation: which of the two, and how.
        generator: source of the random numbers; the same state gives the same batch. It may be on
            another device than the images.

    Returns:
        ``N x C x H x W``, of the same type; the images themselves where there is nothing to do.
    """
    if not augmentation.flip and augmentation.padding == 0:
        return images
    count, channels, height, width = images.shape
    device = images.device
    row = torch.arange(height, device=device).expand(count, height)
    column = torch.arange(width, device=device).expand(count, width)
    if augmentation.padding > 0:
        row = row + _shifts(count, augmentation.padding, generator).to(device, non_blocking=True)
        column = column + _shifts(count, augmentation.padding, generator).to(
            device, non_blocking=True
        )
    if augmentation.flip:
        flipped = torch.rand(count, 1, generator=generator, device=generator.device) < 0.5
        flipped = flipped.to(device, non_blocking=True)
        column = torch.where(flipped, column.flip(1), column)
    inside = _inside(row, height)[:, None, :, None] & _inside(column, width)[:, None, None, :]
    taken = images[
        torch.arange(count, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        row.clamp(0, height - 1)[:, None, :, None],
        column.clamp(0, width - 1)[:, None, None, :],
    ]
    return taken if augmentation.mode == "edge" else taken.where(inside, taken.new_zeros(()))


def _shifts(count: int, padding: int, generator: torch.Generator) -> Tensor:
    """Where each image's window starts, relative to the image: ``N x 1`` in [-padding, padding]."""
    return torch.randint(
        -padding, padding + 1, (count, 1), generator=generator, device=generator.device
    )


def _inside(places: Tensor, length: int) -> Tensor:
    return (places >= 0) & (places < length)

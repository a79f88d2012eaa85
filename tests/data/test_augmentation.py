"""Random flips and crops against an image-by-image reference and by their frequencies."""

import pytest
import torch
from torch.nn import functional

from verify_pipeline.data import Augmentation, augment


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def variants(image: torch.Tensor, augmentation: Augmentation) -> list[torch.Tensor]:
    """Every image that the augmentation can make of one, through torch's own padding."""
    pad, (_, height, width) = augmentation.padding, image.shape
    mode = {"edge": "replicate", "zero": "constant"}[augmentation.mode]
    padded = functional.pad(image.unsqueeze(0).float(), [pad] * 4, mode=mode)[0].to(image.dtype)
    windows = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
    ]
    return windows + ([window.flip(2) for window in windows] if augmentation.flip else [])


@pytest.mark.parametrize("mode", ["edge", "zero"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_makes_all_variants_and_nothing_else(mode, flip: bool, dtype: torch.dtype) -> None:
    augmentation = Augmentation(flip=flip, padding=1, mode=mode)
    images = torch.randint(1, 256, (3, 2, 4, 5), dtype=torch.uint8).to(dtype)
    batch = images.repeat(400, 1, 1, 1)
    out = augment(batch, augmentation, seeded())
    assert out.shape == batch.shape
    assert out.dtype == dtype
    for place, image in enumerate(images):
        possible = {tuple(v.flatten().tolist()) for v in variants(image, augmentation)}
        made = {tuple(v.flatten().tolist()) for v in out[place::3]}
        assert made == possible


def test_nothing_to_do_changes_nothing() -> None:
    images = torch.rand(4, 1, 3, 3)
    assert torch.equal(augment(images, Augmentation(), seeded()), images)


def test_the_generator_decides_the_batch() -> None:
    images = torch.rand(16, 3, 8, 8)
    augmentation = Augmentation(flip=True, padding=2, mode="edge")
    first = augment(images, augmentation, seeded(1))
    assert torch.equal(first, augment(images, augmentation, seeded(1)))
    assert not torch.equal(first, augment(images, augmentation, seeded(2)))


def test_flips_are_as_frequent_as_a_fair_coin() -> None:
    images = torch.tensor([0, 1], dtype=torch.uint8).expand(10_000, 1, 1, 2)
    flipped = augment(images, Augmentation(flip=True), seeded())[:, 0, 0, 0].float().mean()
    assert abs(flipped - 0.5) < 0.025  # five standard deviations


def test_windows_are_uniform_and_rows_independent_of_columns() -> None:
    images = torch.arange(9, dtype=torch.float32).reshape(1, 1, 3, 3).repeat(9_000, 1, 1, 1)
    out = augment(images, Augmentation(padding=1, mode="edge"), seeded())
    counts = out[:, 0, 1, 1].long().bincount(minlength=9)  # the centre shows where the window is
    assert bool(((counts - 1000).abs() < 150).all())  # five standard deviations


def test_runs_on_a_device_with_a_generator_of_the_cpu(device: torch.device) -> None:
    images = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8)
    augmentation = Augmentation(flip=True, padding=2, mode="zero")
    there = augment(images.to(device), augmentation, seeded(5))
    assert there.device.type == device.type
    assert torch.equal(there.cpu(), augment(images, augmentation, seeded(5)))

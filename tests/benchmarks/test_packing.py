"""Packed images come back bit by bit, or not at all."""

from pathlib import Path

import pytest
import torch
from accelerating.packing import headers, pack, unpack

from verify_pipeline.data import ImageSet
from verify_pipeline.errors import DataError


def images(split: str, count: int, smooth: bool = False) -> ImageSet:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 3, 6, 5), generator=generator, dtype=torch.uint8)
    if smooth:
        pixels = (pixels // 16).cumsum(3).to(torch.uint8)
    labels = torch.randint(0, 200, (count,), generator=generator)
    return ImageSet("noise", split, pixels, labels, 200)


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "images.packed"
    given = {"train": images("train", 40), "test": images("test", 7, smooth=True)}
    assert pack(path, list(given.values())) == path.stat().st_size
    assert [header.split for header in headers(path)] == ["train", "test"]
    for split, own in given.items():
        back = unpack(path, split)
        assert (back.name, back.split, back.classes) == ("noise", split, 200)
        assert torch.equal(back.images, own.images)
        assert torch.equal(back.labels, own.labels)


def test_extreme_pixels_come_back(tmp_path: Path) -> None:
    pixels = torch.tensor([0, 255, 128, 127, 1, 254], dtype=torch.uint8)
    every = torch.cartesian_prod(*[pixels] * 4).view(-1, 1, 2, 2)
    three = torch.cat([every, every.flip(0), every.roll(7, 0)], 1)
    own = ImageSet("ends", "train", three, torch.zeros(len(three), dtype=torch.long), 2)
    pack(tmp_path / "x", [own])
    assert torch.equal(unpack(tmp_path / "x", "train").images, three)


def test_smooth_images_become_small(tmp_path: Path) -> None:
    ramp = torch.arange(32, dtype=torch.uint8) * 4
    pixels = (ramp.view(1, 1, 32, 1) + ramp.view(1, 1, 1, 32)).expand(50, 3, 32, 32).contiguous()
    own = ImageSet("ramp", "train", pixels, torch.zeros(50, dtype=torch.long), 2)
    assert pack(tmp_path / "x", [own]) < pixels.numel() / 100


@pytest.mark.parametrize("place", [0, 40, -20])
def test_a_damaged_file_is_refused(place: int, tmp_path: Path) -> None:
    path = tmp_path / "x"
    pack(path, [images("train", 30)])
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="a whole file of packed images"):
        unpack(path, "train")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    pack(path, [images("train", 30)])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"Make it anew"):
        unpack(path, "train")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        unpack(tmp_path / "none", "train")


def test_other_images_are_refused(tmp_path: Path) -> None:
    gray = ImageSet("gray", "train", torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), 2)
    with pytest.raises(DataError, match="8-bit images with 3 channels"):
        pack(tmp_path / "x", [gray])
    assert not (tmp_path / "x").exists()


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    pack(tmp_path / "x", [images("train", 3)])
    with pytest.raises(DataError, match="expected split test; got train"):
        unpack(tmp_path / "x", "test")

"""Small images of a user's own: the digits as arrays, as vectors, and as folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from verify_pipeline.data import load

SETTINGS = """
  network: {name: mlp, width: 0.1}
  loss: {name: ibp}
  epsilon: {target: 1/32, start: 1, length: 1}
  optimiser: {epochs: 2, milestones: [], batch: 32, learning_rate: 0.005}
certify: {indices: ":6", stages: [clean, ibp, attack]}
"""
ARRAYS = "{train: {images: x.npy, labels: y.npy}, test: {images: test-x.npy, labels: test-y.npy}}"

TRAIN, TEST, CLASSES = 120, 12, 3

Pixels = NDArray[np.uint8]


def digits(split: str) -> tuple[Pixels, NDArray[np.int64]]:
    """The first images of zeros, ones and twos: ``N x 1 x 8 x 8`` and ``N``."""
    found = load("digits", "train" if split == "train" else "test")
    few = found.subset(found.labels < CLASSES)
    count = TRAIN if split == "train" else TEST
    return few.images[:count].numpy(), few.labels[:count].numpy()


def write_arrays(folder: Path) -> None:
    """``x.npy``, ``y.npy``, ``test-x.npy``, ``test-y.npy``."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, prefix in (("train", ""), ("test", "test-")):
        images, labels = digits(split)
        np.save(folder / f"{prefix}x.npy", images)
        np.save(folder / f"{prefix}y.npy", labels)


def write_folders(folder: Path, test: str = "test") -> None:
    """``train`` and ``test``, each with the folders ``one``, ``two`` and ``zero``."""
    names = ("zero", "one", "two")
    for split in ("train", test):
        for place, (image, label) in enumerate(zip(*digits(split), strict=True)):
            inside = folder / split / names[label]
            inside.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(inside / f"{place:03d}.png")


def write_recipe(path: Path, data: str, settings: str = SETTINGS) -> Path:
    """A recipe with these data settings, in YAML's flow style."""
    path.write_text(f"train:\n  data: {data}{settings}", encoding="utf-8")
    return path

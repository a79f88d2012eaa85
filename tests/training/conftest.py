"""Small trainings: 8×8 images whose class is the brighter half."""

from typing import Any

import pytest
import torch

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.training.settings import TrainSettings


@pytest.fixture(scope="session")
def info() -> DataSetInfo:
    return DataSetInfo("halves", (1, 8, 8), 2, (0.4,), (0.3,))


@pytest.fixture(scope="session")
def images() -> ImageSet:
    return halves()


def halves() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (96,), generator=generator)
    pixels = torch.rand(96, 1, 8, 8, generator=generator) * 0.4
    pixels[labels == 0, :, :, :4] += 0.5
    pixels[labels == 1, :, :, 4:] += 0.5
    return ImageSet("halves", "train", (pixels * 255).to(torch.uint8), labels, 2)


def settings(kind: str = "cc-ibp", alpha: float = 0.5, **changes: Any) -> TrainSettings:
    base: dict[str, Any] = {
        "data": {"name": "halves"},
        "network": {"name": "conv-small", "width": 0.25},
        "loss": {"name": kind, "alpha": alpha},
        "epsilon": {"target": 0.1, "length": 2},
        "optimiser": {"epochs": 4, "batch": 32, "milestones": [3], "learning_rate": 5e-3},
    }
    return TrainSettings(**{**base, **changes})

"""How large everything is that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from stepping.subject import StepSize

from verify_pipeline.training.settings import AttackSettings, LossName

RECIPE = "cifar10-2-255-cnn7-mtl-ibp"
CNN7_STEP = StepSize()


@dataclass(frozen=True)
class Sizes:
    """The numbers of all parts.

    Attributes:
        step: of the steps that are measured; its batch is replaced by each of ``batches``.
        batches: images in a step.
        losses: whose steps are measured, the most wanted first.
        warm_ups: steps before the clock is looked at.
        repeats: steps that are measured.
        backend: of ``torch.compile``.
        overrides: of the recipe that is trained.
        train_images: of the packed ones, at most.
        test_images: that are certified, at most.
        test_files: whose tests are run on CUDA; empty: all that ask for a device.
    """

    step: StepSize = CNN7_STEP
    batches: tuple[int, ...] = (128, 512)
    losses: tuple[LossName, ...] = (
        "mtl-ibp",
        *(name for name in get_args(LossName) if name != "mtl-ibp"),
    )
    warm_ups: int = 3
    repeats: int = 7
    backend: str = "inductor"
    overrides: Mapping[str, str] = field(default_factory=dict)
    train_images: int = 50_000
    test_images: int = 200
    test_files: tuple[str, ...] = ()


FULL = Sizes()

SMALL = Sizes(
    step=replace(CNN7_STEP, width=0.05, attack=AttackSettings(steps=2, step_size=0.5)),
    batches=(2, 4),
    losses=("mtl-ibp", "natural"),
    warm_ups=1,
    repeats=2,
    backend="eager",
    overrides={
        "train.network.width": "0.05",
        "train.attack.steps": "2",
        "train.optimiser.batch": "16",
    },
    train_images=64,
    test_images=8,
    test_files=("tests/data/test_image_set.py",),
)
"""For a dry run on a CPU, in seconds."""

"""The composition root: train → export → certify → tabulate, in a folder that holds it all.

Everything here takes and returns objects; the command line adds arguments and messages. A call that
was interrupted continues when it is made again with the same arguments.
"""

from __future__ import annotations

from pathlib import Path

import torch

from verify_pipeline import data, training
from verify_pipeline.config import Recipe
from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.training import Trained, TrainObserver, TrainSettings


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto``: CUDA if there is one, else the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r}",
            expected="auto, cpu, or a CUDA device that torch sees",
            got=str(error).splitlines()[0],
        ) from None
    return device


def train(
    settings: TrainSettings | Recipe,
    folder: Path | None = None,
    *,
    images: ImageSet | None = None,
    info: DataSetInfo | None = None,
    data_root: Path | None = None,
    device: str = "auto",
    observer: TrainObserver | None = None,
) -> Trained:
    """Train a network.

    Args:
        settings: of the training, or a recipe that has them.
        folder: for the checkpoint and metrics; a training begun there is continued. None: keep
            nothing.
        images: to train on; None: the training split of the data set that the settings name.
        info: of the images, where they are not of a known data set.
        data_root: where the data set is looked for.
        device: ``auto``, ``cpu``, ``cuda``, …
        observer: is told of steps and epochs.

    Raises:
        VerifyPipelineError: a setting, the data or the folder is not as it must be.
    """
    settings = settings.train if isinstance(settings, Recipe) else settings
    place = choose_device(device)
    info = data.info(settings.data.name) if info is None else info
    if images is None:
        images = data.load(settings.data.name, "train", data_root)
    return training.train(settings, images, info, folder, observer=observer, device=place)

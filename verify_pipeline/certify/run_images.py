"""The images of a ledger's run, found again by the name and the split that the run has."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import torch
from torch import Tensor

from verify_pipeline import data
from verify_pipeline.certify.records import Record, Run, instance_digest
from verify_pipeline.data import BoxSet, ImageSet, Split
from verify_pipeline.errors import DataError


def images_of(
    run: Run,
    data_root: Path | None,
    given: ImageSet | BoxSet | None = None,
    download: bool = True,
) -> ImageSet | BoxSet | None:
    """The images of a run: those given if they are called so, else a data set's; None: unknown.

    Args:
        run: as the ledger has it.
        data_root: where data sets are looked for.
        given: images that the caller has.
        download: whether what is missing may be downloaded.

    Raises:
        DataError: the data set's files are missing or damaged.
    """
    if given is not None and (given.name, given.split) == (run.data_set, run.split):
        return given
    if data.knows(run.data_set) and run.split in get_args(Split):
        return data.load(run.data_set, cast("Split", run.split), data_root, download)
    return None


def pixels_of(record: Record, images: ImageSet) -> Tensor:
    """The pixels ``*X`` of the image that a row is about, as the network took them.

    Raises:
        DataError: the set has no such image, or another one at that place.
    """
    where = f"image {record.index} of {images.name} {images.split}"
    if record.index >= len(images):
        raise DataError(where, expected=f"an image from 0 to {len(images) - 1}", got="none")
    place = torch.tensor([record.index])
    label = images.labels[place].cpu()
    for dtype in (torch.float32, torch.float64):
        pixels = images.pixels(place, dtype).cpu()
        if instance_digest(pixels, label) == record.instance:
            return pixels[0]
    raise DataError(
        where,
        expected="the image and label that were certified",
        got="others at that place",
        remedy="Name the data that was certified.",
    )

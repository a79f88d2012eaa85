"""The data sets by name.

To add one: write a module with its :class:`DataSetInfo` and a function ``read(split, store)``,
and list both in ``_READERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from verify_pipeline.data import cifar10, digits, idx, imagenet64, tinyimagenet
from verify_pipeline.data.files import Store, open_store
from verify_pipeline.data.sets import DataSetInfo, ImageSet, Split
from verify_pipeline.errors import ConfigError

Reader = Callable[[Split, Store], ImageSet]

_READERS: dict[str, tuple[DataSetInfo, Reader]] = {
    info.name: (info, read)
    for info, read in (
        (digits.INFO, digits.read),
        (idx.MNIST.info, idx.MNIST.read),
        (idx.FASHION_MNIST.info, idx.FASHION_MNIST.read),
        (cifar10.INFO, cifar10.read),
        (tinyimagenet.INFO, tinyimagenet.read),
        (imagenet64.INFO, imagenet64.read),
    )
}


def names() -> tuple[str, ...]:
    """The data sets that :func:`load` knows."""
    return tuple(_READERS)


def info(name: str) -> DataSetInfo:
    """What is known of a data set without reading it.

    Raises:
        ConfigError: no data set has this name.
    """
    return _entry(name)[0]


def load(
    name: str, split: Split = "train", root: Path | None = None, download: bool = True
) -> ImageSet:
    """Read one split of a data set, whole.

    Args:
        name: one of :func:`names`.
        split: ``train`` or ``test``.
        root: the data root; None: the environment variable ``VERIFY_PIPELINE_DATA`` if it is set.
            What is not there is looked for in the per-user cache.
        download: whether what is missing may be downloaded into that cache.

    Returns:
        uint8 images ``N x C x H x W``, in the order of the published files.

    Raises:
        ConfigError: no data set or split has this name.
        DataError: a file is missing, cannot be downloaded, or is damaged.
        DependencyError: a package that this data set needs is not installed.
    """
    read = _entry(name)[1]
    if split not in get_args(Split):
        raise ConfigError("split", expected=" or ".join(get_args(Split)), got=repr(split))
    return read(split, open_store(root, download))


def _entry(name: str) -> tuple[DataSetInfo, Reader]:
    if name not in _READERS:
        raise ConfigError("data set", expected="one of " + ", ".join(_READERS), got=repr(name))
    return _READERS[name]

"""The data sets by name.

To add one: write a module with its :class:`DataSetInfo` and a function ``read(split, store)``,
and list both in ``_READERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

from verify_pipeline.data import cifar10, digits, gtsrb, idx, imagenet64, svhn, tinyimagenet
from verify_pipeline.data.files import Store, open_store
from verify_pipeline.data.sets import ClassOrder, DataSetInfo, ImageSet, Split
from verify_pipeline.errors import ConfigError

Reader = Callable[[Split, Store], ImageSet]

_READERS: dict[str, tuple[DataSetInfo, Reader]] = {
    info.name: (info, read)
    for info, read in (
        (digits.INFO, digits.read),
        (idx.MNIST.info, idx.MNIST.read),
        (idx.FASHION_MNIST.info, idx.FASHION_MNIST.read),
        (cifar10.INFO, cifar10.read),
        (svhn.INFO, svhn.read),
        (gtsrb.INFO, gtsrb.read),
        (tinyimagenet.INFO, tinyimagenet.read),
        (imagenet64.INFO, imagenet64.read),
    )
}


@dataclass(frozen=True)
class _TwoOrders:
    """Of a set whose classes are numbered in two ways: the usual one, the other, and the reader."""

    usual: ClassOrder
    other: ClassOrder
    read: Callable[[Split, Store, ClassOrder], ImageSet]


_REORDERED = {
    tinyimagenet.INFO.name: _TwoOrders(tinyimagenet.CLASS_ORDER, "published", tinyimagenet.read),
    imagenet64.INFO.name: _TwoOrders(imagenet64.CLASS_ORDER, "sorted", imagenet64.read),
}


def names() -> tuple[str, ...]:
    """The data sets that :func:`load` knows, each in its usual class order."""
    return tuple(_READERS)


def knows(name: str) -> bool:
    """Whether :func:`load` takes this name, one of :func:`names` or with a class order behind."""
    base, _, order = name.partition(":")
    return name in _READERS or (base in _REORDERED and order == _REORDERED[base].other)


def class_order(name: str) -> ClassOrder | None:
    """How a data set's classes are numbered, where there are two ways; None: there is one."""
    base, _, order = name.partition(":")
    if base not in _REORDERED:
        return None
    return _REORDERED[base].other if order else _REORDERED[base].usual


def with_class_order(name: str, order: str | None) -> str:
    """A data set's name with its classes in this order, for :func:`load`, ledgers and tables.

    Other labels are another set: ``imagenet64`` is as published, ``imagenet64:sorted`` is not.

    Args:
        name: of a data set, whatever its order.
        order: a :data:`ClassOrder`; None: as the name says.

    Raises:
        ConfigError: this data set has one order of classes only, or not this one.
    """
    base = name.partition(":")[0]
    if order is None:
        return name
    if base not in _REORDERED:
        raise ConfigError(
            f"class order of {name}",
            expected=f"a data set with several orders, {' or '.join(_REORDERED)}",
            got=repr(order),
            remedy="Leave it out.",
        )
    if order not in get_args(ClassOrder):
        raise ConfigError(
            f"class order of {name}",
            expected=" or ".join(get_args(ClassOrder)),
            got=repr(order),
        )
    return base if order == _REORDERED[base].usual else f"{base}:{order}"


def info(name: str) -> DataSetInfo:
    """What is known of a data set without reading it.

    Raises:
        ConfigError: no data set has this name.
    """
    return _entry(name)[0]


def load(
    name: str,
    split: Split = "train",
    root: Path | str | None = None,
    download: bool = True,
    class_order: ClassOrder | None = None,
) -> ImageSet:
    """Read one split of a data set, whole.

    Args:
        name: one of :func:`names`.
        split: ``train`` or ``test``.
        root: the data root; None: the environment variable ``VERIFY_PIPELINE_DATA`` if it is set.
            What is not there is looked for in the per-user cache.
        download: whether what is missing may be downloaded into that cache.
        class_order: of the classes; None: the set's usual one. The set's name says it.

    Returns:
        uint8 images ``N x C x H x W``, in the order of the published files.

    Raises:
        ConfigError: no data set or split has this name.
        DataError: a file is missing, cannot be downloaded, or is damaged.
        DependencyError: a package that this data set needs is not installed.
    """
    read = _entry(with_class_order(name, class_order))[1]
    if split not in get_args(Split):
        raise ConfigError("split", expected=" or ".join(get_args(Split)), got=repr(split))
    return read(split, open_store(None if root is None else Path(root), download))


def _entry(name: str) -> tuple[DataSetInfo, Reader]:
    if name in _READERS:
        return _READERS[name]
    if not knows(name):
        raise ConfigError("data set", expected="one of " + ", ".join(_READERS), got=repr(name))
    return replace(info(name.partition(":")[0]), name=name), partial(_reordered, name)


def _reordered(name: str, split: Split, store: Store) -> ImageSet:
    """A set in the order that is not its usual one, under its full name."""
    base, _, _ = name.partition(":")
    both = _REORDERED[base]
    return replace(both.read(split, store, both.other), name=name)

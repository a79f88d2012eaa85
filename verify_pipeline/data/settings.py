"""Which images a recipe is about: a known data set by name, or files of the user's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from verify_pipeline.data import registry
from verify_pipeline.data.sets import Augmentation, ClassOrder, DataSetInfo, ImageSet, Split
from verify_pipeline.data.user_files import ArrayFiles, ClassFolders
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.settings import STRICT, Count, Number, Positive, PositiveCount, Switch, Text


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _not_known(name: str) -> str:
    if registry.knows(name):
        raise ValueError(
            f"expected a name of its own beside files of its own; got {name!r}, a known data set"
        )
    return name


FilePath = Annotated[Text, AfterValidator(_absolute)]
"""A path, made absolute; a relative one counts from the working directory."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataSettings:
    """Which known data set is trained on.

    Attributes:
        name: of a data set.
        class_order: of its classes, ``sorted`` or ``published``, where it has both; None: its usual
            one.
        validation: number of training images held out for validation (split by the seed).
        augment: whether the data set's standard augmentation is used.
    """

    name: Text
    class_order: ClassOrder | None = None
    validation: Count = 0
    augment: Switch = True

    def __post_init__(self) -> None:
        try:
            registry.with_class_order(self.name, self.class_order)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @property
    def full_name(self) -> str:
        """The data set with its class order, as ledgers have it."""
        return registry.with_class_order(self.name, self.class_order)

    def information(self) -> DataSetInfo:
        """What is known of the data set without reading it.

        Raises:
            ConfigError: no data set has this name.
        """
        return registry.info(self.full_name)

    def images(self, split: Split, root: Path | None = None, download: bool = True) -> ImageSet:
        """One split of the data set, see ``registry.load``.

        Raises:
            VerifyPipelineError: as there.
        """
        return registry.load(self.full_name, split, root, download)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ArraySplit:
    """A split in two ``.npy`` files.

    Attributes:
        images: ``N x C x H x W`` or ``N x D``: bytes 0..255, or floats in [0, 1].
        labels: ``N`` integers from 0 on.
    """

    images: FilePath
    labels: FilePath

    @property
    def name(self) -> str:
        """What the data set is called, if nothing else says it."""
        return Path(self.images).stem

    @property
    def files(self) -> ArrayFiles:
        """What reads it."""
        return ArrayFiles(Path(self.images), Path(self.labels))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FolderSplit:
    """A split as a folder of images, with a folder for each class.

    Attributes:
        folder: of the classes' folders.
    """

    folder: FilePath

    @property
    def name(self) -> str:
        """What the data set is called, if nothing else says it."""
        return Path(self.folder).name

    @property
    def files(self) -> ClassFolders:
        """What reads it."""
        return ClassFolders(Path(self.folder))


def _kind_of_split(value: Any) -> str:
    is_folder = "folder" in value if isinstance(value, Mapping) else isinstance(value, FolderSplit)
    return (FolderSplit if is_folder else ArraySplit).__name__


OwnSplit = Annotated[
    Annotated[ArraySplit, Tag("ArraySplit")] | Annotated[FolderSplit, Tag("FolderSplit")],
    Discriminator(_kind_of_split),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AugmentationSettings:
    """How own images are augmented in training, see :class:`Augmentation`.

    Attributes:
        flip: whether an image is mirrored with probability 1/2.
        padding: pixels added on each side before a window of the image's size is cut out.
        mode: what is added: ``edge`` repeats the border pixel, ``zero`` is black.
    """

    flip: Switch = False
    padding: Count = 0
    mode: Literal["edge", "zero"] = "zero"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OwnDataSettings:
    """Which files of the user's own are trained on, and tested on.

    Attributes:
        folder: with the folders ``train`` and ``test`` (or ``val``) in it; instead of the next two.
        train: the images to train on.
        test: the images to certify.
        name: in ledgers and tables; None: the folder's, or the training file's without its ending.
        classes: number of classes; None: as the training labels or folders say.
        class_names: one for each class; empty: the folders' names, or none.
        mean: per channel or one for all, of pixels in [0, 1]; the network subtracts it.
        std: likewise, > 0; the network then divides by it.
        augmentation: of the training images.
        size: height and width that images of folders are resized to; None: all have one size.
        validation: number of training images held out for validation (split by the seed).
        augment: whether the augmentation is used.

    Raises:
        ValueError: neither a folder nor both splits, splits of two kinds, or a name that a known
            data set has.
    """

    folder: FilePath | None = None
    train: OwnSplit | None = None
    test: OwnSplit | None = None
    name: Annotated[Text, AfterValidator(_not_known)] | None = None
    classes: Annotated[PositiveCount, Field(ge=2)] | None = None
    class_names: tuple[Text, ...] = ()
    mean: tuple[Number, ...] = (0.0,)
    std: tuple[Positive, ...] = (1.0,)
    augmentation: AugmentationSettings = AugmentationSettings()
    size: tuple[PositiveCount, PositiveCount] | None = None
    validation: Count = 0
    augment: Switch = True

    def __post_init__(self) -> None:
        given = [key for key in _PLACES if getattr(self, key) is not None]
        if given not in (["folder"], ["train", "test"]):
            raise ValueError(
                "expected train and test, or a folder that holds both; got "
                + (" and ".join(given) or "none of them")
            )
        if type(self.train) is not type(self.test):
            raise ValueError("expected train and test of one kind, arrays or folders; got both")
        if isinstance(self.train, ArraySplit) and self.size is not None:
            raise ValueError(f"size is for images of folders; got size {self.size} beside arrays")
        if registry.knows(self.full_name) or not self.full_name:
            raise ValueError(
                f"the files would name this data set {self.full_name!r}, "
                + ("which a known one is called" if self.full_name else "which is empty")
                + "; give it another name with the key name"
            )

    @property
    def full_name(self) -> str:
        """The data set's name, as ledgers have it."""
        if self.name is not None:
            return self.name
        return Path(self.folder).name if self.train is None else self.train.name  # type: ignore[arg-type]

    def information(self) -> DataSetInfo:
        """What the settings say, and what the training files say where the settings do not.

        Raises:
            DataError: the training files are missing or not as they must be, or do not fit the
                settings.
        """
        files = self._files("train")
        names = self.class_names or files.class_names()
        return DataSetInfo(
            self.full_name,
            files.shape(self.size),
            self.classes or len(names) or files.classes(),
            self.mean,
            self.std,
            Augmentation(**asdict(self.augmentation)),
            names,
        )

    def images(self, split: Split, root: Path | None = None, download: bool = True) -> ImageSet:
        """One split.

        Args:
            split: ``train`` or ``test``.
            root: not used, and no more is ``download``: the settings name the files.

        Raises:
            ConfigError: another word for the split.
            DataError: files are missing or not as they must be, or the test images do not fit the
                training images.
        """
        if split not in get_args(Split):
            raise ConfigError("split", expected=" or ".join(get_args(Split)), got=repr(split))
        info = self.information()
        names = self._files("train").class_names()
        found = self._files(split).read(info, names, self.size)
        images = replace(found, split=split, class_names=info.class_names)
        info.check_fits(images)
        return images

    def _files(self, split: Split) -> ArrayFiles | ClassFolders:
        chosen = self.train if split == "train" else self.test
        if chosen is not None:
            return chosen.files
        base, names = Path(self.folder or ""), _IN_FOLDER[split]
        found = next((base / name for name in names if (base / name).is_dir()), None)
        if found is None:
            raise DataError(
                str(base),
                expected=f"a folder with the folder {' or '.join(names)} in it",
                got="a folder without it" if base.is_dir() else "no such folder",
            )
        return ClassFolders(found)


_PLACES = ("folder", "train", "test")
_IN_FOLDER: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val")}
_ONLY_OWN = (*_PLACES, "classes", "class_names", "mean", "std", "augmentation", "size")


def is_own(value: Any) -> bool:
    """Whether data settings, or plain values of theirs, are about files of the user's own."""
    if isinstance(value, Mapping):
        return any(key in value for key in _ONLY_OWN)
    return isinstance(value, OwnDataSettings)


def _kind(value: Any) -> str:
    return (OwnDataSettings if is_own(value) else DataSettings).__name__


AnyDataSettings = Annotated[
    Annotated[DataSettings, Tag("DataSettings")]
    | Annotated[OwnDataSettings, Tag("OwnDataSettings")],
    Discriminator(_kind),
]
"""A known data set, or own images if there is a key that only these have."""

PATH_KEYS: tuple[tuple[str, ...], ...] = (
    ("folder",),
    *((split, key) for split in ("train", "test") for key in ("folder", "images", "labels")),
)
"""Keys of :class:`OwnDataSettings` that are paths."""


def deciding(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of data settings as plain values, what decides a training's result beside the images.

    Where own files lie, and what they and their classes are called, does not.
    """
    left_out = (*_PLACES, "name", "class_names") if is_own(data) else ()
    return {key: value for key, value in data.items() if key not in left_out}


def without_places(data: DataSettings | OwnDataSettings) -> dict[str, Any]:
    """Data settings as plain values for others to read: of paths, the last parts only."""
    plain = asdict(data)
    if isinstance(data, OwnDataSettings):
        plain["name"] = data.full_name
        for *inner, last in PATH_KEYS:
            holder = plain
            for part in inner:
                holder = holder[part] or {}
            if holder.get(last) is not None:
                holder[last] = Path(holder[last]).name
    return plain

"""A user's own files of one split: two arrays, or a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verify_pipeline.data.arrays import array_shape, from_arrays, read_classes
from verify_pipeline.data.folders import Size, class_names, image_shape, read_folder
from verify_pipeline.data.sets import DataSetInfo, ImageSet
from verify_pipeline.errors import DataError

_CHANNELS_LAST = (1, 3)


@dataclass(frozen=True)
class ArrayFiles:
    """Images and labels in ``.npy`` files.

    Attributes:
        images: path of ``N x C x H x W`` or ``N x D``.
        labels: path of ``N`` integers.
    """

    images: Path
    labels: Path

    def shape(self, size: Size | None) -> tuple[int, ...]:
        """Of one image, ``*X``; ``size`` is not used.

        Raises:
            DataError: there is no array, or it is none of images or vectors.
        """
        whole = array_shape(self.images)
        is_last = len(whole) == 4 and whole[3] in _CHANNELS_LAST and min(whole[1:3]) > 4
        if is_last:
            raise DataError(
                str(self.images),
                expected="N x C x H x W",
                got=f"{whole}, which looks like N x H x W x C",
                remedy="Save images.transpose(0, 3, 1, 2).",
            )
        if len(whole) not in (2, 4):
            raise DataError(
                str(self.images),
                expected="N x C x H x W or N x D",
                got=str(whole),
                remedy="Grey images need an axis of channels: save images[:, None].",
            )
        return whole[1:]

    def class_names(self) -> tuple[str, ...]:
        """None: arrays have numbers only."""
        return ()

    def classes(self) -> int:
        """One more than the greatest label.

        Raises:
            DataError: there are no labels, there is one class only, or a label is negative.
        """
        labels = read_classes(self.labels)
        if labels.numel() and int(labels.min()) < 0:
            raise DataError(
                str(self.labels), expected="integers from 0 on", got=str(int(labels.min()))
            )
        found = int(labels.max()) + 1 if labels.numel() else 0
        if found < 2:
            raise DataError(
                str(self.labels),
                expected="labels of at least 2 classes, integers from 0 on",
                got=f"{found} class" if found else "no label",
            )
        return found

    def read(self, info: DataSetInfo, names: Sequence[str], size: Size | None) -> ImageSet:
        """The images, with labels in ``[0, classes)``; ``names`` and ``size`` are not used.

        Raises:
            DataError: a file is missing, or what it holds is not as it must be.
        """
        self.shape(size)
        found = from_arrays(self.images, self.labels, info.classes, info.name, self.labels.name)
        if not len(found):
            raise DataError(str(self.images), expected="at least one image", got="none")
        return found


@dataclass(frozen=True)
class ClassFolders:
    """Images in a folder for each class.

    Attributes:
        folder: of these folders.
    """

    folder: Path

    def shape(self, size: Size | None) -> tuple[int, ...]:
        """``C x H x W``, see ``folders.image_shape``."""
        return image_shape(self.folder, size)

    def class_names(self) -> tuple[str, ...]:
        """The folders' names, see ``folders.class_names``."""
        return class_names(self.folder)

    def classes(self) -> int:
        """How many folders there are."""
        return len(self.class_names())

    def read(self, info: DataSetInfo, names: Sequence[str], size: Size | None) -> ImageSet:
        """The images; class k is the folder of the k-th name.

        Raises:
            DataError: see ``folders.read_folder``.
        """
        return read_folder(self.folder, names, info.name, self.folder.name, size)

"""GTSRB's traffic signs in its official layout, unpacked or as the published zips.

Stallkamp, Schlipsing, Salmen, Igel 2012, Man vs. computer, Neural Networks 32: 43 classes, of
photographs from 15 to 250 pixels wide. As in torchvision, the training images are the 26,640 of
``GTSRB-Training_fixed.zip``, and each image is taken whole, with the border of 10 % around its
sign; the annotated region of the sign is not cut out. Certified training does the same (CTRAIN
takes torchvision's set, at 30 x 30). Images are resized to 32 x 32, bilinear with antialiasing.
"""

from __future__ import annotations

import csv
import io
from contextlib import AbstractContextManager

import numpy as np
import torch
from PIL import Image

from verify_pipeline.data.archives import Files, open_folder, unreadable
from verify_pipeline.data.files import Remote, Store
from verify_pipeline.data.sets import Augmentation, DataSetInfo, ImageSet, Split
from verify_pipeline.errors import DataError

INFO = DataSetInfo(
    "gtsrb",
    (3, 32, 32),
    43,
    mean=(0.3403, 0.3121, 0.3214),
    std=(0.2724, 0.2608, 0.2669),
    augmentation=Augmentation(flip=False, padding=2, mode="edge"),
)

SUBFOLDERS = ("gtsrb", "gtsrb/GTSRB", "GTSRB", ".")
_ARCHIVES = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
TRAIN = Remote(f"{_ARCHIVES}/GTSRB-Training_fixed.zip", "513f3c79a4c5141765e10e952eaa2478")
TEST = Remote(f"{_ARCHIVES}/GTSRB_Final_Test_Images.zip", "c7e4e6327067d32654124b0fe9e82185")
LABELS = Remote(f"{_ARCHIVES}/GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5")

_TRAIN_FOLDER, _TEST_FOLDER, _LABELS_FILE = "Training", "Final_Test/Images", "GT-final_test.csv"
_FIRST_TRAIN, _FIRST_TEST = f"{_TRAIN_FOLDER}/00000/00000_00000.ppm", f"{_TEST_FOLDER}/00000.ppm"

Listed = list[tuple[str, int]]
"""Names of images with their labels."""


def read(split: Split, store: Store) -> ImageSet:
    """One split, ``N x 3 x 32 x 32`` uint8.

    Training images come class by class, in the order of their names; test images in the order of
    the file of labels.

    Raises:
        DataError: a file is missing or damaged, or a label is no class.
    """
    if split == "train":
        with _opened(store, _TRAIN_FOLDER, _FIRST_TRAIN, TRAIN) as files:
            return _image_set(split, files, _training(files))
    listed = _labels(store)
    with _opened(store, _TEST_FOLDER, _FIRST_TEST, TEST) as files:
        return _image_set(split, files, listed)


def _opened(store: Store, folder: str, first: str, remote: Remote) -> AbstractContextManager[Files]:
    """The files of a folder that holds a first image, or of the archive."""
    path = store.obtain("GTSRB", SUBFOLDERS, (first, remote.name), remote)
    return open_folder(path if path.suffix == ".zip" else path.parents[first.count("/")], folder)


def _image_set(split: Split, files: Files, listed: Listed) -> ImageSet:
    images = torch.stack([_decoded(files, name) for name, _ in listed])
    labels = torch.tensor([label for _, label in listed])
    return ImageSet(INFO.name, split, images, labels, INFO.classes)


def _training(files: Files) -> Listed:
    listed: Listed = []
    for label in range(INFO.classes):
        folder = f"{label:05d}"
        names = [name for name in files.names(folder) if name.endswith(".ppm")]
        if not names:
            raise DataError(
                str(files.place / folder), expected="the training images of a class", got="none"
            )
        listed += [(f"{folder}/{name}", label) for name in names]
    return listed


def _labels(store: Store) -> Listed:
    """The test images and their labels, which have a zip of their own."""
    names = (_LABELS_FILE, LABELS.name)
    path = store.obtain("GTSRB (test labels)", SUBFOLDERS, names, LABELS)
    with open_folder(path if path.suffix == ".zip" else path.parent, "") as files:
        try:
            text = files.read(_LABELS_FILE).decode("ascii")
        except UnicodeDecodeError as error:
            raise unreadable(path, error) from error
    listed = []
    for number, row in enumerate(csv.DictReader(io.StringIO(text), delimiter=";"), 2):
        name, label = row.get("Filename"), row.get("ClassId") or ""
        if not name or not label.isdecimal() or int(label) >= INFO.classes:
            raise DataError(
                f"{path}, line {number} of {_LABELS_FILE}",
                expected=f"a Filename and a ClassId from 0 to {INFO.classes - 1}",
                got=repr(dict(row)),
            )
        listed.append((name, int(label)))
    if not listed:
        raise DataError(str(path), expected=f"labels in {_LABELS_FILE}", got="none")
    return listed


def _decoded(files: Files, name: str) -> torch.Tensor:
    """One image, ``3 x 32 x 32`` uint8."""
    height, width = INFO.shape[1:]
    content = files.read(name)
    try:
        with Image.open(io.BytesIO(content)) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError) as error:
        raise unreadable(files.place / name, error) from error
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)

"""Data sets: whole sets of images as tensors, checked; downloads; augmentation."""

from verify_pipeline.data.arrays import from_arrays
from verify_pipeline.data.augmentation import augment
from verify_pipeline.data.registry import info, load, names
from verify_pipeline.data.sets import (
    Augmentation,
    DataSetInfo,
    ImageSet,
    Split,
    split_validation,
)

__all__ = [
    "Augmentation",
    "DataSetInfo",
    "ImageSet",
    "Split",
    "augment",
    "from_arrays",
    "info",
    "load",
    "names",
    "split_validation",
]

"""Data sets: whole sets of images as tensors, checked; downloads; augmentation.

What a data root may hold (each set also in the folders that torchvision or an unpacked archive
make: see ``subfolders`` and ``SUBFOLDERS`` in the modules)::

    mnist/          train-images-idx3-ubyte[.gz] and the three others
    fashionmnist/   the same four names
    cifar10/        data_batch_1 … test_batch, or the same with .bin, or either published .tar.gz
    svhn/           train_32x32.mat, test_32x32.mat
    gtsrb/          GTSRB/Training/, GTSRB/Final_Test/Images/ and GT-final_test.csv, or the three
                    published zips
    tinyimagenet/   wnids.txt, train/, val/, or the published .zip
    imagenet64/     train_data_batch_1.npz … train_data_batch_10.npz, val_data.npz

What is missing is downloaded to a per-user cache with the same folders (not ImageNet64, which asks
for a registration); ``digits`` needs scikit-learn and no files, ``svhn`` needs scipy.
"""

from verify_pipeline.data.arrays import (
    boxes_from_arrays,
    from_arrays,
    read_classes,
    read_numbers,
)
from verify_pipeline.data.augmentation import augment
from verify_pipeline.data.box_sets import BoxSet
from verify_pipeline.data.datasets import images_of_dataset
from verify_pipeline.data.registry import (
    class_order,
    info,
    knows,
    load,
    names,
    with_class_order,
)
from verify_pipeline.data.sets import (
    IMAGE_AXES,
    Augmentation,
    ClassOrder,
    DataSetInfo,
    ImageSet,
    Split,
    split_validation,
)
from verify_pipeline.data.settings import (
    PATH_KEYS,
    AnyDataSettings,
    DataSettings,
    OwnDataSettings,
    deciding,
    is_own,
    without_places,
)

__all__ = [
    "IMAGE_AXES",
    "PATH_KEYS",
    "AnyDataSettings",
    "Augmentation",
    "BoxSet",
    "ClassOrder",
    "DataSetInfo",
    "DataSettings",
    "ImageSet",
    "OwnDataSettings",
    "Split",
    "augment",
    "boxes_from_arrays",
    "class_order",
    "deciding",
    "from_arrays",
    "images_of_dataset",
    "info",
    "is_own",
    "knows",
    "load",
    "names",
    "read_classes",
    "read_numbers",
    "split_validation",
    "with_class_order",
    "without_places",
]

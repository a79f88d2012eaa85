"""Sets of images: their checks, pixels, subsets and validation split."""

import numpy as np
import pytest
import torch

from verify_pipeline.data import ImageSet, split_validation
from verify_pipeline.errors import DataError


def make(images: torch.Tensor, labels: list[int], classes: int = 10) -> ImageSet:
    return ImageSet("toy", "test", images, torch.tensor(labels), classes)


def test_pixels_are_exactly_the_bytes_over_255() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    pixels = make(images, [0, 1, 2, 3]).pixels()
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    assert pixels.dtype == torch.float32
    assert pixels.flatten().tolist() == expected.tolist()
    assert pixels.min() == 0
    assert pixels.max() == 1


def test_pixels_of_an_index_are_those_images() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    whole = make(images, [0] * 5)
    assert torch.equal(whole.pixels(torch.tensor([4, 1])), whole.pixels()[[4, 1]])
    assert torch.equal(whole.pixels(slice(1, 3)), whole.pixels()[1:3])


def test_float_pixels_stay_as_they_are() -> None:
    images = torch.rand(2, 7)
    assert torch.equal(make(images, [0, 1]).pixels(), images)


def test_subset_keeps_images_and_labels_together(device: torch.device) -> None:
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1)
    part = make(images, [0, 1, 2, 3, 4, 5]).to(device).subset(torch.tensor([5, 0, 3]))
    assert len(part) == 3
    assert part.images.flatten().tolist() == part.labels.tolist() == [5, 0, 3]
    assert part.images.device.type == device.type


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (torch.rand(3, 4), [0, 1], 2, "N labels"),
        (torch.rand(3), [0, 1, 0], 2, "images N x"),
        (torch.rand(2, 4, dtype=torch.float16), [0, 1], 2, "float16"),
        (torch.tensor([[0.0, float("nan")]]), [0], 2, "nan"),
        (torch.tensor([[0.0, 1.5]]), [0], 2, "values from 0 to 1.5"),
        (torch.tensor([[-0.1, 1.0]]), [0], 2, "values from -0.1 to 1"),
        (torch.tensor([[0.0, float("inf")]]), [0], 2, "inf"),
        (torch.rand(3, 4), [0, 1, 2], 2, "got 2 at image 2"),
        (torch.rand(3, 4), [0, -1, 1], 2, "got -1 at image 1"),
    ],
)
def test_impossible_values_are_refused(
    images: torch.Tensor, labels: list[int], classes: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make(images, labels, classes)


def test_labels_that_are_not_int64_are_refused() -> None:
    with pytest.raises(DataError, match="int64 labels"):
        ImageSet("toy", "test", torch.rand(2, 3), torch.tensor([0.0, 1.0]), 2)


def test_validation_split_is_a_seeded_partition() -> None:
    whole = make(torch.arange(50, dtype=torch.uint8).reshape(50, 1), [0] * 50)
    training, validation = split_validation(whole, 12, seed=3)
    assert (len(training), len(validation)) == (38, 12)
    both = torch.cat([training.images, validation.images]).flatten().sort().values
    assert both.tolist() == list(range(50))
    again = split_validation(whole, 12, seed=3)[1]
    other = split_validation(whole, 12, seed=4)[1]
    assert torch.equal(again.images, validation.images)
    assert not torch.equal(other.images, validation.images)


def test_no_validation_leaves_the_set_as_it_is() -> None:
    whole = make(torch.rand(5, 2), [0] * 5)
    training, validation = split_validation(whole, 0, seed=0)
    assert torch.equal(training.images, whole.images)
    assert len(validation) == 0


@pytest.mark.parametrize("count", [-1, 5, 6])
def test_validation_must_leave_images_to_train_on(count: int) -> None:
    with pytest.raises(DataError, match="from 0 to 4"):
        split_validation(make(torch.rand(5, 2), [0] * 5), count, seed=0)

"""Pictures of images: values by hand, one and three channels, and shapes that cannot be shown."""

import numpy as np
import pytest
import torch

from verify_pipeline.errors import DataError
from verify_pipeline.reporting.pictures import pictures_of


def test_one_channel_is_grey() -> None:
    image = torch.tensor([[[0.0, 0.5], [1.0, 0.25]]])
    found = pictures_of(image)
    assert found.image.tolist() == [[0, 128], [255, 64]]
    assert found.image.dtype == np.uint8
    assert found.adversarial is None
    assert found.difference is None


def test_three_channels_are_colours() -> None:
    image = torch.zeros(3, 2, 4)
    image[0, 0, 1], image[2, 1, 3] = 1.0, 0.2
    shown = pictures_of(image).image
    assert shown.shape == (2, 4, 3)
    assert shown[0, 1].tolist() == [255, 0, 0]
    assert shown[1, 3].tolist() == [0, 0, 51]
    last = image.permute(1, 2, 0)
    assert np.array_equal(pictures_of(last).image, shown)


def test_the_largest_change_is_white_or_black() -> None:
    image = torch.tensor([[[0.5, 0.5, 0.5, 0.5]]], dtype=torch.float64)
    changed = torch.tensor([[[0.6, 0.4, 0.55, 0.5]]], dtype=torch.float64)
    found = pictures_of(image, changed)
    assert found.difference is not None
    assert found.difference.tolist() == [[255, 0, 191, 128]]
    assert found.factor == pytest.approx(10)
    assert found.adversarial is not None
    assert found.adversarial.tolist() == [[153, 102, 140, 128]]


def test_where_nothing_changed_the_difference_is_grey() -> None:
    image = torch.rand(3, 2, 2)
    found = pictures_of(image, image)
    assert found.difference is not None
    assert set(found.difference.flatten().tolist()) == {128}
    assert found.factor == 1.0


def test_an_image_without_channels() -> None:
    assert pictures_of(torch.ones(5, 7)).image.shape == (5, 7)
    assert pictures_of(torch.ones(5, 7, 1)).image.shape == (5, 7)


@pytest.mark.parametrize("shape", [(784,), (2, 5, 7), (1, 1, 5, 7), (4, 4, 4), (1, 0, 4)])
def test_other_shapes_are_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="expected shape C x H x W with 1 or 3 channels") as told:
        pictures_of(torch.zeros(shape))
    assert str(shape) in str(told.value)


def test_shapes_have_to_agree() -> None:
    with pytest.raises(DataError, match="the image's shape"):
        pictures_of(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))

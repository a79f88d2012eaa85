"""Networks that are right no more often than by guessing: the user is told what to check."""

import pytest
import torch

from tests.onnx_networks import layers_file
from verify_pipeline import api
from verify_pipeline.certify.chance import is_like_guessing, remarks_on
from verify_pipeline.certify.preprocessing import Preprocessing
from verify_pipeline.onnx import network_from_bytes


@pytest.mark.parametrize(
    ("right", "images", "classes", "expected"),
    [
        # two fair coins: 3/4 have one head or more, 1/4 two
        (2, 2, 2, True),
        # P(X >= 7 of 7) = 1/128 < 0.01 <= P(X >= 6 of 7) = 8/128
        (7, 7, 2, False),
        (6, 7, 2, True),
        # one of 200 and none of 200, among 200 classes
        (1, 200, 200, True),
        (0, 200, 200, True),
        # 20 % of 50 among 1000
        (10, 50, 1000, False),
        (0, 50, 1000, True),
        # a large set: mean 1000, deviation 30
        (1000, 10_000, 10, True),
        (1100, 10_000, 10, False),
        (9000, 10_000, 10, False),
    ],
)
def test_like_guessing(right: int, images: int, classes: int, expected: bool) -> None:
    assert is_like_guessing(right, images, classes) is expected


def test_the_remark_names_what_to_check() -> None:
    (told,) = remarks_on(1, 200, 200, "tinyimagenet", Preprocessing())
    assert told.startswith("1 of 200 images are classified rightly, no more than by guessing among")
    assert "(it is sorted; --class-order published)" in told
    assert "--class-order published) and whether the network" in told
    assert "--mean and --std" in told
    (other,) = remarks_on(1, 200, 1000, "imagenet64", Preprocessing())
    assert "(it is published; --class-order sorted)" in other
    given = Preprocessing(mean=(0.5,), std=(0.25,))
    (plain,) = remarks_on(5, 60, 10, "cifar10", given)
    assert "class-order" not in plain
    assert "of this network and the normalisation of" in plain
    assert "--mean" not in plain
    assert given.name in plain


def test_nothing_is_said_of_few_images_or_of_good_networks() -> None:
    assert remarks_on(0, 49, 10, "cifar10", Preprocessing()) == ()
    assert remarks_on(30, 60, 10, "cifar10", Preprocessing()) == ()


def certified(shift: float, specification: api.Margins | api.TopK) -> api.Summary:
    """Of a network that is right where the one pixel is above ``shift``, on 60 bright images."""
    layers = layers_file(("n", 1, 1, 1), "Flatten", ([[1], [0]], [-shift, 0]))
    pixels = torch.linspace(0.6, 0.9, 60).view(60, 1, 1, 1)
    images = api.ImageSet("bright", "test", pixels, torch.zeros(60, dtype=torch.int64), 2)
    settings = api.CertifySettings(epsilon=0.01, stages=("clean", "ibp"))
    network = network_from_bytes(layers)
    return api.certify(
        network, images, settings, question=api.Question(specification=specification)
    )


def test_a_summary_carries_the_remark() -> None:
    assert certified(0.5, api.Margins()).remarks == ()
    summary = certified(2.0, api.Margins())
    assert summary.tally.right == 0
    assert "0 of 60 images" in summary.remarks[0]

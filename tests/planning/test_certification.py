"""A forecast of a certification with its real stages: it ends in time, and decides as they do."""

import time

import pytest
import torch
from torch import nn

from verify_pipeline import pipeline
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.planning.certification import forecast
from verify_pipeline.reporting.certification_state import outcome

STAGES = ("clean", "crown", "branch-and-bound")
IMAGES = 60


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Random weights: some images are searched for minutes at ε = 0.1."""
    torch.manual_seed(0)
    first, second, last = nn.Linear(30, 80), nn.Linear(80, 80), nn.Linear(80, 3)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), last).eval()


@pytest.fixture(scope="module")
def images(network: nn.Module) -> ImageSet:
    pixels = torch.rand(IMAGES, 1, 5, 6, generator=torch.Generator().manual_seed(1))
    return ImageSet("toy", "test", pixels, network(pixels).argmax(1), 3)


def test_hard_images_do_not_keep_it_from_ending(network: nn.Module, images: ImageSet) -> None:
    settings = CertifySettings(epsilon=0.1, stages=STAGES, timeout=600.0)
    began = time.perf_counter()
    found = forecast(network, images, settings, seconds=2.0)
    assert time.perf_counter() - began < 60
    assert found.measured is not None
    assert found.measured.open
    one = found.workers[0].seconds
    if one.high is not None:  # 20 images have been measured, also on a machine that is busy
        assert one.high > 600 > one.low
    assert found.conditions.start is None  # there is no file that a worker could read


def test_it_decides_as_the_certification_does(network: nn.Module, images: ImageSet) -> None:
    settings = CertifySettings(epsilon=0.02, stages=STAGES, timeout=600.0)
    found = forecast(network, images, settings, seconds=60.0)
    summary = pipeline.certify(network, images, settings)
    assert found.measured is not None
    assert len(found.measured.images) == IMAGES
    told = {each.index: each.verdict for each in found.measured.images}
    for record in summary.records:
        verdict = told[record.index]
        assert verdict is not None
        assert outcome(verdict) == outcome(record)
        assert [each.stage for each in verdict.stages] == [each.stage for each in record.stages]


def test_what_cannot_be_measured_is_refused(network: nn.Module, images: ImageSet) -> None:
    for settings, seconds in (
        (CertifySettings(epsilon=0.02, stages=("clean", "abcrown")), 1.0),
        (CertifySettings(epsilon=0.02, stages=STAGES), 0.0),
    ):
        with pytest.raises(ConfigError):
            forecast(network, images, settings, seconds=seconds)

"""What can be asked of outputs: by hand, against enumeration, and through every stage."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.onnx_networks import dense_network
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.certify.specifications import (
    MARGINS,
    LinearRows,
    OutputSpecification,
    Targeted,
    TopK,
)
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.onnx import Network
from verify_pipeline.problem import Box, Specification, Status

OUTPUTS = torch.tensor([[5.0, 4.0, 4.0, 1.0], [2.0, 3.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]]).double()
LABELS, PLACES = torch.tensor([0, 0, 1]), torch.arange(3)


def least(spec: OutputSpecification) -> list[float]:
    made = spec.of(LABELS, PLACES, 4)
    found: list[float] = made.least(made.values(OUTPUTS)).tolist()
    return found


def test_margins_by_hand() -> None:
    assert least(MARGINS) == [1.0, -1.0, 0.0]
    assert least(TopK(1)) == [1.0, -1.0, 0.0]
    assert least(TopK(2)) == [1.0, 1.0, 1.0]
    assert least(TopK(3)) == [4.0, 2.0, 1.0]
    assert least(Targeted(torch.tensor(3))) == [4.0, 2.0, 1.0]
    assert least(Targeted(torch.tensor([1, 1, 0]))) == [1.0, -1.0, 0.0]
    rows, offsets = torch.tensor([[1.0, 0.0, 0.0, -1.0], [0.0, 1.0, 0.0, 0.0]]), torch.zeros(2)
    assert least(LinearRows(rows, offsets)) == [4.0, 2.0, 1.0]
    each = LinearRows(rows.expand(3, 2, 4), torch.tensor([[0.0, -9.0], [0.0, 0.0], [7.0, 0.5]]))
    assert least(each) == [-5.0, 2.0, 1.5]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-3, 3), min_size=5, max_size=5), st.integers(0, 4), st.integers(1, 4))
def test_top_k_is_what_counting_says(values: list[int], label: int, k: int) -> None:
    reached = sum(v >= values[label] for j, v in enumerate(values) if j != label)
    spec = TopK(k).of(torch.tensor([label]), torch.tensor([0]), 5)
    rows = spec.values(torch.tensor([values]).double())
    assert bool(spec.least(rows) > 0) == (reached < k)
    conjunction = spec.without_spare(spec.kept_rows(rows))
    assert conjunction.rows.shape[1] == 5 - k
    assert bool((conjunction.values(torch.tensor([values]).double()) > 0).all()) == (reached < k)


def test_nan_in_any_row_decides_nothing() -> None:
    spec = TopK(2).of(torch.tensor([0]), torch.tensor([0]), 4)
    assert torch.isnan(spec.least(torch.tensor([[1.0, torch.nan, 2.0]]))).all()


@pytest.mark.parametrize(
    ("spec", "outputs", "message"),
    [
        (TopK(4), 4, "below the number of classes"),
        (Targeted(torch.tensor(4)), 4, "from 0 to 3"),
        (Targeted(torch.tensor([1, 2])), 4, "one for each of 3 images"),
        (LinearRows(torch.ones(2, 5), torch.zeros(2)), 4, "rows for 4 outputs"),
        (LinearRows(torch.ones(2, 1, 4), torch.zeros(2, 1)), 4, "and 3 images"),
    ],
)
def test_what_does_not_fit_is_refused(
    spec: OutputSpecification, outputs: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        spec.check_fits(3, outputs)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        TopK(0)
    with pytest.raises(DataError, match="rows S x K"):
        LinearRows(torch.ones(2, 3), torch.zeros(3))
    with pytest.raises(DataError, match="NaN"):
        LinearRows(torch.full((1, 3), torch.nan), torch.zeros(1))
    with pytest.raises(DataError, match="rows that may fail"):
        Specification(torch.zeros(1, 2, 3), torch.zeros(1, 2), spare=2)


@pytest.fixture(scope="module")
def network() -> Network:
    return dense_network(3, 3, 12, 5)


@pytest.fixture(scope="module")
def images(network: Network) -> ImageSet:
    """Labelled by the best, the second, third or fourth best output in turn."""
    pixels = torch.rand(24, 3, generator=torch.Generator().manual_seed(0))
    order = network.replay(pixels).topk(4).indices
    labels = order[torch.arange(24), torch.arange(24) % 4]
    return ImageSet("toy", "test", pixels, labels, 5)


def certified(network: Network, images: ImageSet, spec: OutputSpecification) -> Summary:
    chosen = CertifySettings(epsilon=0.15, timeout=60.0)
    return certify_set(network, images, chosen, question=Question(specification=spec))


def corners_and_grid(box: Box) -> Tensor:
    """Points of one box of three inputs."""
    sides = [torch.linspace(float(a), float(b), 9) for a, b in zip(*limits(box), strict=True)]
    return torch.cartesian_prod(*sides)


def limits(box: Box) -> tuple[list[float], list[float]]:
    return box.lower[0].tolist(), box.upper[0].tolist()


@pytest.mark.parametrize(
    "spec",
    [
        TopK(2),
        TopK(3),
        Targeted(torch.tensor(2)),
        LinearRows(torch.tensor([[1.0, -1.0, 0.5, 0.0, 0.0]]), torch.tensor([-0.55])),
    ],
    ids=lambda s: s.name[:8],
)
def test_no_sampled_point_denies_a_verdict(
    network: Network, images: ImageSet, spec: OutputSpecification
) -> None:
    found = certified(network, images, spec)
    kinds = {record.status for record in found.records}
    assert {Status.VERIFIED, Status.FALSIFIED} <= kinds
    for record in found.records:
        n = record.index
        box = Box.around(images.images[n : n + 1].double(), 0.15)
        points = corners_and_grid(box).double()
        one = spec.of(images.labels[n : n + 1], torch.tensor([n]), 5)
        here = replace(
            one,
            rows=one.rows.expand(len(points), -1, -1),
            offsets=one.offsets.expand(len(points), -1),
        )
        worst = here.least(here.values(network.graph(points))).min()
        if record.status is Status.VERIFIED:
            assert record.bound is not None
            assert worst >= record.bound
        if record.status is Status.FALSIFIED:
            assert record.margin is not None
            assert record.margin <= 0


def test_images_whose_label_is_their_target_are_left_out(
    network: Network, images: ImageSet
) -> None:
    target = int(images.labels[0])
    found = certified(network, images, Targeted(torch.tensor(target)))
    expected = (images.labels != target).nonzero().flatten().tolist()
    assert [record.index for record in found.records] == expected
    with pytest.raises(DataError, match="left out"):
        certified(network, images, Targeted(images.labels))


def test_more_places_are_never_harder(network: Network, images: ImageSet) -> None:
    verified = [
        {r.index for r in certified(network, images, TopK(k)).records if r.status.value == status}
        for k, status in itertools.product((1, 2, 3, 4), ("verified", "falsified"))
    ]
    for (proved, broken), (then_proved, then_broken) in itertools.pairwise(
        zip(verified[::2], verified[1::2], strict=True)
    ):
        assert not proved & then_broken
        assert not then_proved & broken & proved
        assert len(then_proved) >= len(proved)

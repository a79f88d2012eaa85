"""Boxes and inputs: ε by channel and pixel, given boxes, normalisation, order of the axes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline import reports
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.perturbations import ChannelBalls, LinfBall, Perturbation, PixelBalls
from verify_pipeline.certify.preprocessing import Layout, Preprocessing, prepare
from verify_pipeline.certify.questions import Question, ask, question_of
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.certify.specifications import LinearRows, TopK
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.onnx import Network, network_from_module
from verify_pipeline.problem import Status

SHAPE = (2, 3, 4)
MEAN, STD = (0.4914, 0.2), (0.247, 0.1)
CHEAP = CertifySettings(epsilon=0.01, timeout=60.0)


class Classifier(nn.Module):
    """Of ``N x C x H x W`` pixels, with or without its own normalisation, in either order."""

    def __init__(self, normalises: bool = False, last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
        self.normalises, self.last = normalises, last

    def forward(self, x: Tensor) -> Tensor:
        if self.last:
            x = x.permute(0, 3, 1, 2)
        if self.normalises:
            x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        y: Tensor = self.body(x)
        return y


def classifier(normalises: bool = False, last: bool = False) -> Network:
    shape = (3, 4, 2) if last else SHAPE
    return network_from_module(Classifier(normalises, last), shape)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = torch.rand(30, *SHAPE, generator=torch.Generator().manual_seed(1))
    labels = classifier(normalises=True).replay(pixels).argmax(1)
    return ImageSet("toy", "test", pixels, labels, 3)


def statuses(summary: Summary) -> list[Status]:
    return [record.status for record in summary.records]


def certified(network: Network, images: ImageSet | BoxSet, question: Question) -> Summary:
    return certify_set(network, images, CHEAP, question=question)


def test_normalising_outside_is_normalising_inside(images: ImageSet) -> None:
    outside = certified(classifier(), images, Question(preprocessing=Preprocessing(MEAN, STD)))
    inside = certified(classifier(normalises=True), images, Question())
    assert statuses(outside) == statuses(inside)
    assert {Status.VERIFIED, Status.FALSIFIED} <= set(statuses(inside))
    for one, other in zip(outside.records, inside.records, strict=True):
        if one.bound is not None and one.stage == other.stage == "ibp":
            assert one.bound == pytest.approx(other.bound, rel=1e-5)
    plain = certified(classifier(), images, Question())
    assert statuses(plain) != statuses(inside)
    assert "mean 0.4914,0.2 std 0.247,0.1" in outside.info.run.perturbation


def test_the_replay_is_the_float32_pipeline_and_the_graph_its_exact_form(images: ImageSet) -> None:
    network = classifier()
    made, words = prepare(network, Preprocessing(MEAN, STD), SHAPE)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    pixels = images.pixels()
    assert torch.equal(made.replay(pixels), network.replay((pixels - mean) / std))
    normalised = (pixels.double() - mean.double()) / std.double()
    expected = network.graph(normalised)
    assert torch.allclose(made.graph(pixels.double()), expected, rtol=0, atol=1e-12)
    assert words == "mean 0.4914,0.2 std 0.247,0.1"
    assert made.digest == network.digest


@pytest.mark.parametrize("layout", [None, "nhwc"])
def test_channels_last(images: ImageSet, layout: Layout | None) -> None:
    question = Question(preprocessing=Preprocessing(MEAN, STD, layout))
    last = certified(classifier(last=True), images, question)
    first = certified(classifier(), images, Question(preprocessing=Preprocessing(MEAN, STD)))
    assert statuses(last) == statuses(first)
    assert last.info.run.perturbation.endswith("layout nhwc")


def test_flat_vectors_need_a_word_where_there_are_channels(images: ImageSet) -> None:
    class Flat(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            shape = (3, 4, 2) if self.last else SHAPE
            return super().forward(x.reshape(x.shape[0], *shape))

    for last, layout in ((False, "nchw"), (True, "nhwc")):
        network = network_from_module(Flat(normalises=True, last=last), (24,))
        with pytest.raises(ConfigError, match="--layout"):
            ask(network, images, [0], Question(), 0.1)
        chosen: Layout = "nhwc" if layout == "nhwc" else "nchw"
        found = certified(network, images, Question(preprocessing=Preprocessing(layout=chosen)))
        assert statuses(found) == statuses(
            certified(classifier(normalises=True), images, Question())
        )


def test_one_channel_is_flat_in_one_way() -> None:
    network = network_from_module(nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), (1, 6, 1))
    made, words = prepare(network, Preprocessing(), (1, 2, 3))
    pixels = torch.rand(4, 1, 2, 3)
    assert torch.equal(made.replay(pixels), network.replay(pixels.reshape(4, 1, 6, 1)))
    assert torch.equal(
        made.graph(pixels.double()), network.graph(pixels.reshape(4, 1, 6, 1).double())
    )
    assert words == ""


@pytest.mark.parametrize("shape", [(2, 4, 3), (3, 2, 4), (1, 3, 4), (24, 1, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="input shape"):
        prepare(classifier(), Preprocessing(), shape)


@pytest.mark.parametrize(
    ("perturbation", "half"),
    [
        (LinfBall(0.125), torch.full(SHAPE, 0.125)),
        (ChannelBalls((0.125, 0.25)), torch.tensor([0.125, 0.25])[:, None, None].expand(SHAPE)),
        (PixelBalls(torch.tensor([0.0, 0.25, 0.5, 0.125])), torch.tensor([0.0, 0.25, 0.5, 0.125])),
    ],
)
def test_boxes_by_hand(perturbation: Perturbation, half: Tensor) -> None:
    perturbation.check_fits(1, SHAPE)
    pixels = torch.full((1, *SHAPE), 0.25)
    pixels[0, 0, 0, 0] = 1.0
    box = perturbation.box(pixels, [0])
    assert box.lower.dtype == torch.float64
    assert torch.equal(box.lower[0], (pixels[0].double() - half.expand(SHAPE)).clamp(0, 1))
    assert torch.equal(box.upper[0], (pixels[0].double() + half.expand(SHAPE)).clamp(0, 1))


@pytest.mark.parametrize(
    "perturbation",
    [
        ChannelBalls((0.1, 0.2, 0.3)),
        PixelBalls(torch.zeros(3)),
        PixelBalls(torch.zeros(1, 2, 3, 4)),
    ],
)
def test_half_widths_that_do_not_fit_are_refused(perturbation: Perturbation) -> None:
    with pytest.raises(DataError, match="epsilon"):
        perturbation.check_fits(1, SHAPE)


def test_half_widths_that_are_none_are_refused() -> None:
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            ChannelBalls((0.1, wrong))
        with pytest.raises(DataError):
            PixelBalls(torch.tensor([wrong]))


@pytest.mark.parametrize(
    ("mean", "std"), [((0.1,), ()), ((0.1,), (0.0,)), ((0.1,), (1e-60,)), ((torch.nan,), (1.0,))]
)
def test_normalisation_that_is_none_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(ConfigError):
        Preprocessing(mean, std)


def test_given_boxes_are_decided_like_those_around_images(images: ImageSet) -> None:
    network = classifier(normalises=True)
    pixels = images.pixels().double()
    lower, upper = (pixels - 0.01).clamp(0, 1), (pixels + 0.01).clamp(0, 1)
    boxes = BoxSet("mine", "boxes", lower, upper, images.labels, images.pixels())
    found = certified(network, boxes, Question())
    around = certified(network, images, Question())
    assert statuses(found) == statuses(around)
    assert found.info.epsilon is None
    middles = certified(network, BoxSet("m", "boxes", lower, upper, images.labels), Question())
    assert statuses(middles) == statuses(around)


def test_boxes_need_labels_or_rows(images: ImageSet) -> None:
    network = classifier()
    boxes = BoxSet("mine", "boxes", images.images - 2.0, images.images - 1.9)
    with pytest.raises(ConfigError, match="labels"):
        certified(network, boxes, Question())
    bound = float(network.replay(boxes.lower.float())[:, 0].min()) - 100
    rows = LinearRows(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([-bound]))
    found = certified(network, boxes, Question(specification=rows))
    assert set(statuses(found)) == {Status.VERIFIED}
    assert found.records[0].label is None


def test_boxes_that_cannot_be_are_refused(images: ImageSet) -> None:
    low, high = images.images, images.images + 0.1
    for lower, upper, labels, points in (
        (high, low, None, None),
        (low, high[:5], None, None),
        (low, high / 0, None, None),
        (low, high, images.labels[:3], None),
        (low, high, images.labels - 3, None),
        (low, high, None, low + 0.2),
        (low, high, None, low[:4]),
    ):
        with pytest.raises(DataError):
            BoxSet("mine", "boxes", lower, upper, labels, points)
    with pytest.raises(DataError, match="from 0 to 2"):
        certified(classifier(), BoxSet("m", "b", low, high, images.labels + 3), Question())


def test_a_ledger_says_what_was_asked_and_is_rechecked(tmp_path: Path, images: ImageSet) -> None:
    network, path = classifier(last=True), tmp_path / "ledger.sqlite"
    self_describing = Question(ChannelBalls((0.05, 0.02)), preprocessing=Preprocessing(MEAN, STD))
    by_pixel = Question(PixelBalls(torch.full(SHAPE, 0.05)), preprocessing=Preprocessing(MEAN, STD))
    for question in (self_describing, by_pixel):
        certify_set(network, images, CHEAP, path, question=question)
    with Ledger.existing(path) as ledger:
        first, second = (question_of(info.run) for info in ledger.runs())
    assert first is not None
    assert first.perturbation == self_describing.perturbation
    assert first.preprocessing == Preprocessing(MEAN, STD, "nhwc")
    assert second is None
    with Ledger.existing(path) as ledger:
        second = question_of(ledger.runs()[1].run, Question(by_pixel.perturbation))
    assert second is not None
    assert second.preprocessing == Preprocessing(MEAN, STD, "nhwc")
    found = reports.recheck_ledger(network, path, images=images)
    assert [evidence.checked is None for evidence in found] == [False, True]
    again = reports.recheck_ledger(network, path, images=images, question=by_pixel)
    for evidence in again:
        assert evidence.checked
        assert all(one.holds for one in evidence.checked)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_ledger_says_the_order_of_flat_vectors(
    layout: Layout,
    tmp_path: Path,
    images: ImageSet,
) -> None:
    network = network_from_module(nn.Linear(24, 3), (24,))
    path = tmp_path / "ledger.sqlite"
    question = Question(LinfBall(0.3), preprocessing=Preprocessing(MEAN, STD, layout))
    certify_set(network, images, CHEAP, path, question=question)
    (evidence,) = reports.recheck_ledger(network, path, images=images)
    assert evidence.checked
    assert all(one.holds for one in evidence.checked)


def test_boxes_are_rechecked_with_what_the_ledger_says(tmp_path: Path, images: ImageSet) -> None:
    network, path = classifier(), tmp_path / "ledger.sqlite"
    wrong = (images.labels + 1) % 3
    boxes = BoxSet("mine", "boxes", images.images, images.images + 0.1, wrong)
    question = Question(specification=TopK(2), preprocessing=Preprocessing((0.5,), (0.25,)))
    certify_set(network, boxes, CHEAP, path, question=question)
    (evidence,) = reports.recheck_ledger(network, path, images=boxes)
    assert evidence.checked
    assert all(one.holds for one in evidence.checked)

"""Radii of images: exact ones by hand, brute force, resumption, and what is not claimed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn

from verify_pipeline import api
from verify_pipeline.certify.brackets import Bracket
from verify_pipeline.certify.radii import ImageRadius
from verify_pipeline.certify.records import Entry, Run, RunInfo
from verify_pipeline.certify.settings import asking_abcrown
from verify_pipeline.certify.tally import summaries
from verify_pipeline.problem import Reason, Status, Verdict
from verify_pipeline.reporting import as_text

CHEAP = api.CertifySettings(epsilon=0.4, stages=("clean", "ibp", "attack", "crown"))


class Count(api.CertifyObserver):
    """Counts rounds and verdicts, and may stop after some, as a user might."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.rounds = 0
        self.decided_images: list[int] = []
        self._stop_after = stop_after

    def started(self, images: int, decided: int) -> None:
        self.rounds += 1

    def decided(self, index: int, verdict: Verdict) -> None:
        self.decided_images.append(index)
        if len(self.decided_images) >= self._stop_after:
            raise KeyboardInterrupt


def linear(weight: list[list[float]], bias: list[float] | None = None) -> api.Network:
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias or [0.0] * len(weight)))
    return api.network_from_module(nn.Sequential(nn.Flatten(), layer), (1, 1, len(weight[0])))


def image_set(pixels: torch.Tensor, labels: list[int], classes: int) -> api.ImageSet:
    shaped = pixels.reshape(len(labels), 1, 1, -1)
    return api.ImageSet("toy", "test", shaped, torch.tensor(labels), classes)


@pytest.fixture(scope="module")
def pairs() -> tuple[api.Network, api.ImageSet]:
    """Class 0 iff x_0 > x_1; radii ``(x_0 - x_1) / 2``: 1/4, 1/16, a tie, wrong, and 1/2."""
    pixels = [(0.75, 0.25), (0.5625, 0.4375), (0.5, 0.5), (0.25, 0.75), (1.0, 0.0)]
    return linear([[1, 0], [0, 1]]), image_set(torch.tensor(pixels), [0] * 5, 2)


@pytest.fixture(scope="module")
def small() -> tuple[api.Network, api.ImageSet]:
    """A random network with ReLUs, and images that it classifies rightly, but for two."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 3)]
    module = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    pixels = torch.rand(12, 1, 1, 4)
    with torch.no_grad():
        for layer in layers:
            layer.weight *= 2
        layers[-1].bias -= module(torch.rand(200, 1, 1, 4)).mean(0)
    labels = module(pixels).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    return api.network_from_module(module, (1, 1, 4)), image_set(pixels, labels.tolist(), 3)


def test_exact_radii_of_a_linear_classifier(pairs: tuple[api.Network, api.ImageSet]) -> None:
    """At ε equal to the radius the outputs tie, which does not hold."""
    found = api.radius(*pairs, 0.5, steps=16)
    step, exact = 1 / 32, (0.25, 0.0625, 0.0, 0.0, 0.5)
    for image, radius in zip(found.images, exact, strict=True):
        assert image.verified < radius or radius == 0 == image.verified
        assert radius <= image.falsified <= image.verified + step
    assert [image.gap for image in found.images] == [
        *("step", "step", "misclassified", "misclassified", "step")
    ]
    lower, upper = found.average
    assert lower <= sum(exact) / 5 <= upper <= lower + step
    assert found.right == 3


def test_radii_are_margins_over_the_one_norm() -> None:
    """Where no box reaches a limit, ``min_j (margin_j / |w_y - w_j|_1)``."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    pixels = 0.5 + (torch.rand(20, 6) - 0.5) / 5
    labels = layer(pixels).argmax(1)
    network = api.network_from_module(nn.Sequential(nn.Flatten(), layer), (1, 1, 6))
    found = api.radius(network, image_set(pixels, labels.tolist(), 4), 0.3, steps=64)
    assert found.right == 20
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    for image, x, label in zip(found.images, pixels.double(), labels.tolist(), strict=True):
        rows = [j for j in range(4) if j != label]
        difference, shift = weight[label] - weight[rows], bias[label] - bias[rows]
        exact = float(((difference @ x + shift) / difference.abs().sum(1)).min())
        if exact < 0.3:
            assert image.verified < exact < image.falsified + 1e-6
            assert image.falsified - image.verified <= 0.3 / 64 + 1e-12
        else:
            assert (image.verified, image.falsified) == (0.3, math.inf)
            assert image.gap == "largest epsilon"
    assert "step" in {image.gap for image in found.images}


def test_bisection_finds_what_certifying_at_every_epsilon_finds(
    small: tuple[api.Network, api.ImageSet],
) -> None:
    network, images = small
    count = Count()
    found = api.radius(network, images, 0.5, steps=10, observer=count)
    curve = found.curve().set_index("epsilon")
    for epsilon in found.grid:
        summary = api.certify(network, images, epsilon)
        assert summary.tally.undecided == 0
        for record, image in zip(summary.records, found.images, strict=True):
            verified = record.status is Status.VERIFIED
            assert verified == (image.verified >= epsilon)
            assert verified == (image.falsified > epsilon)
        share = 100 * summary.tally.proved / len(images)
        assert curve.loc[epsilon].tolist() == [share, share]
    assert curve.loc[0.0].tolist() == [100 * 10 / 12] * 2
    assert len(count.decided_images) == found.verdicts < 5 * len(images)
    assert count.rounds <= 4
    frame = found.to_frame()
    assert frame["gap"].tolist().count("misclassified") == 2
    assert (frame["verified_up_to"] < frame["falsified_from"].fillna(math.inf)).sum() == 10


def test_a_stopped_search_continues_and_decides_nothing_twice(
    small: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    network, images = small
    whole = api.radius(network, images, 0.5, steps=10)
    ledger, first, second = tmp_path / "ledger.sqlite", Count(stop_after=17), Count()
    with pytest.raises(KeyboardInterrupt):
        api.radius(network, images, 0.5, steps=10, ledger=ledger, observer=first)
    resumed = api.radius(network, images, 0.5, steps=10, ledger=ledger, observer=second)
    together = len(first.decided_images) + len(second.decided_images)
    assert together <= whole.verdicts + len(images)
    pd_equal(resumed, whole)
    third = Count()
    pd_equal(api.radius(network, images, 0.5, steps=10, ledger=ledger, observer=third), whole)
    assert third.decided_images == []


def pd_equal(first: api.RobustnessDistribution, second: api.RobustnessDistribution) -> None:
    columns = ["image", "label", "verified_up_to", "falsified_from", "gap"]
    assert first.to_frame()[columns].equals(second.to_frame()[columns])
    assert first.curve().equals(second.curve())


class Meanwhile(Count):
    """Lets another command certify everything at one ε once a stage of the first round begins."""

    def __init__(self, certify: Callable[[], api.Summary]) -> None:
        super().__init__()
        self._certify = certify
        self.found: list[api.Summary] = []
        self.command = Thread(target=lambda: self.found.append(self._certify()))

    def stage_started(self, stage: str, images: int) -> None:
        if stage == "ibp" and self.rounds == 1:
            self.command.start()


def test_another_command_may_certify_meanwhile(
    small: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    # both share the images of the first round: each waits for what the other one has
    network, images = small
    alone = api.radius(network, images, 0.5, steps=10)
    ledger, middle = tmp_path / "ledger.sqlite", alone.grid[5]
    other = Meanwhile(lambda: api.certify(network, images, middle, ledger=ledger))
    pd_equal(api.radius(network, images, 0.5, steps=10, ledger=ledger, observer=other), alone)
    other.command.join()
    assert len(other.found[0].records) == len(images)
    assert other.found[0].tally.undecided == 0


def test_what_certify_decided_is_used_whatever_its_settings(
    small: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    network, images = small
    alone = api.radius(network, images, 0.5, steps=10)
    ledger, count = tmp_path / "ledger.sqlite", Count()
    for epsilon in (alone.grid[4], 0.123):  # one on the grid and one that is not
        settings = replace(CHEAP, epsilon=epsilon, stages=("clean", "ibp", "branch-and-bound"))
        assert api.certify(network, images, settings, ledger=ledger).tally.undecided == 0
    found = api.radius(network, images, 0.5, steps=10, ledger=ledger, observer=count)
    assert len(count.decided_images) < alone.verdicts
    for image, other in zip(found.images, alone.images, strict=True):
        assert other.verified <= image.verified <= image.falsified
        assert max(image.verified, other.verified) <= min(image.falsified, other.falsified)
        assert image.verified >= 0.123 or image.falsified <= 0.123  # it was decided there
        assert image.verified in (0.0, 0.123, *found.grid)


def test_certify_finds_the_verdicts_of_the_search(
    small: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    network, images = small
    ledger, count = tmp_path / "ledger.sqlite", Count()
    found = api.radius(network, images, 16 / 255, steps=16, ledger=ledger)
    held = {each.info.epsilon: each for each in api.read_ledgers([ledger])}
    epsilon, run = max(held.items(), key=lambda item: len(item[1].records))
    assert epsilon == 9 / 255  # all images are asked in the middle first
    again = api.certify(network, images, 9 / 255, ledger=ledger, observer=count)
    assert count.decided_images == []
    assert again.records == run.records
    assert again.tally.proved == sum(image.verified >= epsilon for image in found.images)


def test_runs_of_the_search_do_not_look_finished(
    small: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    """A run of one ε has the images that were asked there, which are no sample of all."""
    network, images = small
    ledger = tmp_path / "ledger.sqlite"
    found = api.radius(network, images, 0.5, steps=10, ledger=ledger)
    runs = api.read_ledgers([ledger])
    assert found.verdicts == sum(len(run.records) for run in runs)
    assert {run.requested for run in runs} == {12}
    partial = [run for run in runs if len(run.records) < 12]
    assert partial
    assert not any(run.complete for run in partial)
    assert "is not finished" in as_text(partial)


def test_deduced_verdicts_are_not_written(
    pairs: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    network, images = pairs
    with api.Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        found = api.radius(network, images, 0.5, steps=16, ledger=ledger)
        rows = [record for run in summaries(ledger) for record in run.records]
    assert len(rows) == found.verdicts < 16 * len(images)
    for row in rows:
        assert (row.bound or 0) > 0 if row.status is Status.VERIFIED else row.counterexample


def test_a_gap_is_told_where_stages_leave_it_open(
    small: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    """Intervals alone do not reach the radius: what is open stays open, on both sides."""
    network, images = small
    weak = api.CertifySettings(epsilon=0.5, stages=("clean", "ibp", "attack"))
    ledger = tmp_path / "ledger.sqlite"
    found = api.radius(network, images, weak, steps=20, ledger=ledger)
    exact = api.radius(network, images, 0.5, steps=20)
    gaps = [image for image in found.images if image.gap == "not_decided"]
    assert len(gaps) > 3
    for image, best in zip(found.images, exact.images, strict=True):
        assert image.verified <= best.verified
        assert image.falsified >= best.falsified - 1e-6 or image.misclassified
        assert image.verified < image.falsified or image.misclassified
    for image in gaps:
        failed = image.bracket.failures
        below, above = min(failed), max(failed)
        assert round((below - image.verified) * 40) == 1  # no ε of the grid lies between
        assert above < image.falsified <= above + 0.5 / 20 + 1e-12 or image.falsified == math.inf
    curve = found.curve()
    assert (curve["verified"] <= curve["robust_at_most"]).all()
    assert (curve["verified"] < curve["robust_at_most"]).any()
    # more stages decide the open ones; what is known already is used
    count = Count()
    better = api.radius(network, images, 0.5, steps=20, ledger=ledger, observer=count)
    assert [i.verified for i in better.images] == [i.verified for i in exact.images]
    assert set(count.decided_images) <= {image.index for image in gaps}


def test_unknown_verdicts_are_tried_again_with_more_seconds_or_on_request(
    small: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    network, images = small
    ledger = tmp_path / "ledger.sqlite"
    brief = api.CertifySettings(epsilon=0.5, timeout=1e-9, stages=("clean", "branch-and-bound"))
    late = api.radius(network, images, brief, steps=4, ledger=ledger)
    assert {image.gap for image in late.images} == {"misclassified", "timeout"}
    same = Count()
    api.radius(network, images, brief, steps=4, ledger=ledger, observer=same)
    assert same.decided_images == []
    again = Count()
    retry = replace(brief, retry=True)
    api.radius(network, images, retry, steps=4, ledger=ledger, observer=again)
    assert len(again.decided_images) == len(set(again.decided_images)) * 4 > 0
    longer = api.radius(network, images, replace(brief, timeout=60.0), steps=4, ledger=ledger)
    assert {image.gap for image in longer.images} <= {"misclassified", "step", "largest epsilon"}


def test_another_tools_claim_is_no_proof(
    pairs: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    network, images = pairs
    claiming = asking_abcrown(CHEAP)
    with api.Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        own = api.certify(network, images, CHEAP, ledger=ledger)
        record = own.records[0]
        assert record.status is Status.FALSIFIED
        info = replace(own.info, settings=claiming_settings(claiming))
        info = replace(info, run=replace(info.run, settings=digest_of(info.settings)))
        assert own.asked is not None
        ledger.register(info, own.asked)
        claim = Verdict(Status.VERIFIED, "abcrown", 0.1, claimed_by="α,β-CROWN")
        ledger.append(info.run, [Entry(0, record.instance, 0, claim)], 60.0, "none")
        found = api.radius(network, images, CHEAP, steps=4, ledger=ledger)
    assert found.images[0].falsified <= 0.4
    assert found.remarks == ()


def claiming_settings(settings: api.CertifySettings) -> str:
    from verify_pipeline.certify.settings import plan

    return plan(settings).tried


def digest_of(text: str) -> str:
    from verify_pipeline.certify.records import settings_digest

    return settings_digest(text)


def test_a_contradiction_is_told_and_the_counterexample_counts(
    pairs: tuple[api.Network, api.ImageSet],
) -> None:
    network, images = pairs
    with api.Ledger.in_memory() as ledger:
        own = api.certify(network, images, replace(CHEAP, epsilon=0.125), ledger=ledger)
        record = own.records[1]  # of radius 1/16
        assert record.status is Status.FALSIFIED
        wrong = replace(own.info.run, perturbation="linf 0.375")
        assert own.asked is not None
        ledger.register(replace(own.info, run=wrong, epsilon=0.375), own.asked)
        verdict = Verdict(Status.VERIFIED, "crown", 0.1, bound=0.5)
        ledger.append(wrong, [Entry(1, record.instance, 0, verdict)], 60.0, "none")
        found = api.radius(network, images, replace(CHEAP, epsilon=0.5), steps=16, ledger=ledger)
    assert found.images[1].gap == "contradicted"
    assert found.images[1].verified == 1 / 32
    assert 1 / 16 <= found.images[1].falsified <= 0.125
    (told,) = found.remarks
    assert "image 1" in told


def test_an_image_that_ties_as_deployed_is_not_verified() -> None:
    """A sigmoid that saturates: score 60 x against 50 x, which tie in the file from x = 0.4 on."""
    layer = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[60.0], [50.0]]))
    network = api.network_from_module(nn.Sequential(nn.Flatten(), layer, nn.Sigmoid()), (1, 1, 1))
    images = image_set(torch.tensor([[0.1]]), [0], 2)
    found = api.radius(network, images, 0.5, steps=10)
    (image,) = found.images
    assert image.gap == "tied as deployed"
    at_most = api.certify(network, images, image.falsified)
    assert at_most.tally.tied == 1
    assert 0 < image.verified < image.falsified


def test_other_images_at_these_places_do_not_count(
    small: tuple[api.Network, api.ImageSet], tmp_path: Path
) -> None:
    network, images = small
    ledger = tmp_path / "ledger.sqlite"
    api.radius(network, images, 0.5, steps=4, ledger=ledger)
    turned = api.ImageSet("toy", "test", images.images.flip(0), images.labels.flip(0), 3)
    found = api.radius(network, turned, 0.5, steps=4, ledger=ledger)
    fresh = api.radius(network, turned, 0.5, steps=4)
    pd_equal(found, fresh)


@pytest.mark.parametrize(
    "question",
    [
        api.Question(specification=api.TopK(2)),
        api.Question(specification=api.Targeted(torch.tensor(1))),
    ],
    ids=["top-2", "target"],
)
def test_other_specifications_have_radii_and_runs_of_their_own(
    small: tuple[api.Network, api.ImageSet], question: api.Question, tmp_path: Path
) -> None:
    network, images = small
    ledger = tmp_path / "ledger.sqlite"
    margins = api.radius(network, images, 0.5, steps=8, ledger=ledger)
    found = api.radius(network, images, 0.5, steps=8, ledger=ledger, question=question)
    weaker = {image.index: image for image in found.images}
    assert 0 < len(weaker) <= len(images)
    known = {image.index: image for image in margins.images}
    for index, image in weaker.items():
        assert image.falsified >= known[index].verified
    assert any(image.verified > known[index].verified for index, image in weaker.items())


def test_normalised_pixels_keep_their_distances() -> None:
    """The network sees (x - 0.5) / 0.25; radii and counterexamples are of pixels."""
    network = linear([[1, 0], [0, 1]])
    images = image_set(torch.tensor([[0.75, 0.25]]), [0], 2)
    normal = api.Question(preprocessing=api.Preprocessing(mean=(0.5,), std=(0.25,)))
    with api.Ledger.in_memory() as ledger:
        api.radius(network, images, 0.5, steps=16, ledger=ledger)
        count = Count()
        found = api.radius(
            network, images, 0.5, steps=16, ledger=ledger, question=normal, observer=count
        )
    assert count.decided_images
    (image,) = found.images
    assert image.verified < 0.25 <= image.falsified <= image.verified + 1 / 32


def test_a_curve_at_any_epsilon(pairs: tuple[api.Network, api.ImageSet]) -> None:
    found = api.radius(*pairs, 0.5, steps=16)
    curve = found.curve((0, 1 / 32, 0.2, 0.3, 0.6))
    assert curve["epsilon"].tolist() == [0, 1 / 32, 0.2, 0.3, 0.6]
    assert curve["verified"].tolist() == [60.0, 60.0, 40.0, 20.0, 0.0]
    assert curve["robust_at_most"].tolist()[:2] == [60.0, 60.0]
    quantiles = found.quantiles((0.2, 0.4, 0.6, 1.0))
    assert quantiles["verified_up_to"].tolist() == [0, 0, 1 / 32, 15 / 32]
    assert (quantiles["falsified_from"] >= quantiles["verified_up_to"]).all()


def test_quantiles_are_of_sorted_radii_and_of_at_least_the_share() -> None:
    """Radii known to lie in [0, 0], [1/8, 2/8], [2/8, 3/8] and [3/8, inf], in no order."""
    ends = ((0.25, 0.375), (0.375, math.inf), (0.0, 0.0), (0.125, 0.25))
    images = tuple(
        ImageRadius(place, 0, Bracket((lower,), upper), 0.5)
        for place, (lower, upper) in enumerate(ends)
    )
    info = RunInfo(Run("n" * 64, "toy", "test", "linf 0.5", "margins", "s"), "net", 0.5, "{}")
    found = api.RobustnessDistribution(info, (0.5,), images)
    quantiles = found.quantiles((0.0, 0.25, 0.26, 0.5, 0.75, 1.0))
    assert quantiles["verified_up_to"].tolist() == [0, 0, 0.125, 0.125, 0.25, 0.375]
    assert quantiles["falsified_from"].tolist() == [0, 0, 0.25, 0.25, 0.375, math.inf]


def test_an_average_counts_radii_up_to_the_largest_epsilon(
    pairs: tuple[api.Network, api.ImageSet],
) -> None:
    found = api.radius(*pairs, 1 / 32, steps=1)
    assert [image.gap for image in found.images].count("largest epsilon") == 3
    assert found.average == (3 / 5 / 32, 3 / 5 / 32)
    assert "3 of" not in repr(found)
    assert len(repr(found)) < 160


def test_a_frame_and_its_types(pairs: tuple[api.Network, api.ImageSet]) -> None:
    frame = api.radius(*pairs, 0.5, steps=16).to_frame()
    assert frame.columns.tolist() == [
        *("image", "label", "verified_up_to", "falsified_from", "gap", "verdicts", "seconds")
    ]
    assert frame["falsified_from"].dtype == np.float64
    assert frame["label"].tolist() == [0] * 5
    wrong = frame[frame["gap"] == "misclassified"]
    assert wrong["verified_up_to"].tolist() == wrong["falsified_from"].tolist() == [0.0, 0.0]
    assert wrong["verdicts"].tolist() == [1, 1]


def test_what_cannot_be_searched_is_refused(pairs: tuple[api.Network, api.ImageSet]) -> None:
    network, images = pairs
    ball = api.Question(api.LinfBall(0.1))
    with pytest.raises(api.VerifyPipelineError, match="leaves ε open"):
        api.radius(network, images, 0.5, question=ball)
    with pytest.raises(api.VerifyPipelineError, match="stages of this package"):
        api.radius(network, images, asking_abcrown(CHEAP))
    with pytest.raises(api.VerifyPipelineError, match="above 0"):
        api.radius(network, images, 0.0)
    with pytest.raises(api.VerifyPipelineError, match="steps"):
        api.radius(network, images, 0.1, steps=0)
    box = images.images
    boxes = api.BoxSet("mine", "test", box, box, images.labels)
    with pytest.raises(api.VerifyPipelineError, match="boxes"):
        api.radius(network, boxes, 0.1)  # type: ignore[arg-type]


def test_reasons_are_those_of_the_ledger(small: tuple[api.Network, api.ImageSet]) -> None:
    network, images = small
    few = replace(CHEAP, stages=("clean", "ibp"), epsilon=0.5)
    found = api.radius(network, images, few, steps=4)
    names = {reason.name.lower() for reason in Reason}
    assert {image.gap for image in found.images} - {"misclassified"} <= names
    assert all(image.falsified == math.inf for image in found.images if not image.misclassified)

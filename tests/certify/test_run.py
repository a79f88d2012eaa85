"""Certification whole: a small network on real digits, resumed, killed, repeated, rechecked."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from verify_pipeline import data
from verify_pipeline.attacks.falsify import FalsifySettings
from verify_pipeline.bounds import OptimiseSettings
from verify_pipeline.branching import SearchSettings
from verify_pipeline.certify import (
    CertifySettings,
    Ledger,
    Observer,
    Observers,
    RobustImages,
    certify_set,
    recheck,
    summaries,
)
from verify_pipeline.certify.job_plan import JobPlan
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.settings import plan
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import ConfigError, DataError, NetworkError
from verify_pipeline.onnx import Network, export_onnx, load_network, network_from_module
from verify_pipeline.problem import Reason, Status, Verdict

SETTINGS = CertifySettings(
    epsilon=0.08,
    search=SearchSettings(
        root=OptimiseSettings(iterations=5), domain=OptimiseSettings(iterations=5), batch=64
    ),
    attack=FalsifySettings(steps=10, restarts=1),
    timeout=600.0,
    indices=":60",
)


class Stop(Observer):
    """Ends the run, as a user might, once so many images are decided."""

    def __init__(self, after: int) -> None:
        self._left = after

    def decided(self, index: int, verdict: Verdict) -> None:
        self._left -= 1
        if self._left <= 0:
            raise KeyboardInterrupt


class Count(Observer):
    """Notes which images are decided."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.begun: tuple[int, int] | None = None

    def started(self, images: int, decided: int) -> None:
        self.begun = (images, decided)

    def decided(self, index: int, verdict: Verdict) -> None:
        self.indices.append(index)


def trained(images: ImageSet) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10)
    )
    pixels, labels = images.pixels(), images.labels
    optimiser = torch.optim.Adam(module.parameters(), lr=5e-3)
    for _ in range(80):
        noise = (torch.rand_like(pixels) * 2 - 1) * 0.2
        loss = nn.functional.cross_entropy(module((pixels + noise).clamp(0, 1)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module.eval()


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    pytest.importorskip("sklearn")
    return data.load("digits", "test")


@pytest.fixture(scope="module")
def model_file(digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "digits-mlp.onnx"
    module = trained(data.load("digits", "train"))
    export_onnx(module, path, tuple(digits.images.shape[1:]), {}, digits.pixels(slice(0, 5)))
    return path


@pytest.fixture(scope="module")
def network(model_file: Path) -> Network:
    return load_network(model_file)


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)], ids=str)
def test_a_softmax_at_the_end_costs_nothing(
    end: nn.Module, network: Network, digits: ImageSet
) -> None:
    """As keras's classifiers have it: the same proofs, by the same stages."""
    module = trained(data.load("digits", "train"))
    ended = network_from_module(nn.Sequential(module, end), network.input_shape)
    few = replace(SETTINGS, indices=":20")
    found, expected = (certify_set(n, digits, few).records for n in (ended, network))
    assert [r.status for r in found] == [r.status for r in expected]
    assert [r.stage for r in found] == [r.stage for r in expected]
    assert {r.status for r in found} == {Status.VERIFIED, Status.FALSIFIED}


def test_every_image_gets_a_verdict_and_every_kind_of_stage_decides_some(
    network: Network, digits: ImageSet, tmp_path: Path
) -> None:
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        summary = certify_set(network, digits, SETTINGS, ledger)
        assert [record.index for record in summary.records] == list(range(60))
        tally = summary.tally
        assert tally.undecided == 0
        assert tally.right == int(
            (network.replay(digits.pixels(slice(0, 60))).argmax(1) == digits.labels[:60]).sum()
        )
        assert {"crown", "branch-and-bound"} <= {
            record.stage for record in summary.records if record.status is Status.VERIFIED
        }
        assert tally.falsified["attack"] > 0
        smaller = certify_set(network, digits, replace(SETTINGS, epsilon=0.02), ledger)
        assert smaller.tally.verified["ibp"] > 0
        assert smaller.tally.proved > tally.proved
        assert summary.info.network_name == "digits-mlp"
        assert summaries(ledger)[0].records == summary.records
        instances = RobustImages(digits, range(60), LinfBall(SETTINGS.epsilon))
        checked = list(recheck(ledger, summary.info.run, network.replay, instances, torch.float32))
        assert len(checked) == tally.wrong + sum(tally.falsified.values())
        assert all(one.holds for one in checked)


def test_a_tampered_counterexample_is_found_out(
    network: Network, digits: ImageSet, tmp_path: Path
) -> None:
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        summary = certify_set(network, digits, SETTINGS, ledger)
        run = summary.info.run
        inside = recheck(
            ledger,
            run,
            network.replay,
            RobustImages(digits, range(60), LinfBall(0.01)),
            torch.float32,
        )
        problems = {one.problem for one in inside}
        assert "it is outside its box" in problems
        other = replace(digits, images=255 - digits.images)
        shifted = recheck(
            ledger,
            run,
            network.replay,
            RobustImages(other, range(60), LinfBall(SETTINGS.epsilon)),
            torch.float32,
        )
        assert {one.problem for one in shifted} == {"the data set holds another image there"}
        right = torch.eye(10)

        def obedient(points: torch.Tensor) -> torch.Tensor:
            return right[labels.pop(0)].unsqueeze(0)

        falsified = [r for r in summary.records if r.status is Status.FALSIFIED]
        labels = [int(r.label or 0) for r in falsified]
        again = recheck(
            ledger,
            run,
            obedient,
            RobustImages(digits, range(60), LinfBall(SETTINGS.epsilon)),
            torch.float32,
        )
        assert {one.problem for one in again} == {"its output does not break the specification"}


def test_an_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(
    network: Network, digits: ImageSet, tmp_path: Path
) -> None:
    whole = certify_set(network, digits, SETTINGS)
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        for after in (7, 20):
            with pytest.raises(KeyboardInterrupt):
                certify_set(network, digits, SETTINGS, ledger, Stop(after))
        count = Count()
        resumed = certify_set(network, digits, SETTINGS, ledger, count)
        assert count.begun == (60, 27)
        assert len(count.indices) == 33
        assert [(r.index, r.status, r.stage) for r in resumed.records] == [
            (r.index, r.status, r.stage) for r in whole.records
        ]
        again = Count()
        certify_set(network, digits, SETTINGS, ledger, again)
        assert again.indices == []


def test_more_images_only_cost_the_new_ones(
    network: Network, digits: ImageSet, tmp_path: Path
) -> None:
    cheap = replace(SETTINGS, stages=("clean", "ibp"), indices="10:20")
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        certify_set(network, digits, cheap, ledger)
        count = Count()
        summary = certify_set(network, digits, replace(cheap, indices="5,12,30"), ledger, count)
        assert sorted(count.indices) == [5, 30]
        assert [record.index for record in summary.records] == [5, 12, 30]


def test_images_that_were_replaced_are_counted_once_as_they_are_now(
    network: Network, digits: ImageSet, tmp_path: Path
) -> None:
    cheap = replace(SETTINGS, stages=("clean", "ibp"), indices="0:4")
    pixels = digits.images.clone()
    pixels[1:] = pixels[1:].flip(0)  # image 0 stays
    now = replace(digits, images=pixels)
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        before = certify_set(network, digits, cheap, ledger)
        after = certify_set(network, now, cheap, ledger)
        (found,) = summaries(ledger)
    assert (found.records, found.replaced) == (after.records, 3)
    assert found.records[0] == before.records[0]
    assert [record.index for record in found.records] == [0, 1, 2, 3]


def test_unknown_images_are_tried_again_when_asked_or_given_more_time(
    network: Network, digits: ImageSet, tmp_path: Path
) -> None:
    brief = replace(SETTINGS, timeout=1e-9, indices="20:30")
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        late = certify_set(network, digits, brief, ledger)
        reasons = {record.reason for record in late.records if record.status is Status.UNKNOWN}
        assert reasons == {Reason.TIMEOUT}
        same = Count()
        certify_set(network, digits, brief, ledger, same)
        assert same.indices == []
        longer = certify_set(network, digits, replace(brief, timeout=600.0), ledger)
        assert longer.tally.undecided == 0
        cheap = replace(SETTINGS, stages=("clean", "ibp"), indices="0:30")
        open_ = certify_set(network, digits, cheap, ledger).tally.undecided
        again = Count()
        certify_set(network, digits, replace(cheap, retry=True), ledger, again)
        assert len(again.indices) == open_ > 0


def test_verdicts_do_not_depend_on_the_batch(network: Network, digits: ImageSet) -> None:
    whole = certify_set(network, digits, SETTINGS)
    parts = certify_set(network, digits, replace(SETTINGS, batch=7))
    assert [(r.status, r.stage) for r in parts.records] == [
        (r.status, r.stage) for r in whole.records
    ]


def test_every_device_comes_to_the_same_verdicts(
    network: Network, digits: ImageSet, device: torch.device
) -> None:
    there = certify_set(network, digits, SETTINGS, device=device)
    here = certify_set(network, digits, SETTINGS, device="cpu")
    assert [r.status for r in there.records] == [r.status for r in here.records]


class Plans(Observer):
    """Notes what is planned."""

    def __init__(self) -> None:
        self.plans: list[JobPlan] = []

    def planned(self, plan: JobPlan) -> None:
        self.plans.append(plan)


def test_observers_are_told_the_plan_and_what_a_finished_sample_took(
    network: Network, digits: ImageSet
) -> None:
    notes, count = Plans(), 24
    assert len(digits) > count
    with Ledger.in_memory() as ledger:
        for indices in (f":{count}", f":{count}", ":60"):
            asked = replace(SETTINGS, indices=indices)
            certify_set(network, digits, asked, ledger, Observers([notes]))
        records = ledger.records(notes.plans[0].info.run)[:count]
        certify_set(network, digits, replace(SETTINGS, retry=True), ledger, notes)
    first, again, whole, retried = notes.plans
    assert first.info.run == whole.info.run
    assert (first.stages, first.timeout) == (SETTINGS.stages, plan(SETTINGS).timeout)
    assert first.sample is None
    assert again.sample == whole.sample
    assert whole.sample is not None
    assert whole.sample.images == count
    assert whole.sample.mean == pytest.approx(sum(r.seconds for r in records) / count)
    assert retried.sample is None  # only hard images are left


RUNNER = """
import sys, pathlib, torch
from verify_pipeline.certify import CertifySettings, Ledger, Observer, certify_set
from verify_pipeline.data import ImageSet
from verify_pipeline.onnx import load_network

class Tell(Observer):
    def decided(self, index, verdict):
        print(index, flush=True)

torch.set_num_threads(1)
images = ImageSet("digits", "test", *torch.load(sys.argv[3]), 10)
settings = CertifySettings(epsilon=0.08, stages=("clean", "ibp", "crown"), batch=4)
with Ledger.open(pathlib.Path(sys.argv[2])) as ledger:
    certify_set(load_network(sys.argv[1]), images, settings, ledger, Tell())
"""


def test_of_two_processes_one_is_killed_and_the_ledger_is_whole(
    model_file: Path, digits: ImageSet, tmp_path: Path
) -> None:
    path, images = tmp_path / "a.ledger", tmp_path / "images.pt"
    torch.save((digits.images, digits.labels), images)
    command = [sys.executable, "-c", RUNNER, str(model_file), str(path), str(images)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        reported = {int(victim.stdout.readline()) for _ in range(5)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as survivor:
            assert survivor.stdout is not None
            first = survivor.stdout.readline()  # nothing, where the victim was done before
            victim.send_signal(signal.SIGKILL)
            output = first + survivor.communicate()[0]
    assert survivor.returncode == 0
    reported |= {int(line) for line in output.splitlines()}
    with Ledger.existing(path) as ledger:
        (summary,) = summaries(ledger)
    indices = [record.index for record in summary.records]
    assert indices == list(range(len(digits)))
    assert reported <= set(indices)
    alone = certify_set(
        load_network(model_file),
        digits,
        CertifySettings(epsilon=0.08, stages=("clean", "ibp", "crown")),
    )
    assert [r.status for r in summary.records] == [r.status for r in alone.records]


def test_networks_and_images_that_do_not_belong_together_are_refused(
    network: Network, digits: ImageSet
) -> None:
    flat = ImageSet("flat", "test", digits.images.flatten(1)[:, 1:], digits.labels, 10)
    with pytest.raises(DataError, match="input shape"):
        certify_set(network, flat, SETTINGS)
    fewer = replace(digits, labels=digits.labels % 5, classes=5)
    with pytest.raises(DataError, match="outputs"):
        certify_set(network, fewer, SETTINGS)
    with pytest.raises(ConfigError, match="indices"):
        certify_set(network, digits, replace(SETTINGS, indices="5,100000"))
    with pytest.raises(DataError, match="none"):
        certify_set(network, digits, replace(SETTINGS, indices="100000:"))


def test_weights_that_are_not_finite_are_refused(digits: ImageSet, network: Network) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    fine = network_from_module(module, tuple(digits.images.shape[1:]))
    scaled = fine.graph.to(torch.float64)
    for node in scaled.nodes[1:]:
        for value in vars(node.op).values():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                value[...] = torch.nan
    with pytest.raises(NetworkError, match="finite weights"):
        certify_set(replace(fine, graph=scaled), digits, SETTINGS)


def test_no_perturbation_is_the_clean_check_and_bounds_that_agree(
    network: Network, digits: ImageSet
) -> None:
    tally = certify_set(network, digits, replace(SETTINGS, epsilon=0.0)).tally
    assert tally.undecided == 0
    assert tally.proved == tally.right

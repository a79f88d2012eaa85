"""Two certifications on one ledger share its images, and end with the same table."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.certify.test_ledger import DIGEST, INFO, RUN, entry
from tests.certify.test_local_workers import SETTINGS, network, pixels
from verify_pipeline import api
from verify_pipeline.certify import certify_set
from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.sharing import SharedImages
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import LedgerError
from verify_pipeline.problem import Reason, Status, Verdict

SMALL = replace(SETTINGS, batch=4)


@dataclass
class Told(Observer):
    """What a certification tells; ``then`` is called when a stage has done its first task."""

    then: Callable[[], None] = lambda: None
    stages: list[str] = field(default_factory=list)
    decided_here: list[int] = field(default_factory=list)
    waited: list[tuple[int, Sequence[str]]] = field(default_factory=list)
    taken: list[tuple[int, Sequence[str]]] = field(default_factory=list)
    began: threading.Event = field(default_factory=threading.Event)
    waits: threading.Event = field(default_factory=threading.Event)
    looked: int = 0

    def stage_started(self, stage: str, images: int) -> None:
        self.stages.append(stage)
        self.began.set()

    def looked_at(self, stage: str, images: int) -> None:
        self.looked += 1
        if self.looked == 1:
            self.then()

    def decided(self, index: int, verdict: Verdict) -> None:
        self.decided_here.append(index)

    def waits_for(self, images: int, owners: Sequence[str]) -> None:
        self.waited.append((images, owners))
        self.waits.set()

    def took_over(self, images: int, owners: Sequence[str]) -> None:
        self.taken.append((images, owners))


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return ImageSet("own", "test", pixels()[:30], network()(pixels()[:30]).argmax(1), 3)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> api.Network:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    api.export_onnx(network(), path, input_shape=(1, 4, 4))
    return api.load_network(path)


def verdicts(summary: Summary) -> list[tuple[object, ...]]:
    return [(r.index, r.instance, r.status, r.reason, r.stage) for r in summary.records]


def test_a_second_command_takes_half_of_what_is_not_begun(
    loaded: api.Network, images: ImageSet, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.sqlite"
    found: dict[str, Summary] = {}
    second = Told()

    def certify_too() -> None:
        found["second"] = certify_set(loaded, images, SMALL, ledger, second)

    thread = threading.Thread(target=certify_too)

    def start() -> None:
        thread.start()
        assert second.began.wait(60)

    first = Told(then=start)
    found["first"] = certify_set(loaded, images, SMALL, ledger, first)
    thread.join()
    assert sorted(first.decided_here + second.decided_here) == list(range(30))
    assert first.decided_here
    assert len(second.decided_here) >= 13  # half of those behind the first four
    assert found["first"].records == found["second"].records
    assert {record.attempts for record in found["first"].records} == {1}
    assert verdicts(found["first"]) == verdicts(certify_set(loaded, images, SMALL))


def test_a_certification_inside_anothers_callback_is_refused(
    loaded: api.Network, images: ImageSet, tmp_path: Path
) -> None:
    ledger, refused, inside = tmp_path / "ledger.sqlite", Told(), Told()

    def nested() -> None:
        with pytest.raises(LedgerError, match="inside a callback of another one"):
            certify_set(loaded, images, SMALL, ledger, refused)
        # other images, or another ledger, are nobody's
        certify_set(loaded, images, replace(SMALL, epsilon=0.001), ledger, inside)
        certify_set(loaded, images, SMALL, tmp_path / "other.sqlite", inside)

    outer = Told(then=nested)
    found = certify_set(loaded, images, SMALL, ledger, outer)
    assert refused.decided_here == []
    assert len(inside.decided_here) == 60
    assert sorted(outer.decided_here) == list(range(30))
    assert verdicts(found) == verdicts(certify_set(loaded, images, SMALL))


KILLED = """
import sys
from pathlib import Path
import torch
from tests.certify.test_sharing import SMALL, network, pixels
from verify_pipeline import api
from verify_pipeline.certify import certify_set
from verify_pipeline.certify.contract import Observer
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import LedgerError

class Stops(Observer):
    def stage_started(self, stage, images):
        if stage == "ibp":
            print("here", flush=True)
            sys.stdin.read()

images = ImageSet("own", "test", pixels()[:30], network()(pixels()[:30]).argmax(1), 3)
certify_set(api.load_network(Path(sys.argv[1])), images, SMALL, Path(sys.argv[2]), Stops())
"""


def test_a_killed_command_loses_its_images_to_the_one_that_waits(
    loaded: api.Network, images: ImageSet, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.sqlite"
    assert loaded.path is not None
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(loaded.path), str(ledger)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "here\n"
        second = Told()
        found: list[Summary] = []
        thread = threading.Thread(
            target=lambda: found.append(certify_set(loaded, images, SMALL, ledger, second))
        )
        thread.start()
        assert second.waits.wait(60)
        killed.kill()
    thread.join()
    who = (f"process {killed.pid}",)
    ((waited, owners),) = second.waited
    assert owners == who
    assert second.taken == [(waited, who)]
    assert verdicts(found[0]) == verdicts(certify_set(loaded, images, SMALL))
    assert {record.attempts for record in found[0].records} == {1}


@pytest.mark.parametrize(("seconds", "again"), [(10.0, []), (20.0, list(range(4, 12)))])
def test_what_stays_unknown_elsewhere_is_done_unless_there_is_more_time(
    seconds: float, again: list[int], tmp_path: Path
) -> None:
    late = Verdict(Status.UNKNOWN, "ibp", 10.0, reason=Reason.TIMEOUT)
    with Ledger.open(tmp_path / "a.sqlite") as ledger, Ledger.open(tmp_path / "a.sqlite") as other:
        ledger.register(INFO, Extent.of(range(12)))
        runs = dict.fromkeys(range(12), (RUN, DIGEST))
        before = SharedImages.attempts(ledger, runs)
        with ledger.leases() as leases:
            shared = SharedImages(ledger, leases, runs, before, range(12), seconds, Observer())
            rounds = shared.rounds()
            assert next(rounds) == list(range(12))
            assert shared.begin(range(4)) == [0, 1, 2, 3]
            other.append(RUN, [entry(index, late) for index in range(4, 12)], 10.0, "torch 0")
            assert shared.gone() == set(range(4, 12)) - set(again)
            for index in range(4):
                shared.settled(index)
            assert list(next(rounds, [])) == again

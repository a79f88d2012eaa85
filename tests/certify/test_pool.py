"""Workers: batches, lost ones, and the same verdicts as one process gives."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest

from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.hand_out import (
    LOSSES,
    STARTS,
    Event,
    Failed,
    Finished,
    Lost,
    Ready,
    StageBegun,
    WorkQueue,
)
from verify_pipeline.certify.pool import Pool
from verify_pipeline.errors import NetworkError, ProcessError
from verify_pipeline.problem import Reason, Status, Verdict

OPEN = Verdict(Status.UNKNOWN, "crown", 0.5, reason=Reason.NOT_DECIDED)


class Script:
    """A crew that does what a script says of each batch, in the order in which it was given."""

    def __init__(self, does: Callable[[int, Sequence[int]], list[Event]], workers: int = 2) -> None:
        self._does, self._told = does, deque[tuple[int, Event]]()
        self.workers = workers
        self.given: list[tuple[int, tuple[int, ...]]] = []
        self.started: list[int] = []

    def start(self, worker: int) -> None:
        self.started.append(worker)
        self._told.append((worker, Ready()))

    def give(self, worker: int, indices: Sequence[int]) -> None:
        self.given.append((worker, tuple(indices)))
        self._told.extend((worker, event) for event in self._does(worker, indices))

    def events(self) -> Iterator[tuple[int, Event]]:
        assert self._told, "nobody has anything to tell: the pool would wait for ever"
        yield self._told.popleft()

    def hired(self) -> AbstractContextManager["Script"]:
        return nullcontext(self)


class Told(Observer):
    """Counts as observers are to count, and sees that no stage is ahead of its images."""

    def __init__(self) -> None:
        self.images: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.verdicts = 0
        self.lost: list[tuple[int, str]] = []

    def lost_worker(self, images: int, why: str) -> None:
        self.lost.append((images, why))

    def stage_started(self, stage: str, images: int) -> None:
        assert images > 0
        self.images[stage] += images

    def looked_at(self, stage: str, images: int) -> None:
        assert images > 0
        self.done[stage] += images
        assert self.done[stage] <= self.images[stage]

    def decided(self, index: int, verdict: Verdict) -> None:
        self.verdicts += 1


def works(worker: int, indices: Sequence[int]) -> list[Event]:
    """Half of the images are decided by the stage clean, the others by crown."""
    cleaned = [index for index in indices if index % 2 == 0]
    rest = [index for index in indices if index % 2]
    return [
        StageBegun("clean"),
        *(Finished(index, OPEN) for index in cleaned),
        *([StageBegun("crown")] if rest else []),
        *(Finished(index, OPEN) for index in rest),
        Ready(),
    ]


def decided(
    crew: Script, images: int, elsewhere: Callable[[], set[int]] = set
) -> tuple[dict[int, Verdict], Told]:
    found: dict[int, Verdict] = {}
    told = Told()

    def sink(index: int, verdict: Verdict) -> None:
        assert index not in found
        found[index] = verdict

    Pool(crew.hired, "clean").decide(range(images), sink, told, elsewhere)
    return found, told


def test_every_image_gets_one_verdict_and_batches_shrink() -> None:
    crew = Script(works)
    found, told = decided(crew, 100)
    assert sorted(found) == list(range(100))
    assert told.images == told.done == {"clean": 100, "crown": 50}
    assert told.verdicts == 100
    sizes = [len(indices) for _, indices in crew.given]
    assert sizes[:4] == [25, 19, 14, 11]
    assert sizes == sorted(sizes, reverse=True)
    assert {worker for worker, _ in crew.given} == {0, 1}


def test_no_more_workers_than_images() -> None:
    crew = Script(works, 8)
    decided(crew, 3)
    assert crew.started == [0, 1, 2]
    empty = Script(works)
    decided(empty, 0)
    assert not empty.started


def test_what_others_decide_meanwhile_is_not_given_out() -> None:
    crew = Script(works)
    found, _ = decided(crew, 40, lambda: set(range(0, 40, 2)))
    assert sorted(found) == list(range(1, 40, 2))


def test_the_ledger_is_asked_once_a_batch_not_once_a_verdict() -> None:
    asked: list[None] = []

    def elsewhere() -> set[int]:
        asked.append(None)
        return set()

    crew = Script(works)
    decided(crew, 200, elsewhere)
    assert len(asked) <= len(crew.given)


def test_the_images_of_a_lost_worker_are_given_to_others() -> None:
    lost: list[tuple[int, ...]] = []

    def does(worker: int, indices: Sequence[int]) -> list[Event]:
        if worker == 1 and not lost:
            lost.append(tuple(indices))
            return [
                StageBegun("clean"),
                Finished(indices[0], OPEN),
                StageBegun("crown"),
                Lost("ended by signal 9"),
            ]
        return works(worker, indices)

    crew = Script(does)
    found, told = decided(crew, 60)
    assert sorted(found) == list(range(60))
    assert told.images["clean"] == told.done["clean"] == told.verdicts == 60
    (first,) = lost
    # those of the lost batch came to crown, though clean decides half of them the second time
    came = ({index for index in range(60) if index % 2} | set(first)) - {first[0]}
    assert told.images["crown"] == told.done["crown"] == len(came) > 30
    assert crew.started == [0, 1, 1]
    assert told.lost == [(len(first) - 1, "ended by signal 9")]
    again = [each for _, each in crew.given if set(each) & set(first[1:]) and each != first]
    assert [len(each) for each in again] == [6, 5]  # the lost batch had 12, one was decided
    assert all(verdict is OPEN for verdict in found.values())


def test_a_stage_is_not_done_with_an_image_that_goes_through_earlier_ones_again() -> None:
    class AtItsVerdict(Told):
        def decided(self, index: int, verdict: Verdict) -> None:
            assert (self.done["clean"], self.done["crown"]) == (1, 0)

    def does(worker: int, indices: Sequence[int]) -> list[Event]:
        through = [StageBegun("clean"), StageBegun("crown")]
        if len(crew.given) == 1:
            return [*through, Lost("ended by signal 9")]
        return [StageBegun("clean"), Finished(0, OPEN), Ready()]

    crew, told = Script(does), AtItsVerdict()
    Pool(crew.hired, "clean").decide([0], lambda index, verdict: None, told, set)
    assert told.images == told.done == {"clean": 1, "crown": 1}


def test_an_image_that_every_worker_is_lost_with_stays_open_alone() -> None:
    def does(worker: int, indices: Sequence[int]) -> list[Event]:
        before = [Finished(index, OPEN) for index in indices if index < 7]
        if 7 in indices:
            return [*before, Lost("ended by signal 9")]
        return works(worker, indices)

    crew = Script(does)
    found, told = decided(crew, 30)
    assert sorted(found) == list(range(30))
    assert told.images["clean"] == told.done["clean"] == told.verdicts - 7  # 0 to 6 told no stage
    assert found[7].reason is Reason.ERROR
    assert found[7].detail == f"{LOSSES} workers were lost with it, the last one: ended by signal 9"
    assert all(verdict is OPEN for index, verdict in found.items() if index != 7)


def test_a_worker_that_cannot_start_ends_the_certification() -> None:
    class Broken(Script):
        def start(self, worker: int) -> None:
            self.started.append(worker)
            self._told.append((worker, Lost("No module named torch")))

    broken = Broken(works)
    with pytest.raises(
        ProcessError, match=r"worker 0; expected one that starts, .*; got No module"
    ):
        decided(broken, 10)
    assert broken.started.count(0) == STARTS


def test_a_worker_that_ends_while_it_starts_is_started_again() -> None:
    class Late(Script):
        def start(self, worker: int) -> None:
            self.started.append(worker)
            is_first = self.started.count(worker) == 1
            self._told.append((worker, Lost("killed") if is_first else Ready()))

    late = Late(works)
    found, told = decided(late, 10)
    assert sorted(found) == list(range(10))
    assert told.lost == [(0, "killed")] * 2
    assert sorted(late.started) == [0, 0, 1, 1]


def test_what_a_worker_refuses_is_raised() -> None:
    error = NetworkError("network", got="another file")
    with pytest.raises(NetworkError, match="another file"):
        decided(Script(lambda worker, indices: [Failed(error)]), 10)


def test_images_that_are_given_back() -> None:
    queue = WorkQueue(deque(range(7)), 1)
    assert queue.next(set()) == (0, 1, 2, 3)
    assert queue.give_back((1, 2, 3)) == ()
    assert queue.next({1}) == (2,)
    assert queue.next(set()) == (3,)
    assert queue.give_back((3,)) == (3,)
    assert queue.next({4}) == (5,)
    assert queue.next(set()) == (6,)
    assert queue.next(set()) == ()

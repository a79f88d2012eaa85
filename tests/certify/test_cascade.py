"""The cascade around any stages: order, time, memory, exceptions, evidence."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.certify.cascade import Cascade, Room
from verify_pipeline.certify.contract import Decision, Observer, Observers, Task
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.knowledge import Learned
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.purses import Purse
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import LedgerError, UnsupportedOperatorError
from verify_pipeline.problem import Counterexample, Reason, Status, Verdict

CPU = torch.device("cpu")


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Fake:
    """A stage that does what ``work`` does, and notes the tasks that it was given."""

    work: Callable[[Task], Iterator[Decision]]
    name: str = "fake"
    bytes_per_instance: int = 1
    largest_task: int | None = None
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, task: Task) -> Iterator[Decision]:
        self.seen.append(task.indices)
        yield from self.work(task)


@dataclass
class Notes(Observer):
    """Everything an observer is told."""

    events: list[tuple[object, ...]] = field(default_factory=list)

    def stage_started(self, stage: str, images: int) -> None:
        self.events.append((stage, images))

    def looked_at(self, stage: str, images: int) -> None:
        self.events.append((stage, "looked", images))

    def decided(self, index: int, verdict: Verdict) -> None:
        self.events.append((index, verdict.status))


def verify(*indices: int) -> Callable[[Task], Iterator[Decision]]:
    """Verifies these images and says nothing of the others."""

    def work(task: Task) -> Iterator[Decision]:
        for place, index in enumerate(task.indices):
            if index in indices:
                yield Decision(place, Status.VERIFIED, bound=1.0)

    return work


def fail(error: Exception) -> Callable[[Task], Iterator[Decision]]:
    def work(task: Task) -> Iterator[Decision]:
        raise error
        yield

    return work


def images(count: int) -> ImageSet:
    pixels = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    return ImageSet("toy", "test", pixels, torch.zeros(count, dtype=torch.int64), 2)


def certify(
    count: int,
    *stages: Fake,
    room: Room | None = None,
    clock: Clock | None = None,
    observer: Observer | None = None,
    elsewhere: Sequence[set[int]] = (),
) -> dict[int, Verdict]:
    verdicts: dict[int, Verdict] = {}

    def sink(index: int, verdict: Verdict) -> None:
        assert index not in verdicts
        verdicts[index] = verdict

    answers = iter(elsewhere)
    cascade = Cascade(
        RobustImages(images(count), range(count), LinfBall(0.1)),
        stages,
        room or Room(timeout=100.0, memory=1 << 20, device=CPU),
        sink,
        observer or Observer(),
        clock or Clock(),
    )
    cascade.run(range(count), lambda: next(answers, set()))
    return verdicts


def test_each_stage_is_given_what_the_ones_before_left_open() -> None:
    first, second, third = Fake(verify(0, 2)), Fake(verify(1)), Fake(verify(), name="last")
    verdicts = certify(4, first, second, third)
    assert (first.seen, second.seen, third.seen) == ([(0, 1, 2, 3)], [(1, 3)], [(3,)])
    assert [verdicts[n].status for n in (0, 1, 2)] == [Status.VERIFIED] * 3
    assert (verdicts[3].reason, verdicts[3].stage) == (Reason.NOT_DECIDED, "last")


def test_stages_that_have_nothing_left_are_not_run() -> None:
    later = Fake(verify())
    certify(2, Fake(verify(0, 1)), later)
    assert later.seen == []


def test_tasks_fit_in_memory_and_are_as_large_as_their_stage_likes() -> None:
    heavy, small = Fake(verify(), bytes_per_instance=400), Fake(verify(), largest_task=4)
    everything = Fake(verify())
    certify(10, heavy, small, everything, room=Room(100.0, memory=1000, device=CPU))
    assert [len(task) for task in heavy.seen] == [2] * 5
    assert [len(task) for task in small.seen] == [4, 4, 2]
    assert [len(task) for task in everything.seen] == [10]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried ..."),
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_halves_the_task_until_it_fits(error: Exception) -> None:
    def work(task: Task) -> Iterator[Decision]:
        if len(task) > 2:
            raise error
        yield from verify(*range(10))(task)

    stage = Fake(work)
    verdicts = certify(10, stage)
    assert [len(task) for task in stage.seen] == [10, 5, 2, 2, 2, 2, 2]
    assert all(verdict.status is Status.VERIFIED for verdict in verdicts.values())


def test_an_instance_too_big_alone_is_unknown_for_memory_and_the_rest_goes_on() -> None:
    def work(task: Task) -> Iterator[Decision]:
        if 1 in task.indices:
            raise MemoryError
        yield from verify(0, 2, 3)(task)

    verdicts = certify(4, Fake(work))
    assert verdicts[1].reason is Reason.MEMORY
    assert [verdicts[n].status for n in (0, 2, 3)] == [Status.VERIFIED] * 3


def test_what_was_decided_before_memory_ran_out_stays_decided() -> None:
    def work(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.VERIFIED, bound=1.0)
        if len(task) > 1:
            raise MemoryError

    stage = Fake(work)
    verdicts = certify(4, stage)
    assert stage.seen == [(0, 1, 2, 3), (1,), (2,), (3,)]
    assert len(verdicts) == 4


def test_an_exception_leaves_its_images_open_and_the_run_goes_on() -> None:
    broken, later = Fake(fail(ValueError("bad luck")), name="broken"), Fake(verify(1), name="later")
    verdicts = certify(2, broken, later)
    assert verdicts[1].status is Status.VERIFIED
    assert (verdicts[0].reason, verdicts[0].detail) == (
        Reason.ERROR,
        "broken: ValueError: bad luck",
    )


def test_an_operator_that_cannot_be_bounded_is_unsupported() -> None:
    (verdict,) = certify(1, Fake(fail(UnsupportedOperatorError("Softmax")))).values()
    assert verdict.reason is Reason.UNSUPPORTED
    assert "Softmax" in verdict.detail


@pytest.mark.parametrize("bound", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_claim_without_evidence_is_no_verdict(bound: float | None) -> None:
    def work(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.VERIFIED, bound=bound)

    (verdict,) = certify(1, Fake(work)).values()
    assert verdict.reason is Reason.ERROR
    assert "without evidence" in verdict.detail


def test_an_error_of_the_ledger_ends_the_run() -> None:
    def sink(index: int, verdict: Verdict) -> None:
        raise LedgerError("disk full")

    cascade = Cascade(
        RobustImages(images(1), [0], LinfBall(0.1)),
        [Fake(verify(0))],
        Room(1.0, 1, CPU),
        sink,
        Observer(),
        Clock(),
    )
    with pytest.raises(LedgerError, match="disk full"):
        cascade.run([0], set)


def test_time_is_charged_by_share_and_adds_up() -> None:
    clock = Clock()

    def work(task: Task) -> Iterator[Decision]:
        clock.now += 8.0
        yield Decision(0, Status.VERIFIED, bound=1.0)
        clock.now += 3.0
        yield Decision(1, Status.VERIFIED, bound=1.0)
        clock.now += 4.0

    verdicts = certify(4, Fake(work), clock=clock)
    assert [verdicts[n].seconds for n in range(4)] == [2.0, 3.0, 5.0, 5.0]
    assert sum(verdict.seconds for verdict in verdicts.values()) == clock.now


def test_time_that_a_stage_charges_itself_counts_instead() -> None:
    def work(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.VERIFIED, bound=1.0, seconds=7.0)
        yield Decision(1, Status.UNKNOWN, reason=Reason.BUDGET, seconds=9.0)

    verdicts = certify(2, Fake(work))
    assert [verdicts[n].seconds for n in (0, 1)] == [7.0, 9.0]
    assert verdicts[1].reason is Reason.BUDGET


def test_a_deadline_that_passed_ends_the_image_and_the_rest_of_it_is_passed_on() -> None:
    clock = Clock()
    left: list[float] = []

    def slow(task: Task) -> Iterator[Decision]:
        clock.now += 6.0
        yield Decision(0, Status.UNKNOWN, bound=-2.0, seconds=10.0)

    def watch(task: Task) -> Iterator[Decision]:
        left.extend(task.seconds.tolist())
        yield from ()

    room = Room(10.0, 1 << 20, CPU)
    verdicts = certify(2, Fake(slow, name="slow"), Fake(watch), room=room, clock=clock)
    assert (verdicts[0].reason, verdicts[0].stage) == (Reason.TIMEOUT, "slow")
    assert verdicts[0].bound == -2.0
    assert left == [7.0]


def test_a_task_has_time_until_its_shortest_share_is_used_up() -> None:
    clock = Clock()
    answers: list[bool] = []

    def watch(task: Task) -> Iterator[Decision]:
        for _ in range(3):
            answers.append(task.has_time())
            clock.now += 15.0
        yield from ()

    def uneven(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, bound=-1.0, seconds=9.0)

    # Image 0 has 11 of its 20 seconds left, so the two together have 22.
    room = Room(20.0, 1 << 20, CPU)
    certify(2, Fake(uneven), Fake(watch), room=room, clock=clock)
    assert answers == [True, True, False]


def test_who_is_late_after_the_last_stage_ran_out_of_time() -> None:
    clock = Clock()

    def slow(task: Task) -> Iterator[Decision]:
        clock.now += 22.0
        yield Decision(0, Status.UNKNOWN, bound=-2.0)
        yield Decision(1, Status.UNKNOWN, reason=Reason.BUDGET)

    verdicts = certify(2, Fake(slow), room=Room(10.0, 1 << 20, CPU), clock=clock)
    assert verdicts[0].seconds == 11.0
    assert [verdicts[n].reason for n in (0, 1)] == [Reason.TIMEOUT, Reason.BUDGET]


def test_who_was_in_a_task_that_had_to_hurry_is_given_more_time_if_there_is_more() -> None:
    clock = Clock()

    def uneven(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, bound=-1.0, seconds=9.0)

    def hurries(task: Task) -> Iterator[Decision]:
        while task.has_time():
            clock.now += 1.0
        yield from (Decision(n, Status.UNKNOWN, bound=-1.0) for n in range(len(task)))

    room = Room(20.0, 1 << 20, CPU)
    verdicts = certify(2, Fake(uneven), Fake(hurries), room=room, clock=clock)
    assert [verdicts[n].seconds for n in (0, 1)] == [20.0, 11.0]
    assert [verdicts[n].reason for n in (0, 1)] == [Reason.TIMEOUT, Reason.TIMEOUT]


def test_what_one_instance_of_a_purse_leaves_is_the_others() -> None:
    clock, purse = Clock(), Purse(12.0, 3)
    given: list[tuple[list[float], list[int]]] = []

    def watch(task: Task) -> Iterator[Decision]:
        assert task.group is not None
        given.append((task.seconds.tolist(), task.group.tolist()))
        yield from ()

    def early(task: Task) -> Iterator[Decision]:
        yield from watch(task)
        yield Decision(0, Status.VERIFIED, bound=1.0, seconds=1.0)
        yield Decision(1, Status.UNKNOWN, bound=-1.0, seconds=2.0)

    # Image 3 has ten seconds of its own; of the purse 9 are left to two images, not 4 + 2.
    room = Room(10.0, 1 << 20, CPU, dict.fromkeys(range(3), purse))
    verdicts = certify(4, Fake(early), Fake(watch), room=room, clock=clock)
    assert given == [([4.0, 4.0, 4.0, 10.0], [2, 2, 2, 3]), ([4.5, 4.5, 10.0], [1, 1, 2])]
    assert verdicts[0].status is Status.VERIFIED
    assert verdicts[1].reason is Reason.NOT_DECIDED


def test_the_instances_of_a_purse_that_is_closed_are_given_up() -> None:
    purse = Purse(12.0, 2)

    def close(task: Task) -> Iterator[Decision]:
        purse.close()
        yield from ()

    later = Fake(verify(0, 1, 2))
    room = Room(10.0, 1 << 20, CPU, {0: purse, 2: purse})
    verdicts = certify(3, Fake(close), later, room=room)
    assert later.seen == [(1,)]
    assert [verdicts[n].reason for n in (0, 2)] == [Reason.TIMEOUT, Reason.TIMEOUT]


@pytest.mark.parametrize(
    ("bounds", "best"), [((-5.0, -1.0, -3.0), -1.0), ((0.0, -1.0), 0.0), ((-1.0, 0.0, -3.0), 0.0)]
)
def test_the_best_bound_of_all_stages_is_kept(bounds: tuple[float, ...], best: float) -> None:
    def say(bound: float) -> Callable[[Task], Iterator[Decision]]:
        return lambda task: iter([Decision(0, Status.UNKNOWN, bound=bound)])

    (verdict,) = certify(1, *(Fake(say(bound)) for bound in bounds)).values()
    assert verdict.bound == best


def test_a_finite_bound_takes_back_that_none_was_found() -> None:
    def nothing(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, reason=Reason.NOT_FINITE)

    def something(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, bound=-1.0)

    (verdict,) = certify(1, Fake(nothing), Fake(something)).values()
    assert verdict.reason is Reason.NOT_DECIDED


def test_images_that_another_process_decided_are_let_go() -> None:
    second = Fake(verify(1))
    verdicts = certify(3, Fake(verify()), second, elsewhere=[set(), {0, 2}])
    assert second.seen == [(1,)]
    assert list(verdicts) == [1]


def test_counterexamples_and_learned_bounds_are_passed_on() -> None:
    recalled: list[Learned | None] = []
    point = torch.tensor([0.5, 0.5, 0.5])

    def learn(task: Task) -> Iterator[Decision]:
        lower = torch.arange(3, dtype=torch.float64).reshape(3, 1)
        task.knowledge.remember(task.indices, Learned(NodeBounds({1: lower}, {1: lower + 1})))
        yield Decision(
            1, Status.FALSIFIED, counterexample=Counterexample(point, torch.zeros(2), -1.0)
        )

    def use(task: Task) -> Iterator[Decision]:
        recalled.append(task.knowledge.recall(task.indices))
        recalled.append(task.knowledge.recall([1]))
        yield from ()

    verdicts = certify(3, Fake(learn), Fake(use))
    assert verdicts[1].counterexample is not None
    assert recalled[0] is not None
    assert recalled[0].bounds.lower[1].flatten().tolist() == [0.0, 2.0]
    assert recalled[1] is None


def test_observers_are_told_in_order() -> None:
    notes = Notes()
    certify(3, Fake(verify(1), name="a"), Fake(verify(), name="b"), observer=Observers([notes]))
    assert notes.events == [
        ("a", 3),
        (1, Status.VERIFIED),
        ("a", "looked", 3),
        ("b", 2),
        ("b", "looked", 2),
        (0, Status.UNKNOWN),
        (2, Status.UNKNOWN),
    ]

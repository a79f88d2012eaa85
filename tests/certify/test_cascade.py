"""The cascade around any stages: order, memory, exceptions, evidence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.certify.cascade import Cascade, CascadeLimits
from verify_pipeline.certify.contract import Observer, Observers, Task
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.knowledge import Learned
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import LedgerError, UnsupportedOperatorError
from verify_pipeline.problem import Counterexample, Decision, Reason, Status, Verdict

CPU = torch.device("cpu")
Verdicts = dict[int, Verdict]
Stages = Callable[..., Any]


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


def test_each_stage_is_given_what_the_ones_before_left_open(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    first, second, third = fake(verify(0, 2)), fake(verify(1)), fake(verify(), name="last")
    verdicts = certify(4, first, second, third)
    assert (first.seen, second.seen, third.seen) == ([(0, 1, 2, 3)], [(1, 3)], [(3,)])
    assert [verdicts[n].status for n in (0, 1, 2)] == [Status.VERIFIED] * 3
    assert (verdicts[3].reason, verdicts[3].stage) == (Reason.NOT_DECIDED, "last")


def test_a_verdict_says_what_each_stage_did(certify: Callable[..., Verdicts], fake: Stages) -> None:
    def bound(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, bound=-2.0, seconds=0.5)

    verdicts = certify(1, fake(bound), fake(verify(), name="last"))
    first, last = verdicts[0].stages
    assert (first.stage, first.seconds, first.bound) == ("fake", 0.5, -2.0)
    assert (last.stage, last.bound) == ("last", None)
    assert first.seconds + last.seconds == pytest.approx(verdicts[0].seconds)


def test_stages_that_have_nothing_left_are_not_run(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    later = fake(verify())
    certify(2, fake(verify(0, 1)), later)
    assert later.seen == []


def test_tasks_fit_in_memory_and_are_as_large_as_their_stage_likes(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    heavy, small = fake(verify(), bytes_per_instance=400), fake(verify(), largest_task=4)
    everything = fake(verify())
    certify(10, heavy, small, everything, room=CascadeLimits(100.0, memory=1000, device=CPU))
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
def test_memory_that_runs_out_halves_the_task_until_it_fits(
    error: Exception, certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def work(task: Task) -> Iterator[Decision]:
        if len(task) > 2:
            raise error
        yield from verify(*range(10))(task)

    stage = fake(work)
    verdicts = certify(10, stage)
    assert [len(task) for task in stage.seen] == [10, 5, 2, 2, 2, 2, 2]
    assert all(verdict.status is Status.VERIFIED for verdict in verdicts.values())


def test_an_instance_too_big_alone_is_unknown_for_memory_and_the_rest_goes_on(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def work(task: Task) -> Iterator[Decision]:
        if 1 in task.indices:
            raise MemoryError
        yield from verify(0, 2, 3)(task)

    verdicts = certify(4, fake(work))
    assert verdicts[1].reason is Reason.MEMORY
    assert [verdicts[n].status for n in (0, 2, 3)] == [Status.VERIFIED] * 3


def test_what_was_decided_before_memory_ran_out_stays_decided(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def work(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.VERIFIED, bound=1.0)
        if len(task) > 1:
            raise MemoryError

    stage, notes = fake(work), Notes()
    verdicts = certify(4, stage, observer=notes)
    assert stage.seen == [(0, 1, 2, 3), (1,), (2,), (3,)]
    assert len(verdicts) == 4
    looked = [event[2] for event in notes.events if event[1] == "looked"]
    assert looked == [1, 1, 1, 1]  # every image once


def test_an_exception_leaves_its_images_open_and_the_run_goes_on(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    broken, later = fake(fail(ValueError("bad luck")), name="broken"), fake(verify(1), name="later")
    verdicts = certify(2, broken, later)
    assert verdicts[1].status is Status.VERIFIED
    assert (verdicts[0].reason, verdicts[0].detail) == (
        Reason.ERROR,
        "broken: ValueError: bad luck",
    )


def test_an_operator_that_cannot_be_bounded_is_unsupported(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    (verdict,) = certify(1, fake(fail(UnsupportedOperatorError("Softmax")))).values()
    assert verdict.reason is Reason.UNSUPPORTED
    assert "Softmax" in verdict.detail


@pytest.mark.parametrize("bound", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_claim_without_evidence_is_no_verdict(
    bound: float | None, certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def work(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.VERIFIED, bound=bound)

    (verdict,) = certify(1, fake(work)).values()
    assert verdict.reason is Reason.ERROR
    assert "without evidence" in verdict.detail


def test_an_error_of_the_ledger_ends_the_run(fake: Stages, clock: Any) -> None:
    toy = ImageSet("toy", "test", torch.rand(1, 3), torch.zeros(1, dtype=torch.int64), 2)

    def sink(index: int, verdict: Verdict) -> None:
        raise LedgerError("disk full")

    cascade = Cascade(
        RobustImages(toy, [0], LinfBall(0.1)),
        [fake(verify(0))],
        CascadeLimits(1.0, 1, CPU),
        sink,
        Observer(),
        clock,
    )
    with pytest.raises(LedgerError, match="disk full"):
        cascade.run([0])


@pytest.mark.parametrize(
    ("bounds", "best"), [((-5.0, -1.0, -3.0), -1.0), ((0.0, -1.0), 0.0), ((-1.0, 0.0, -3.0), 0.0)]
)
def test_the_best_bound_of_all_stages_is_kept(
    bounds: tuple[float, ...], best: float, certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def say(bound: float) -> Callable[[Task], Iterator[Decision]]:
        return lambda task: iter([Decision(0, Status.UNKNOWN, bound=bound)])

    (verdict,) = certify(1, *(fake(say(bound)) for bound in bounds)).values()
    assert verdict.bound == best


def test_a_finite_bound_takes_back_that_none_was_found(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def nothing(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, reason=Reason.NOT_FINITE)

    def something(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, bound=-1.0)

    (verdict,) = certify(1, fake(nothing), fake(something)).values()
    assert verdict.reason is Reason.NOT_DECIDED


def test_images_that_another_process_decided_are_let_go(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    second = fake(verify(1))
    verdicts = certify(3, fake(verify()), second, elsewhere=[set(), {0, 2}])
    assert second.seen == [(1,)]
    assert list(verdicts) == [1]


def test_counterexamples_and_learned_bounds_are_passed_on(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
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

    verdicts = certify(3, fake(learn), fake(use))
    assert verdicts[1].counterexample is not None
    assert recalled[0] is not None
    assert recalled[0].bounds.lower[1].flatten().tolist() == [0.0, 2.0]
    assert recalled[1] is None


def test_observers_are_told_in_order(certify: Callable[..., Verdicts], fake: Stages) -> None:
    notes = Notes()
    certify(3, fake(verify(1), name="a"), fake(verify(), name="b"), observer=Observers([notes]))
    assert notes.events == [
        ("a", 3),
        (1, Status.VERIFIED),
        ("a", "looked", 3),
        ("b", 2),
        ("b", "looked", 2),
        (0, Status.UNKNOWN),
        (2, Status.UNKNOWN),
    ]


def test_an_exception_is_tried_in_halves_until_its_image_is_alone(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def work(task: Task) -> Iterator[Decision]:
        if 5 in task.indices:
            raise ValueError("image 5")
        yield from verify(*range(10))(task)

    @dataclass
    class Traces(Notes):
        traces: list[tuple[int, str, str]] = field(default_factory=list)

        def raised(self, index: int, stage: str, trace: str) -> None:
            self.traces.append((index, stage, trace.splitlines()[-1]))

    stage, notes = fake(work), Traces()
    verdicts = certify(10, stage, observer=notes)
    halves = [tuple(range(10)), (0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (5, 6, 7), (5, 6)]
    assert stage.seen == [*halves, (5,), (6,), (7,), (8, 9)]
    assert (verdicts[5].reason, verdicts[5].detail) == (Reason.ERROR, "fake: ValueError: image 5")
    assert all(verdicts[n].status is Status.VERIFIED for n in range(10) if n != 5)
    assert notes.traces == [(5, "fake", "ValueError: image 5")]
    assert sum(event[2] for event in notes.events if event[1] == "looked") == 10  # type: ignore[misc]


def test_tasks_stay_small_after_memory_ran_out_also_behind_an_exception(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def work(task: Task) -> Iterator[Decision]:
        if len(task) > 4:
            raise ValueError("first")
        if len(task) > 1:
            raise MemoryError
        yield from verify(*range(8))(task)

    stage = fake(work)
    verdicts = certify(8, stage)
    assert [len(task) for task in stage.seen[:3]] == [8, 4, 4]
    assert all(verdict.status is Status.VERIFIED for verdict in verdicts.values())


def test_memory_that_really_runs_out_makes_tasks_smaller(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def work(task: Task) -> Iterator[Decision]:
        if len(task) > 3:
            torch.empty(1 << 50)  # more than any machine has: torch's allocator refuses
        yield from verify(*range(8))(task)

    stage = fake(work)
    verdicts = certify(8, stage)
    assert [len(task) for task in stage.seen] == [8, 4, 2, 2, 2, 2]
    assert all(verdict.status is Status.VERIFIED for verdict in verdicts.values())

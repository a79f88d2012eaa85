"""Counts, rates and times of a certification, by a clock that goes on when it is told to."""

import io
from collections.abc import Sequence

import torch
from rich.console import Console

from verify_pipeline.certify.job_plan import JobPlan, Sample
from verify_pipeline.certify.records import Run, RunInfo
from verify_pipeline.problem import Counterexample, Reason, StageResult, Status, Verdict
from verify_pipeline.reporting import ProgressBars
from verify_pipeline.reporting.certification_state import CertificationState
from verify_pipeline.reporting.durations import TimeRange
from verify_pipeline.reporting.progress import footer
from verify_pipeline.reporting.progress_lines import MINUTE, ProgressLines, left_text

STAGES = ("clean", "crown", "branch-and-bound")
INFO = RunInfo(Run("0" * 64, "mnist", "test", "linf 0.1", "margins", "1"), "net", 0.1, "{}")
POINT = Counterexample(torch.zeros(1), torch.tensor([1.0, 0.0]), -1.0)


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def verified(stage: str, seconds: float = 0.0) -> Verdict:
    return Verdict(Status.VERIFIED, stage, seconds, bound=1.0)


def falsified(stage: str) -> Verdict:
    return Verdict(Status.FALSIFIED, stage, 0.0, counterexample=POINT)


def open_(stage: str) -> Verdict:
    return Verdict(Status.UNKNOWN, stage, 0.0, reason=Reason.TIMEOUT)


def begun(
    state: CertificationState, images: int, stages: Sequence[str] = STAGES, done: int = 0
) -> None:
    state.planned(JobPlan(INFO, tuple(stages), 10.0))
    state.started(images, done)
    state.stage_started(stages[0], images - done)


def test_images_that_the_clean_check_falsifies_are_wrong() -> None:
    state = CertificationState(Clock())
    begun(state, 10, done=3)
    state.decided(0, falsified("clean"))
    state.stage_started("crown", 6)
    for index, verdict in enumerate((verified("crown"), falsified("attack"), open_("crown")), 1):
        state.decided(index, verdict)
    assert dict(state.counts) == {"wrong": 1, "verified": 1, "falsified": 1, "undecided": 1}
    assert dict(state.stages[0].counts) == {"wrong": 1}
    assert state.open == 3
    assert footer(state).splitlines()[0] == "1 verified, 1 falsified, 1 wrong, 1 undecided, 3 open"


def test_before_the_first_batch_nothing_is_known() -> None:
    clock = Clock()
    state = CertificationState(clock)
    begun(state, 100)
    clock.now = 50.0
    assert state.stage is not None
    assert (state.stage.rate, state.left()) == ("", None)
    assert left_text(state) == "not known before the first batch"


def test_a_cheap_stage_says_nothing_of_later_ones() -> None:
    """20 of 100 images in 2 s: 8 s are left of this stage, and 6 one second later."""
    clock = Clock()
    state = CertificationState(clock)
    begun(state, 100)
    clock.now = 2.0
    state.looked_at("clean", 20)
    assert state.stage is not None
    assert state.stage.rate == "10/s"
    assert state.left() == TimeRange(8.0)
    clock.now = 3.0
    assert state.stage.rate == "10/s"  # that of whole batches
    assert state.left() == TimeRange(7.0)
    assert left_text(state) == "about 7 s of clean; later stages not known yet"
    clock.now = 30.0
    assert state.left() == TimeRange(0.1)  # late: one image's time at least


def test_a_search_has_a_range_and_all_time_is_charged() -> None:
    """4 images of 10 s: the open ones may take what is not charged yet, and no more."""
    clock = Clock()
    state = CertificationState(clock)
    begun(state, 4, ["branch-and-bound"])
    assert state.left() == TimeRange(0.0, 40.0)
    clock.now = 4.0
    state.decided(0, verified("branch-and-bound", 1.0))  # 3 s are charged to the others
    assert state.limit == 27.0
    assert state.left() == TimeRange(3.0, 27.0)  # one image in the last second
    clock.now = 12.0
    assert state.left() == TimeRange(0.0, 19.0)  # none in the last 3 seconds
    assert left_text(state) == "at most 19 s"
    for index in (1, 2, 3):
        state.decided(index, open_("branch-and-bound"))
    assert state.left() == TimeRange(0.0, 0.0)


def test_a_stage_is_as_far_as_its_verdicts_where_its_task_is_not_done() -> None:
    state = CertificationState(Clock())
    begun(state, 4, ["branch-and-bound"])
    state.decided(0, verified("branch-and-bound"))
    assert state.stage is not None
    assert state.stage.done == 1
    state.decided(1, verified("branch-and-bound"))
    state.looked_at("branch-and-bound", 4)
    assert state.stage.done == 4


def test_a_sample_tells_the_whole() -> None:
    """100 images by 25 of 2 s each without deviation: 200 s in all."""
    clock, lines = Clock(), list[str]()
    state = ProgressLines(lines.append, clock)
    state.planned(JobPlan(INFO, STAGES, 10.0, Sample(25, 2.0, 0.0)))
    state.started(100, 0)
    state.stage_started("clean", 100)
    clock.now = 1.0
    state.looked_at("clean", 50)
    assert state.left() == TimeRange(199.0, 199.0)
    assert left_text(state) == "about 3.3 min, by a sample"
    assert lines == [
        "expected: about 3.3 min for 100 images, if none is harder than the 25 that were certified "
        "before"
    ]


def test_lines_are_one_a_stage_and_one_a_minute() -> None:
    clock, lines = Clock(), list[str]()
    state = ProgressLines(lines.append, clock)
    begun(state, 40, done=10)
    assert lines.pop() == "10 of 40 images are decided already."
    clock.now = 2.0
    state.looked_at("clean", 10)
    assert lines.pop().startswith("expected: not known yet for 30 images")
    state.looked_at("clean", 20)
    for index in range(3):
        state.decided(index, falsified("clean"))
    state.stage_started("crown", 27)
    assert lines.pop() == "clean: 30 images in 2 s (15/s): 3 wrong"
    state.tick()
    clock.now = 2.0 + MINUTE
    state.looked_at("crown", 9)
    assert lines.pop() == "crown: about 2 min expected for 27 images"
    clock.now += MINUTE - 1
    state.tick()
    assert not lines
    clock.now += 1
    state.tick()
    state.tick()
    assert lines == [
        "crown: 9 of 27 images, 9/min; time left: about 60 s of crown; later stages not known yet"
    ]
    state.finished()
    assert lines[1:] == ["crown: 27 images in 2 min (14/min): none decided"]
    clock.now += 2 * MINUTE
    state.tick()
    assert len(lines) == 2


def charged(stage: str, **seconds: float) -> Verdict:
    """Verified by a stage, after seconds in some stages."""
    stages = tuple(StageResult(name, each, None) for name, each in seconds.items())
    return Verdict(Status.VERIFIED, stage, sum(seconds.values()), bound=1.0, stages=stages)


def overlapping(state: CertificationState) -> None:
    """Six images in batches of four and two: one is decided by clean, two by crown."""
    state.planned(JobPlan(INFO, ("clean", "crown"), 10.0, stages_overlap=True))
    state.started(10, 4)
    state.stage_started("clean", 4)
    state.decided(0, falsified("clean"))
    state.looked_at("clean", 1)
    state.stage_started("crown", 3)
    state.looked_at("clean", 3)
    state.stage_started("clean", 2)
    for index in (1, 2):
        state.decided(index, charged("crown", clean=0.5, crown=2.0))
        state.looked_at("crown", 1)


def test_stages_that_overlap_are_counted_by_name() -> None:
    clock = Clock()
    state = CertificationState(clock)
    overlapping(state)
    clean, crown = state.stages
    assert (clean.images, clean.done, dict(clean.counts)) == (6, 4, {"wrong": 1})
    assert (crown.images, crown.done, dict(crown.counts)) == (3, 2, {"verified": 2})
    assert (clean.seconds, crown.seconds) == (1.0, 4.0)
    assert state.stage is not None
    assert (state.stage.name, state.stage.done, state.stage.images) == ("all stages", 3, 6)
    assert state.waiting == ()
    assert state.left() == TimeRange(0.0, 30.0)  # three images of 10 s are open
    assert left_text(state) == "at most 30 s"


def test_lines_of_stages_that_overlap_are_told_at_the_end() -> None:
    clock, lines = Clock(), list[str]()
    state = ProgressLines(lines.append, clock)
    overlapping(state)
    assert lines == ["4 of 10 images are decided already."]
    clock.now = MINUTE
    state.tick()
    assert lines[1].startswith("all stages: 3 of 6 images")
    assert lines[1].endswith("(clean 4/6, crown 2/3)")
    state.finished()
    assert lines[2:] == [
        "clean: 6 images in 1 s of all workers (6/s): 1 wrong",
        "crown: 3 images in 4 s of all workers (45/min): 2 verified",
    ]
    assert all(stage.ended == clock.now for stage in state.stages)


def test_bars_of_stages_that_overlap_grow() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with ProgressBars(console) as bars:
        overlapping(bars)
        bars.finished()
    last = out.getvalue().rpartition("clean ")[2]
    assert "4/6" in last
    assert "2/3" in last
    assert "2 verified, 0 falsified, 1 wrong, 0 undecided, 3 open" in last


def test_the_bars_of_a_terminal_fit_80_columns() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with ProgressBars(console) as bars:
        begun(bars, 10_000)
        for index in range(27):
            bars.decided(index, falsified("clean"))
        bars.looked_at("clean", 10_000)
        bars.stage_started("branch-and-bound", 9_973)
        bars.decided(27, verified("branch-and-bound"))
        bars.decided(28, falsified("branch-and-bound"))
        bars.finished()
    last = out.getvalue().rpartition("clean ")[2]
    assert "27 wrong" in last
    assert "2/9973" in last
    assert "1 verified, 1 falsified" in last
    assert all(len(line) <= 80 for line in last.splitlines())

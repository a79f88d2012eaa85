"""docs/ablations.md: one row for each mechanism."""

from __future__ import annotations

from dataclasses import dataclass

from against.tasks import Job

from ablating.measuring import ALL_ON, Measured
from ablating.mechanisms import MECHANISMS, Mechanism

WORTH = 0.1
"""The share of a task's time that a mechanism has to save there."""

LEAST_SECONDS = 0.5
"""What it has to save in any case: less is noise."""

HEAD = """# What each mechanism brings

Every mechanism is turned off in turn; everything else stays on. A mechanism *helps* in a task where
fewer instances are decided without it, or as many in at least {worth:.0%} more processor time (and
{least:g} s more). It is *worse* where that is the other way round. Tasks in which it has no part
are left out. Seconds, deadlines too, are processor time of one thread; an instance that is not
decided takes all of its time. What differs between both passes with everything on is noise; – is
not measured.

    {command}
"""


@dataclass(frozen=True)
class Effect:
    """A mechanism in a task.

    Attributes:
        task: number, from 1.
        decided: instances, with it and without it.
        seconds: likewise.
    """

    task: int
    decided: tuple[int, int]
    seconds: tuple[float, float]

    @property
    def helps(self) -> bool:
        """Whether something is decided, or a tenth of the time is saved."""
        gained, saved = self.decided[0] - self.decided[1], self.seconds[1] - self.seconds[0]
        return gained > 0 or (gained == 0 and saved > max(LEAST_SECONDS, WORTH * self.seconds[0]))

    @property
    def hurts(self) -> bool:
        """Whether it is the other way round."""
        return Effect(self.task, self.decided[::-1], self.seconds[::-1]).helps


def effects(measured: Measured, mechanism: Mechanism) -> list[Effect]:
    """What a mechanism does in the tasks that were measured without it."""
    found = []
    for number, job in enumerate(measured.jobs, 1):
        without = measured.read(mechanism.name, job)
        twice = [one for name in ALL_ON if (one := measured.read(name, job)) is not None]
        if without is not None and twice:
            seconds = sum(one.seconds for one in twice) / len(twice)
            decided = max(one.decided for one in twice)
            pair = (seconds, without.seconds)
            found.append(Effect(number, (decided, without.decided), pair))
    return found


def page(measured: Measured, command: str) -> str:
    """Everything as Markdown."""
    head = HEAD.format(worth=WORTH, least=LEAST_SECONDS, command=command)
    commits = ", ".join(sorted(measured.commits()))
    return "\n".join(
        [head, *_tasks(measured), "", *_mechanisms(measured), "", f"Commit {commits}.", ""]
    )


def _tasks(measured: Measured) -> list[str]:
    rows = ["| task | instances | decided | seconds | again |", "|---|---:|---:|---:|---:|"]
    for number, job in enumerate(measured.jobs, 1):
        first, again = (measured.read(name, job) for name in ALL_ON)
        if first is not None:
            second = "–" if again is None else f"{again.seconds:.1f}"
            counts = f"{len(first.answers)} | {first.decided} | {first.seconds:.1f} | {second}"
            rows.append(f"| {number}. {_called(job)} | {counts} |")
    return rows


def _called(job: Job) -> str:
    name, _, _ = job.name.partition(", tuned")
    return name


def _mechanisms(measured: Measured) -> list[str]:
    rows = [
        "| mechanism | from | lines | helps in | worse in | decided with, without "
        "| seconds with, without | in the task where it matters most |",
        "|---|---|---:|---|---|---:|---:|---|",
    ]
    for mechanism in MECHANISMS:
        found = effects(measured, mechanism)
        lines = str(mechanism.lines) if mechanism.files else "–"
        start = f"| {mechanism.name} | {mechanism.paper or 'this package'} | {lines}"
        if not found:
            rows.append(f"{start} | not measured | | | | |")
            continue
        helps = ", ".join(str(one.task) for one in found if one.helps) or "none"
        hurts = ", ".join(str(one.task) for one in found if one.hurts) or "none"
        decided = [sum(one.decided[i] for one in found) for i in range(2)]
        seconds = [sum(one.seconds[i] for one in found) for i in range(2)]
        rows.append(
            f"{start} | {helps} of {len(found)} | {hurts} | {decided[0]}, {decided[1]} "
            f"| {seconds[0]:.0f}, {seconds[1]:.0f} | {_most(found)} |"
        )
    return rows


def _most(found: list[Effect]) -> str:
    """The task that gains most instances, then most time."""

    def gain(one: Effect) -> tuple[int, float]:
        return one.decided[0] - one.decided[1], one.seconds[1] / one.seconds[0]

    best = max(found, key=gain)
    decided, seconds = best.decided, best.seconds
    told = f"{decided[0]} against {decided[1]}, {seconds[0]:.1f} s against {seconds[1]:.1f} s"
    return f"{best.task}: {told}"

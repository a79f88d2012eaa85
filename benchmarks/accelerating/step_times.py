"""Parts: seconds of a training step; and of the variants that may be faster."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from stepping import authors_step
from stepping.clock import Timing, clock_of, timed
from stepping.package_step import PackageStep
from stepping.plain_work import PlainWork, Work
from stepping.subject import Subject

from accelerating.arithmetic import FLOAT32, TF32, Arithmetic
from accelerating.job import Job, Record, noting_errors
from accelerating.variants import VARIANTS
from verify_pipeline import losses
from verify_pipeline.training.settings import LossName

LAST, FIRST = torch.channels_last, torch.contiguous_format
ORDERS = {LAST: "channels last", FIRST: "channels first"}
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    loss: LossName
    batch: int
    arithmetic: Arithmetic
    order: torch.memory_format = LAST

    @property
    def names(self) -> dict[str, Any]:
        """The row's first columns."""
        return {
            "loss": self.loss,
            "batch": self.batch,
            "arithmetic": self.arithmetic.name,
            "memory": ORDERS[self.order],
        }


def step_times(job: Job, record: Record) -> None:
    """Each loss: the package's step, the plain work in it, and the authors' step."""
    record.remark(
        f"Milliseconds: medians of {job.sizes.repeats} steps, {clock_of(job.device).unit}. The "
        "authors' step has images and weights channels first, as their code has."
    )
    in_time(job, record, cases(job), lambda case: record.row(**measured(job, case)))


def cases(job: Job) -> Iterator[Case]:
    """The most wanted first."""
    first = job.sizes.losses[0]
    for batch in job.sizes.batches:
        yield Case(first, batch, TF32)
        yield Case(first, batch, FLOAT32)
    for batch in job.sizes.batches:
        for loss in job.sizes.losses[1:]:
            yield Case(loss, batch, TF32)
    for batch in job.sizes.batches:
        yield Case(first, batch, TF32, FIRST)
        for loss in job.sizes.losses[1:]:
            yield Case(loss, batch, FLOAT32)


def in_time(
    job: Job, record: Record, cases: Iterator[Case], measure: Callable[[Case], None]
) -> None:
    """Measure case by case while there is time for one as long as the longest so far."""
    longest, left_out = 0.0, 0
    for case in cases:
        if job.left < longest:
            left_out += 1
            continue
        started = time.monotonic()
        with noting_errors(record, **case.names):
            measure(case)
        longest = max(longest, time.monotonic() - started)
    if left_out:
        record.remark(f"{left_out} cases were left out: their time was over.")


def measured(job: Job, case: Case) -> dict[str, Any]:
    """The row of a case."""
    size = replace(job.sizes.step, batch=case.batch)
    with case.arithmetic.used():
        subject = Subject.made(size, job.device, case.order)
        own = _timed(job, PackageStep(subject, case.loss))
        work = Work.of(losses.get(case.loss), size.attack.steps, size.classes)
        plain = _timed(job, PlainWork(subject.module, subject.images, work)).median
        theirs = None
        if case.loss in authors_step.LOSSES:
            other = Subject.made(size, job.device, FIRST)
            theirs = _timed(job, authors_step.AuthorsStep(other, case.loss)).median
    return {
        **case.names,
        "step (ms)": own.median * 1e3,
        "plain work (ms)": plain * 1e3,
        "step / plain": own.median / plain,
        "authors' step (ms)": None if theirs is None else theirs * 1e3,
        "authors' / step": None if theirs is None else theirs / own.median,
        "images a second": case.batch / own.median,
        "peak (MiB)": own.peak / MIB,
    }


def variant_times(job: Job, record: Record) -> None:
    """Each variant of the most wanted loss's step, against the step as it is."""
    loss = job.sizes.losses[0]
    record.remark(
        "A CUDA graph replays the whole step (loss, backward, clipping, Adam) with one ε and α; "
        "bfloat16 is used by the attack alone. No training of this package uses them yet."
    )
    usual: dict[int, float] = {}
    for name, make in VARIANTS.items():
        for batch in job.sizes.batches:
            row = {"variant": name, "loss": loss, "batch": batch}
            if job.left < 0:
                record.row(**row, error="left out: the time was over")
                continue
            with noting_errors(record, **row), TF32.used():
                size = replace(job.sizes.step, batch=batch)
                subject = Subject.made(size, job.device, LAST)
                own = _timed(job, make(subject, loss, job.sizes.backend))
                first = usual.setdefault(batch, own.median)
                record.row(**row, **_numbers(own, batch, first))


def _numbers(own: Timing, batch: int, usual: float) -> dict[str, float]:
    return {
        "step (ms)": own.median * 1e3,
        "usual / variant": usual / own.median,
        "images a second": batch / own.median,
        "peak (MiB)": own.peak / MIB,
    }


def _timed(job: Job, run: Callable[[], object]) -> Timing:
    gc.collect()  # what earlier cases left, in cycles, is no memory of this one
    return timed(clock_of(job.device), run, job.sizes.warm_ups, job.sizes.repeats)

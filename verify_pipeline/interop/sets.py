"""Whole sets of VNN-COMP: each network is read once, its properties are decided in batches.

With several workers, each decides one instance at a time instead (``set_workers.py``). The results
file has one line for each finished instance, so that an interrupted run continues.
Every new result rewrites the whole file.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.settings import Plan
from verify_pipeline.certify.versions import versions
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.interop.answers import Decided
from verify_pipeline.interop.counterexamples import write_counterexample
from verify_pipeline.interop.instance_list import Answer, Key, Reference, SetInstance, rows_of
from verify_pipeline.interop.set_decisions import decide_instances
from verify_pipeline.interop.set_workers import SetWorkerJob, decide_by_workers
from verify_pipeline.interop.text_files import read_network
from verify_pipeline.network.arithmetic import ARITHMETICS
from verify_pipeline.onnx import Network
from verify_pipeline.ray_cluster import Cluster

COLUMNS = ("onnx", "vnnlib", "result", "seconds", "detail")

AS_DEPLOYED = (*COLUMNS, "arithmetic")
"""Columns of results about every evaluation in an arithmetic."""

REAL = "real numbers"

BATCH = 64
"""Properties of a network decided together, at most; an interruption may lose this many."""


@dataclass(frozen=True)
class Result:
    """One line of a results file.

    Attributes:
        answer: sat, unsat, timeout or unknown.
        seconds: charged to the instance.
        detail: why it is unknown, where there is more to say.
        arithmetic: unsat is about every evaluation of the file in it; empty: about real numbers.
    """

    answer: Answer
    seconds: float
    detail: str = ""
    arithmetic: str = ""


@dataclass(frozen=True)
class SetJob:
    """How a set is run.

    Attributes:
        results: the results file; continued where it is there.
        counterexamples: the folder that counterexample files go into; None: none are written.
        plan: makes the plan for a number of seconds.
        seconds: for each instance; None: as the set's list says.
        device: where bounds and attacks are computed.
        check_parity: whether each network that is read is compared with onnxruntime.
        retry: whether instances that the results file has as timeout or unknown are tried again.
        workers: processes that decide, 1: this one alone; or a cluster.

    Raises:
        ConfigError: no process.
    """

    results: Path
    counterexamples: Path | None
    plan: Callable[[float], Plan]
    seconds: float | None = None
    device: torch.device | str = "cpu"
    check_parity: bool = True
    retry: bool = False
    workers: int | Cluster = 1

    def __post_init__(self) -> None:
        if isinstance(self.workers, int) and self.workers < 1:
            raise ConfigError("--jobs", expected="at least 1", got=str(self.workers))

    @cached_property
    def arithmetic(self) -> str:
        """In which every evaluation of a file has to have the property; empty: real numbers."""
        return self.plan(self.seconds or 1.0).arithmetic

    def seconds_of(self, instance: SetInstance) -> float:
        """What an instance may take."""
        return self.seconds or instance.timeout


def run_set(
    instances: Sequence[SetInstance],
    job: SetJob,
    progress: Callable[[Key, Result], None] = lambda key, result: None,
) -> dict[Key, Result]:
    """Decide the instances of a set that have no result yet.

    A network or a property that cannot be used makes its instances unknown, with the reason.

    Args:
        instances: of the set.
        job: how.
        progress: is told each new result.

    Returns:
        The results of all instances, in their order.

    Raises:
        ConfigError: the results file is about another arithmetic.
        DataError: the results file is of another form, or cannot be written.
        ProcessError: workers cannot be started.
    """
    is_new = not job.results.exists()
    results = {} if is_new else read_results(job.results)
    _refuse_other_arithmetic(job, results)
    write_results(job.results, results)  # an unwritable path is reported at once
    if is_new:  # and nothing is left behind where workers cannot be started
        job.results.unlink()
    open_ = [one for one in instances if is_open(results.get(one.key), job.retry)]

    def keep(instance: SetInstance, one: Decided) -> None:
        _keep_counterexample(instance, one, job.counterexamples)
        result = Result(one.answer, one.seconds, one.detail, job.arithmetic)
        results[instance.key] = result
        write_results(job.results, results)
        progress(instance.key, result)

    if job.workers == 1:
        for group in _batches(open_, job):
            plan = job.plan(job.seconds_of(group[0]))
            decide_instances(group, plan, job.device, partial(_read, job), keep)
    else:
        ordered = [one for group in _batches(open_, job) for one in group]
        decide_by_workers(ordered, _worker_job(ordered, job), job.workers, keep)
    write_results(job.results, results)
    return {one.key: results[one.key] for one in instances}


def _refuse_other_arithmetic(job: SetJob, results: Mapping[Key, Result]) -> None:
    """Results of one file are about one arithmetic, or about real numbers."""
    others = {one.arithmetic for one in results.values()} - {job.arithmetic}
    if others:
        raise ConfigError(
            f"--out {job.results}",
            expected=f"results about {job.arithmetic or REAL}",
            got=f"a file about {min(others) or REAL}",
            remedy="Name another file, or give --arithmetic as that file has it.",
        )


def is_open(result: Result | None, retry: bool) -> bool:
    """Whether an instance with that result, or none, is to be decided."""
    return result is None or (retry and result.answer not in (Answer.SAT, Answer.UNSAT))


def read_results(path: Path) -> dict[Key, Result]:
    """The results in a file that :func:`write_results` wrote.

    Raises:
        DataError: it cannot be read, or is of another form.
    """
    rows = list(rows_of(path))
    columns = tuple(rows[0][1]) if rows else ()
    if columns not in (COLUMNS, AS_DEPLOYED):
        raise DataError(
            f"results file {path}",
            expected=f"columns {', '.join(COLUMNS)}",
            got=", ".join(columns) if rows else "an empty file",
            remedy="Name another file for the results.",
        )
    results = {}
    for line, row in rows[1:]:
        if len(row) != len(columns):
            raise DataError(
                f"{path.name}, line {line}",
                expected=f"{len(columns)} columns",
                got=str(len(row)),
                remedy="Restore the file from a copy, or delete the line to decide it again.",
            )
        key, result = _result_of(row, f"{path.name}, line {line}")
        if key in results:
            raise DataError(
                f"{path.name}, line {line}",
                expected="an instance that no line before it has",
                got=f"{key.onnx} {key.vnnlib} once more",
                remedy="Restore the file from a copy, or delete both lines to decide it again.",
            )
        results[key] = result
    return results


def _result_of(row: Sequence[str], place: str) -> tuple[Key, Result]:
    onnx, vnnlib, answer, seconds, detail, *deployed = row
    try:
        result = Result(Answer(answer), float(seconds), detail, *deployed)
    except ValueError as error:
        raise DataError(place, expected="a result", got=str(error)) from None
    if not 0 <= result.seconds < math.inf:
        raise DataError(place, expected="seconds from 0", got=seconds)
    if deployed and result.arithmetic not in ARITHMETICS:
        known = " or ".join(ARITHMETICS)
        raise DataError(place, expected=f"arithmetic {known}", got=repr(result.arithmetic))
    return Key(onnx, vnnlib), result


def write_results(path: Path, results: Mapping[Key, Result]) -> Path:
    """Write a results file, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    deployed = any(one.arithmetic for one in results.values())
    writer.writerow(AS_DEPLOYED if deployed else COLUMNS)
    for key, one in results.items():
        cells = [key.onnx, key.vnnlib, one.answer.value, f"{one.seconds:.3f}", one.detail]
        writer.writerow([*cells, one.arithmetic] if deployed else cells)
    return write_whole(path, text.getvalue())


@dataclass(frozen=True)
class Contradiction:
    """An instance whose result contradicts its reference verdict.

    Attributes:
        key: its files.
        answer: given here; a sat has a counterexample that onnxruntime replayed.
        known: the other one.
    """

    key: Key
    answer: Answer
    known: Answer


@dataclass(frozen=True)
class Comparison:
    """Results compared with reference verdicts.

    Attributes:
        answers: how often each answer was given.
        known: instances whose answer is known.
        decided: of these, how many were decided.
        contradictions: instances decided otherwise than is known.
        seconds: charged to all instances.
    """

    answers: Counter[Answer]
    known: int
    decided: int
    contradictions: tuple[Contradiction, ...]
    seconds: float


def compare(results: Mapping[Key, Result], reference: Mapping[Key, Reference]) -> Comparison:
    """Set results against reference verdicts; an instance that has none is not known."""
    sides = {Answer.SAT, Answer.UNSAT}
    known = {key: one.answer for key, one in reference.items() if one.answer in sides}
    both = [key for key, one in results.items() if key in known and one.answer in sides]
    return Comparison(
        Counter(one.answer for one in results.values()),
        sum(key in known for key in results),
        len(both),
        tuple(
            Contradiction(key, results[key].answer, known[key])
            for key in both
            if results[key].answer is not known[key]
        ),
        sum(one.seconds for one in results.values()),
    )


def _read(job: SetJob, path: Path) -> Network:
    return read_network(path, job.check_parity)


def _worker_job(instances: Sequence[SetInstance], job: SetJob) -> SetWorkerJob:
    """What workers need to know; they may run in another folder."""
    plans = {seconds: job.plan(seconds) for seconds in map(job.seconds_of, instances)}
    placed = tuple(
        replace(one, onnx=one.onnx.absolute(), vnnlib=one.vnnlib.absolute()) for one in instances
    )
    return SetWorkerJob(placed, plans, job.seconds, str(job.device), job.check_parity, versions())


def _batches(instances: Sequence[SetInstance], job: SetJob) -> Iterator[list[SetInstance]]:
    """Instances of one network and one timeout, a few at a time."""
    groups: dict[tuple[Path, float], list[SetInstance]] = {}
    for one in instances:
        groups.setdefault((one.onnx, job.seconds_of(one)), []).append(one)
    for group in groups.values():
        for start in range(0, len(group), BATCH):
            yield group[start : start + BATCH]


def _keep_counterexample(instance: SetInstance, found: Decided, folder: Path | None) -> None:
    if folder is not None and found.point is not None and found.output is not None:
        path = folder / counterexample_name(instance.onnx, instance.vnnlib)
        write_counterexample(path, found.point, found.output)


def counterexample_name(onnx: Path, vnnlib: Path) -> str:
    """The name of a counterexample's file, as VNN-COMP's results have it."""
    stems = [path.name.removesuffix(".gz").rpartition(".")[0] for path in (onnx, vnnlib)]
    return f"{stems[0]}_{stems[1]}.counterexample"

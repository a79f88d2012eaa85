"""Whole sets of VNN-COMP: each network is read once, its properties are decided in batches.

The results file has one line for each finished instance, so that an interrupted run continues.
Every new result rewrites the whole file.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.settings import Plan
from verify_pipeline.errors import DataError, NetworkError, VerifyPipelineError
from verify_pipeline.interop.answers import Decided
from verify_pipeline.interop.counterexamples import write_counterexample
from verify_pipeline.interop.decide import decide
from verify_pipeline.interop.instance_list import Answer, Key, Reference, SetInstance, rows_of
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.text_files import read_network
from verify_pipeline.interop.vnnlib import read_vnnlib

COLUMNS = ("onnx", "vnnlib", "result", "seconds", "detail")

BATCH = 64
"""Properties of a network decided together, at most; an interruption may lose this many."""


@dataclass(frozen=True)
class Result:
    """One line of a results file.

    Attributes:
        answer: sat, unsat, timeout or unknown.
        seconds: charged to the instance.
        detail: why it is unknown, where there is more to say.
    """

    answer: Answer
    seconds: float
    detail: str = ""


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
    """

    results: Path
    counterexamples: Path | None
    plan: Callable[[float], Plan]
    seconds: float | None = None
    device: torch.device | str = "cpu"
    check_parity: bool = True
    retry: bool = False


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
        DataError: the results file is of another form, or cannot be written.
    """
    results = read_results(job.results) if job.results.exists() else {}
    write_results(job.results, results)  # an unwritable path is reported at once
    open_ = [one for one in instances if is_open(results.get(one.key), job.retry)]

    def keep(instance: SetInstance, result: Result) -> None:
        results[instance.key] = result
        write_results(job.results, results)
        progress(instance.key, result)

    for group in _batches(open_, job.seconds):
        _decide_batch(group, job, keep)
    return {one.key: results[one.key] for one in instances}


def is_open(result: Result | None, retry: bool) -> bool:
    """Whether an instance with that result, or none, is to be decided."""
    return result is None or (retry and result.answer not in (Answer.SAT, Answer.UNSAT))


def read_results(path: Path) -> dict[Key, Result]:
    """The results in a file that :func:`write_results` wrote.

    Raises:
        DataError: it cannot be read, or is of another form.
    """
    rows = list(rows_of(path))
    if not rows or tuple(rows[0][1]) != COLUMNS:
        raise DataError(
            f"results file {path}",
            expected=f"columns {', '.join(COLUMNS)}",
            got=", ".join(rows[0][1]) if rows else "an empty file",
            remedy="Name another file for the results.",
        )
    results = {}
    for line, row in rows[1:]:
        if len(row) != len(COLUMNS):
            raise DataError(
                f"{path.name}, line {line}",
                expected=f"{len(COLUMNS)} columns",
                got=str(len(row)),
                remedy="Restore the file from a copy, or delete the line to decide it again.",
            )
        onnx, vnnlib, answer, seconds, detail = row
        try:
            results[Key(onnx, vnnlib)] = Result(Answer(answer), float(seconds), detail)
        except ValueError as error:
            raise DataError(
                f"{path.name}, line {line}", expected="a result", got=str(error)
            ) from None
    return results


def write_results(path: Path, results: Mapping[Key, Result]) -> Path:
    """Write a results file, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for key, one in results.items():
        seconds = f"{one.seconds:.3f}"
        writer.writerow((key.onnx, key.vnnlib, one.answer.value, seconds, one.detail))
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


def _batches(
    instances: Sequence[SetInstance], seconds: float | None
) -> Iterator[list[SetInstance]]:
    """Instances of one network and one timeout, a few at a time."""
    groups: dict[tuple[Path, float], list[SetInstance]] = {}
    for one in instances:
        groups.setdefault((one.onnx, seconds or one.timeout), []).append(one)
    for group in groups.values():
        for start in range(0, len(group), BATCH):
            yield group[start : start + BATCH]


def _decide_batch(
    group: Sequence[SetInstance], job: SetJob, keep: Callable[[SetInstance, Result], None]
) -> None:
    """Decide instances of one network and one timeout; each result is kept as it falls."""
    try:
        network = read_network(group[0].onnx, job.check_parity)
    except VerifyPipelineError as error:
        for instance in group:
            keep(instance, Result(Answer.UNKNOWN, 0.0, str(error)))
        return
    usable: list[tuple[SetInstance, VnnlibProperty]] = []
    for instance in group:
        try:
            prop = read_vnnlib(instance.vnnlib)
            prop.check_fits(network.graph)
        except VerifyPipelineError as error:
            keep(instance, Result(Answer.UNKNOWN, 0.0, str(error)))
        else:
            usable.append((instance, prop))

    open_ = dict(enumerate(instance for instance, _ in usable))

    def answered(place: int, one: Decided) -> None:
        instance = open_.pop(place)
        _keep_counterexample(instance, one, job.counterexamples)
        keep(instance, Result(one.answer, one.seconds, one.detail))

    plan = job.plan(job.seconds or group[0].timeout)
    properties = [prop for _, prop in usable]
    try:
        decide(network, properties, plan, device=job.device, answered=answered)
    except NetworkError as error:  # an error of writing a file, in contrast, ends the run
        for instance in open_.values():
            keep(instance, Result(Answer.UNKNOWN, 0.0, str(error)))


def _keep_counterexample(instance: SetInstance, found: Decided, folder: Path | None) -> None:
    if folder is not None and found.point is not None and found.output is not None:
        path = folder / counterexample_name(instance.onnx, instance.vnnlib)
        write_counterexample(path, found.point, found.output)


def counterexample_name(onnx: Path, vnnlib: Path) -> str:
    """The name of a counterexample's file, as VNN-COMP's results have it."""
    stems = [path.name.removesuffix(".gz").rpartition(".")[0] for path in (onnx, vnnlib)]
    return f"{stems[0]}_{stems[1]}.counterexample"

"""Runs α,β-CROWN on VNN-COMP lists; results files have the same format as ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from verify_pipeline.branching.evaluate.candidate_points import representable
from verify_pipeline.engines.abcrown import Engine, ToolAnswer
from verify_pipeline.engines.job import ToolQuestion
from verify_pipeline.engines.module_file import write_module
from verify_pipeline.engines.stage import MODULES, Setup
from verify_pipeline.engines.statuses import ToolClaim
from verify_pipeline.errors import DataError, VerifyPipelineError
from verify_pipeline.interop.counterexamples import strict_counterexample, write_counterexample
from verify_pipeline.interop.instance_list import Answer, Key, SetInstance
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.sets import (
    Result,
    SetJob,
    counterexample_name,
    is_open,
    read_results,
    write_results,
)
from verify_pipeline.interop.text_files import read_network, read_plain
from verify_pipeline.interop.vnnlib import read_vnnlib
from verify_pipeline.onnx import Network
from verify_pipeline.problem import Reason


def run_set(
    instances: Sequence[SetInstance],
    job: SetJob,
    setup: Setup,
    config: str,
    progress: Callable[[Key, Result], None] = lambda key, result: None,
) -> dict[Key, Result]:
    """Ask the tool about the instances that have no result yet, in one process.

    ``unsat`` is the tool's claim; ``sat`` has a counterexample that onnxruntime confirmed. A
    property that cannot be read makes its instance unknown, with the reason.

    Args:
        instances: of the set.
        job: where results and counterexamples go, and for how many seconds.
        setup: how the tool is run.
        config: YAML text in its schema.
        progress: is told each new result.

    Returns:
        The results of all instances, in their order.

    Raises:
        DataError: the results file is of another form, or a file cannot be written.
    """
    results = read_results(job.results) if job.results.exists() else {}
    write_results(job.results, results)  # an unwritable path is reported at once

    def keep(instance: SetInstance, result: Result) -> None:
        results[instance.key] = result
        write_results(job.results, results)
        progress(instance.key, result)

    open_ = []
    for instance in instances:
        if is_open(results.get(instance.key), job.retry):
            problem = _problem(instance.vnnlib)
            if problem:
                keep(instance, Result(Answer.UNKNOWN, 0.0, problem))
            else:
                open_.append(instance)
    questions = questions_of(open_, job.seconds, setup.folder)
    engine = Engine(setup.tool, config, setup.folder, setup.limits, device=_kind(job))
    network = lru_cache(maxsize=1)(read_network)
    for answer in engine.ask(questions):
        instance = open_[answer.place]
        result, found = result_of(instance, answer, network)
        if found is not None and job.counterexamples is not None:
            name = counterexample_name(instance.onnx, instance.vnnlib)
            write_counterexample(job.counterexamples / name, *found)
        keep(instance, result)
    return {one.key: results[one.key] for one in instances}


def questions_of(
    instances: Sequence[SetInstance], seconds: float | None, folder: Path
) -> list[ToolQuestion]:
    """A question for each instance.

    Args:
        instances: of any networks.
        seconds: for each; None: as the list says.
        folder: gets the networks as Python, in case that the tool misreads a file.

    Raises:
        DataError: a property cannot be read, or a file not be written.
    """
    networks = dict.fromkeys(one.onnx for one in instances)
    modules = {onnx: _module(onnx, folder / MODULES) for onnx in networks}
    return [
        ToolQuestion(one.onnx, _text(one.vnnlib), seconds or one.timeout, modules[one.onnx])
        for one in instances
    ]


def _module(onnx: Path, folder: Path) -> Path | None:
    """The network written as Python; None where we cannot read it, or not write it."""
    try:
        network = read_network(onnx)
    except VerifyPipelineError:
        return None
    return write_module(network.graph, folder / network.digest[:16])


def _kind(job: SetJob) -> str:
    return str(job.device).partition(":")[0]


def _problem(path: Path) -> str:
    """Why the tool cannot decide a property; empty if it can."""
    try:
        _text(path)
    except DataError as error:
        return str(error)
    return ""


def _text(path: Path) -> str:
    try:
        return read_plain(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"file {path}", expected="text in UTF-8", got=str(error)) from None


def result_of(
    instance: SetInstance, answer: ToolAnswer, network: Callable[[Path], Network]
) -> tuple[Result, tuple[Tensor, Tensor] | None]:
    """The result of an answer and, for sat, input and output."""
    if answer.claim is ToolClaim.SAFE:
        return Result(Answer.UNSAT, answer.seconds, answer.detail), None
    if answer.claim is ToolClaim.OPEN:
        late = answer.reason is Reason.TIMEOUT
        word = Answer.TIMEOUT if late else Answer.UNKNOWN
        return Result(word, answer.seconds, answer.detail), None
    try:
        found = _replayed(network(instance.onnx), read_vnnlib(instance.vnnlib), answer.point)
    except VerifyPipelineError as error:
        return Result(Answer.UNKNOWN, answer.seconds, f"{answer.detail}; {error}"), None
    if found is None:
        detail = f"{answer.detail}; {Reason.NOT_REPLAYED.value}"
        return Result(Answer.UNKNOWN, answer.seconds, detail), None
    return Result(Answer.SAT, answer.seconds, answer.detail), found


def _replayed(
    network: Network, prop: VnnlibProperty, point: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """A claimed point moved into a box of the property by rounding, and onnxruntime's output."""
    prop.check_fits(network.graph)
    if point is None or point.numel() != prop.inputs:
        return None
    for case in prop.cases:
        box = case.box(network.input_shape, network.input_dtype)
        moved = point.reshape(box.lower.shape).clamp(box.lower, box.upper)
        near = representable(moved, box, network.input_dtype)
        found = strict_counterexample(network.replay, prop, near[0], network.input_dtype)
        if found is not None:
            return found
    return None

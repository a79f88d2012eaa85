"""Certification of a network on a set of images: the entry point of the pipeline and the API."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path

import torch

from verify_pipeline._version import __version__
from verify_pipeline.certify.boxes import spread
from verify_pipeline.certify.cascade import Cascade, CascadeLimits
from verify_pipeline.certify.chance import remarks_on
from verify_pipeline.certify.contract import Certifiable, Clock, Observer, Stage, Subject
from verify_pipeline.certify.deployed import Deployed
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.file_checks import (
    COMPARED,
    compare_with_file,
    network_name,
    refuse_bad_weights,
)
from verify_pipeline.certify.instances import Instances, reach, vary_little
from verify_pipeline.certify.job_plan import JobPlan, Sample
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.preprocessing import Prepared
from verify_pipeline.certify.questions import AskedQuestion, Question, ask
from verify_pipeline.certify.records import Entry, Record, Run, RunInfo
from verify_pipeline.certify.settings import CertifySettings, Plan, parse_indices, plan
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.certify.stages import build_stages, for_few_inputs
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import DataError
from verify_pipeline.network.outputs import Beginning, beginning
from verify_pipeline.problem import Status, Verdict

StageMaker = Callable[[Plan, Subject, Prepared], Stage]
"""Makes the stage that asks an external tool."""

VERSIONED = ("torch", "onnx", "onnxruntime", "numpy", "highspy")


def certify_set(
    network: Certifiable,
    images: ImageSet | BoxSet,
    settings: CertifySettings,
    ledger: Ledger | Path | None = None,
    observer: Observer | None = None,
    device: torch.device | str = "cpu",
    clock: Clock = time.perf_counter,
    question: Question | None = None,
    abcrown: StageMaker | None = None,
) -> Summary:
    """Certify images of a set; each verdict is written to the ledger at once.

    Args:
        network: as ``load_network`` or ``network_from_module`` gives it.
        images: the whole data set, or boxes; ``settings.indices`` says which of them.
        settings: ε, stages, time, memory.
        ledger: continued where it has verdicts of the same run already; a file that is not there
            is created once everything else is known to fit; None: kept in memory only.
        observer: is told what happens.
        device: where bounds and attacks are computed.
        clock: seconds from some origin.
        question: what is asked of each image; None: that the settings' ε leaves its class as it is.
        abcrown: makes the stage that asks α,β-CROWN, where the settings have it.

    Raises:
        ConfigError: settings that do not fit the data set.
        DataError: the network and the data set do not belong together.
        NetworkError: a weight is NaN or infinite, or onnxruntime computes something else in some
            box than the graph that is to be bounded.
        LedgerError: the ledger cannot be written, or holds an opposite verdict.
    """
    chosen = parse_indices(settings.indices, len(images))
    if not chosen:
        raise DataError(f"indices {settings.indices}", expected="some images", got="none")
    asked = ask(network, images, chosen, question or Question(), settings.epsilon)
    refuse_bad_weights(network)
    made, prepared = plan(settings), asked.network
    begun = beginning(prepared.graph) if asked.compares else None
    subject = _subject(asked, begun, torch.device(device))
    run = Run(
        network.digest,
        images.name,
        images.split,
        perturbation=asked.perturbation,
        specification=asked.specification,
        settings=made.digest,
    )
    shape, outputs = tuple(images.shape), prepared.graph.outputs
    name, notes = network_name(network), network.metadata
    info = RunInfo(run, name, asked.epsilon, made.tried, outputs, shape, notes)
    deployed = None if begun is None else Deployed(begun, prepared.replay, prepared.input_dtype)
    job = _Job(asked.instances, info, made, settings.retry, subject.device, deployed)
    other = None if abcrown is None else partial(abcrown, made, subject, prepared)
    stages = build_stages(made, subject, asked.instances.rows, clock, other)
    if vary_little(asked.instances, made.input_split.few_inputs):
        stages = for_few_inputs(stages, made, subject, asked.instances.rows, clock)
    with _Borrowed(ledger) as book:
        summary = _work(job, stages, book, observer or Observer(), clock)
    return replace(summary, remarks=_remarks(summary, images, question or Question(), outputs))


def _subject(asked: AskedQuestion, begun: Beginning | None, device: torch.device) -> Subject:
    """What is certified, once graph and file were compared in some of the run's boxes.

    Args:
        asked: of which network.
        begun: what stands before an end that is left out; None: the network has none.
        device: of the graphs.

    Raises:
        NetworkError: onnxruntime computes something else in some box than the graph.
    """
    prepared, some = asked.network, spread(asked.instances.indices, COMPARED)
    compare_with_file(prepared, asked.instances.batch(some).box)
    graph = prepared.graph if begun is None else begun.graph
    reached = partial(reach, asked.instances)
    return Subject.of(graph, prepared.replay, device, reached, prepared.input_dtype)


def _remarks(
    summary: Summary, images: ImageSet | BoxSet, question: Question, classes: int
) -> tuple[str, ...]:
    """Remarks on what to check first, if images have to keep their classes."""
    if isinstance(images, BoxSet) or summary.info.run.specification != MARGINS.name:
        return ()
    return remarks_on(summary.tally, classes, images.name, question.preprocessing)


def versions() -> str:
    """Versions of this package and of those that decide, for a ledger's rows."""
    found = [f"verify_pipeline {__version__}", f"python {platform.python_version()}"]
    for name in VERSIONED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


@dataclass(frozen=True, eq=False)
class _Job:
    instances: Instances
    info: RunInfo
    plan: Plan
    retry: bool
    device: torch.device
    deployed: Deployed | None


class _Borrowed:
    """Context of a ledger: a given one stays open; one from a file or in memory is closed."""

    def __init__(self, ledger: Ledger | Path | None) -> None:
        self._given = ledger
        self._own: Ledger | None = None

    def __enter__(self) -> Ledger:
        if isinstance(self._given, Ledger):
            return self._given
        given = self._given
        self._own = Ledger.in_memory() if given is None else Ledger.open(given)
        return self._own

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.close()


def _work(
    job: _Job, stages: Sequence[Stage], ledger: Ledger, observer: Observer, clock: Clock
) -> Summary:
    run, timeout = job.info.run, job.plan.timeout
    asked = Extent.of(job.instances.indices)
    before = ledger.asked(run)
    sample = None if job.retry else Sample.of(ledger.records(run), before, timeout)
    ledger.register(job.info, asked)
    digests = {index: job.instances.digest(index) for index in job.instances.indices}
    open_ = ledger.open_indices(run, digests, timeout, job.retry)
    observer.planned(JobPlan(job.info, tuple(each.name for each in stages), timeout, sample))
    observer.started(len(digests), len(digests) - len(open_))
    versions_now = versions()

    def sink(index: int, verdict: Verdict) -> None:
        if job.deployed is not None:
            verdict = job.deployed.noted(verdict, job.instances.batch([index]))
        entry = Entry(index, digests[index], job.instances.label(index), verdict)
        ledger.append(run, [entry], timeout, versions_now)

    def decided_elsewhere() -> set[int]:
        return {r.index for r in _records(ledger, run, digests) if r.status is not Status.UNKNOWN}

    room = CascadeLimits(timeout, job.plan.memory, job.device, shares=job.plan.shares)
    Cascade(job.instances, stages, room, sink, observer, clock).run(open_, decided_elsewhere)
    observer.finished()
    return Summary(job.info, tuple(_records(ledger, run, digests)), asked=asked)


def _records(ledger: Ledger, run: Run, digests: dict[int, str]) -> list[Record]:
    return [r for r in ledger.records(run) if digests.get(r.index) == r.instance]

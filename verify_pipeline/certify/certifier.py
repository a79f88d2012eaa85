"""A network that is ready to be certified: compared with its file, its stages made.

One call certifies instances as one batch; each belongs to a run of the ledger. Usually there is one
run. A search for the radius of images asks each image at an ε of its own, and every ε is a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from verify_pipeline.certify.boxes import spread
from verify_pipeline.certify.cascade import Cascade, CascadeLimits, Sink
from verify_pipeline.certify.contract import (
    Certifiable,
    Clock,
    Observer,
    Observers,
    Stage,
    Subject,
)
from verify_pipeline.certify.deployed import Deployed
from verify_pipeline.certify.evaluation_errors import (
    EvaluationErrors,
    Hardening,
    provable_beginning,
)
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.failures import Tracebacks
from verify_pipeline.certify.file_checks import (
    COMPARED,
    compare_with_file,
    network_name,
    refuse_arithmetic,
    refuse_bad_weights,
)
from verify_pipeline.certify.instances import Instances, reach, vary_little
from verify_pipeline.certify.job_plan import JobPlan, Sample
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.pool import Pool
from verify_pipeline.certify.preprocessing import Prepared
from verify_pipeline.certify.questions import AskedQuestion
from verify_pipeline.certify.records import Entry, Record, Run, RunInfo
from verify_pipeline.certify.settings import CertifySettings, Plan, plan
from verify_pipeline.certify.sharing import SharedImages
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.certify.stages import build_stages, for_few_inputs
from verify_pipeline.certify.tally import Summary
from verify_pipeline.certify.versions import versions
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.network.arithmetic import ARITHMETICS, Arithmetic
from verify_pipeline.network.outputs import Beginning, beginning
from verify_pipeline.problem import Verdict

StageMaker = Callable[[Plan, Subject, Prepared], Stage]
"""Makes the stage that asks an external tool."""


@dataclass(frozen=True, eq=False)
class RunPart:
    """Images that a certification decides in one run of a ledger.

    Attributes:
        info: the run.
        indices: the images.
        asked: all images that the run is for, these among them.
    """

    info: RunInfo
    indices: tuple[int, ...]
    asked: Extent


@dataclass(frozen=True, eq=False)
class Certifier:
    """A network and a question, ready for instances whose boxes lie in those of the question.

    Attributes:
        info: the run of the question as it was asked.
        asked: the question.
        plan: what is tried.
        stages: in order.
        deployed: the file, if its end is left out when it is bounded.
        retry: whether instances that are UNKNOWN in the ledger are tried again.
        device: where bounds and attacks are computed.
        clock: seconds from some origin.
        errors: of the file's evaluation in an arithmetic; None: VERIFIED is about real numbers.
    """

    info: RunInfo
    asked: AskedQuestion
    plan: Plan
    stages: tuple[Stage, ...]
    deployed: Deployed | None
    retry: bool
    device: torch.device
    clock: Clock
    errors: EvaluationErrors | None = None

    @staticmethod
    def of(
        network: Certifiable,
        images: ImageSet | BoxSet,
        asked: AskedQuestion,
        settings: CertifySettings,
        device: torch.device,
        clock: Clock,
        abcrown: StageMaker | None = None,
    ) -> Certifier:
        """Make the stages, once graph and file were compared in some of the boxes.

        Args:
            network: as it was read.
            images: that the question is about.
            asked: the question.
            settings: stages, time, memory.
            device: where bounds and attacks are computed.
            clock: seconds from some origin.
            abcrown: makes the stage that asks α,β-CROWN, where the settings have it.

        Raises:
            ConfigError: a stage is asked for that nothing makes.
            NetworkError: a weight is NaN or infinite, or onnxruntime computes something else in
                some box than the graph.
        """
        refuse_bad_weights(network)
        made, prepared = plan(settings), asked.network
        refuse_arithmetic(prepared.written, made.arithmetic)
        arithmetic = ARITHMETICS.get(made.arithmetic)
        begun = _begun(asked, arithmetic)
        subject = _subject(asked, begun, device)
        rows = asked.instances.rows
        other = None if abcrown is None else partial(abcrown, made, subject, prepared)
        stages = build_stages(made, subject, rows, clock, other)
        if vary_little(asked.instances, made.input_split.few_inputs):
            stages = for_few_inputs(stages, made, subject, rows, clock)
        deployed = None if begun is None else Deployed(begun, prepared.replay, prepared.input_dtype)
        info = _run_info(network, images, asked, made)
        written = prepared.written
        errors = None if arithmetic is None else EvaluationErrors.of(written, arithmetic, begun)
        return Certifier(info, asked, made, stages, deployed, settings.retry, device, clock, errors)

    def certify(
        self,
        instances: Instances,
        parts: Sequence[RunPart],
        ledger: Ledger,
        observer: Observer,
        pool: Pool | None = None,
    ) -> list[Summary]:
        """Bring every image of the parts to a verdict, as one batch.

        Args:
            instances: the images with their boxes.
            parts: each image is in one of them.
            ledger: gets each verdict at once; what it holds already is not decided again.
            observer: is told what happens.
            pool: of workers that decide; None: this process does.

        Returns:
            What the ledger holds of each part's images.

        Raises:
            LedgerError: the ledger cannot be written, or holds an opposite verdict.
            ProcessError: the pool's workers cannot be started.
        """
        digests = {index: instances.digest(index) for part in parts for index in part.indices}
        runs = {index: (part.info.run, digests[index]) for part in parts for index in part.indices}
        timeout = self.plan.timeout
        job = self._job(parts, ledger, pool)  # before the parts are registered
        before = SharedImages.attempts(ledger, runs)
        open_: list[int] = []
        for part in parts:
            ledger.register(part.info, part.asked)
            own = {index: digests[index] for index in part.indices}
            open_ += ledger.open_indices(part.info.run, own, timeout, self.retry)
        traces = Tracebacks(ledger.path)
        observer = Observers([traces, observer])
        observer.planned(job)
        observer.started(len(digests), len(digests) - len(open_))
        versions_now = versions()
        with ledger.leases() as leases:
            shared = SharedImages(ledger, leases, runs, before, sorted(open_), timeout, observer)

            def sink(index: int, verdict: Verdict) -> None:
                if self.deployed is not None:
                    verdict = self.deployed.noted(verdict, instances.batch([index]))
                verdict = traces.named(index, verdict)
                entry = Entry(index, digests[index], instances.label(index), verdict)
                ledger.append(runs[index][0], [entry], timeout, versions_now)
                shared.settled(index)

            for indices in shared.rounds():
                if pool is None:
                    self.cascade(instances, sink, observer).run(indices, shared)
                else:  # its workers have begun all of them
                    pool.decide(indices, sink, observer, shared.gone)
        observer.finished()
        return [
            Summary(part.info, _records(ledger, part, digests), asked=part.asked) for part in parts
        ]

    def cascade(self, instances: Instances, sink: Sink, observer: Observer) -> Cascade:
        """One run of the stages over instances of the question."""
        timeout = self.plan.timeout
        hardening = None if self.errors is None else Hardening(self.errors)
        room = CascadeLimits(
            timeout, self.plan.memory, self.device, shares=self.plan.shares, hardening=hardening
        )
        return Cascade(instances, self.stages, room, sink, observer, self.clock)

    def _job(self, parts: Sequence[RunPart], ledger: Ledger, pool: Pool | None) -> JobPlan:
        """What observers are told; a sample of seconds only if one process certifies one run."""
        info = parts[0].info if len(parts) == 1 else self.info
        sample, timeout = None, self.plan.timeout
        if len(parts) == 1 and not self.retry and pool is None:
            sample = Sample.of(ledger.records(info.run), ledger.asked(info.run), timeout)
        stages = tuple(stage.name for stage in self.stages)
        return JobPlan(info, stages, timeout, sample, stages_overlap=pool is not None)


def _begun(asked: AskedQuestion, arithmetic: Arithmetic | None) -> Beginning | None:
    """What is bounded in the network's place, where its end keeps the order of compared outputs."""
    if not asked.compares:
        return None
    if arithmetic is None:
        return beginning(asked.network.graph)
    beats_all = asked.specification == MARGINS.name
    network = asked.network
    return provable_beginning(network.graph, network.written) if beats_all else None


def _run_info(
    network: Certifiable, images: ImageSet | BoxSet, asked: AskedQuestion, made: Plan
) -> RunInfo:
    run = Run(
        network.digest,
        images.name,
        images.split,
        perturbation=asked.perturbation,
        specification=asked.specification,
        settings=made.digest,
    )
    name, outputs = network_name(network), asked.network.graph.outputs
    shape, notes = tuple(images.shape), network.metadata
    return RunInfo(run, name, asked.epsilon, made.tried, outputs, shape, notes)


def _subject(asked: AskedQuestion, begun: Beginning | None, device: torch.device) -> Subject:
    """What is certified, once graph and file were compared in some of the question's boxes.

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


def _records(ledger: Ledger, part: RunPart, digests: Mapping[int, str]) -> tuple[Record, ...]:
    """The verdicts of a part's images as they are now, not of others that stood at their places."""
    chosen = set(part.indices)
    return tuple(
        record
        for record in ledger.records(part.info.run)
        if record.index in chosen and digests[record.index] == record.instance
    )

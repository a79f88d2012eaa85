"""Decides properties with the stages of certification: each case of a property is an instance.

Cases of the same kind are certified in one batch, whichever property they belong to. If every
conjunction is a single constraint, a case is a box and a ``Specification``; otherwise the network
is extended by maxima of rows (``max_of_rows.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.certify.boxes import spread
from verify_pipeline.certify.cascade import Cascade, CascadeLimits, Sink
from verify_pipeline.certify.contract import Certifiable, Clock, Observer, Subject
from verify_pipeline.certify.deployed import Deployed
from verify_pipeline.certify.evaluation_errors import (
    EvaluationErrors,
    Hardening,
    provable_beginning,
)
from verify_pipeline.certify.file_checks import (
    COMPARED,
    compare_with_file,
    refuse_arithmetic,
    refuse_bad_weights,
)
from verify_pipeline.certify.instances import Batch
from verify_pipeline.certify.records import instance_digest
from verify_pipeline.certify.settings import ArithmeticName, CertifySettings, Plan, plan
from verify_pipeline.certify.stages import build_stages, for_few_inputs
from verify_pipeline.errors import ConfigError
from verify_pipeline.interop.answers import Answers, Decided
from verify_pipeline.interop.max_of_rows import append_any_of, replay_any_of
from verify_pipeline.interop.maxima_errors import MaximaErrors
from verify_pipeline.interop.properties import Case, VnnlibProperty
from verify_pipeline.interop.starts import starting_points
from verify_pipeline.network.arithmetic import ARITHMETICS, Arithmetic
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.outputs import Beginning, beginning
from verify_pipeline.problem import TIED, Box, Specification, Status, Verdict
from verify_pipeline.rounding import searched


def decide(
    network: Certifiable,
    properties: Sequence[VnnlibProperty],
    chosen: Plan,
    *,
    device: torch.device | str = "cpu",
    answered: Callable[[int, Decided], None] = lambda place, decided: None,
    observer: Observer | None = None,
    clock: Clock = time.perf_counter,
) -> tuple[Decided, ...]:
    """Decide properties of one network, in batches.

    Args:
        network: as ``load_network`` gives it.
        properties: in any number.
        chosen: stages and their settings; ``timeout`` is for each property: its cases share the
            seconds. If it names an arithmetic, unsat holds for every evaluation of the file in it.
        device: where bounds and attacks are computed.
        answered: is told the answer to the property at a place as soon as there is one.
        observer: is told what happens to cases.
        clock: seconds from some origin.

    Returns:
        The answers, in order.

    Raises:
        DataError: a property has other numbers of inputs or outputs than the network.
        NetworkError: a weight is NaN or infinite, or onnxruntime computes something else in some
            box than the graph that is to be bounded.
    """
    for prop in properties:
        prop.check_fits(network.graph)
    refuse_bad_weights(network)
    refuse_arithmetic(network.written, chosen.arithmetic)
    _compare(network, [case for prop in properties for case in prop.cases])
    few = chosen.input_split.few_inputs
    groups: dict[Hashable, list[tuple[int, Case]]] = {}
    for place, prop in enumerate(properties):
        for case in prop.cases:
            kind = (_varies_little(case, few), _kind(case, few))
            groups.setdefault(kind, []).append((place, case))
    answers = Answers(network, properties, chosen.timeout, answered)
    for members in groups.values():
        owners, cases = [place for place, _ in members], [case for _, case in members]
        room = CascadeLimits(
            chosen.timeout,
            chosen.memory,
            torch.device(device),
            answers.purses_of(owners),
            chosen.shares,
        )
        sink = answers.sink(owners, cases)
        _certify(network, cases, chosen, room, sink, observer or Observer(), clock)
    return answers.in_order()


def _compare(network: Certifiable, cases: Sequence[Case]) -> None:
    """Compare the network's graph with onnxruntime in the boxes of some cases."""
    dtype, shape = network.input_dtype, network.graph.input_shape
    boxes = [case.box(shape, dtype) for case in spread(cases, COMPARED)]
    if boxes:
        lower, upper = [box.lower for box in boxes], [box.upper for box in boxes]
        compare_with_file(network, Box(torch.cat(lower), torch.cat(upper)))


class Cases:
    """Cases of one kind as certification takes instances; see ``certify.instances.Instances``.

    Args:
        cases: of one kind (:func:`_kind`).
        graph: the network, extended if they need it; in the dtype of its input, on the CPU.
        dtype: that of the network's input.
        chosen: which boxes are split at their inputs, and where attacks start.
    """

    def __init__(
        self, cases: Sequence[Case], graph: Graph, dtype: torch.dtype, chosen: Plan
    ) -> None:
        self._cases = tuple(cases)
        self._graph, self._dtype, self._attack = graph, dtype, chosen.attack
        self._few = chosen.input_split.few_inputs
        self._points: dict[int, Tensor] = {}
        self.indices = tuple(range(len(self._cases)))
        self.rows = specification(self._cases[0], self._few).offsets.shape[1]

    def batch(self, indices: Sequence[int]) -> Batch:
        """Boxes, specifications, and points to start from."""
        shape = self._graph.input_shape
        boxes = [self._cases[index].box(shape, self._dtype) for index in indices]
        box = Box(torch.cat([one.lower for one in boxes]), torch.cat([one.upper for one in boxes]))
        specs = [specification(self._cases[index], self._few) for index in indices]
        spec = Specification(
            torch.cat([one.rows for one in specs]),
            torch.cat([one.offsets for one in specs]),
            specs[0].spare,
        )
        new = [place for place, index in enumerate(indices) if index not in self._points]
        if new:
            chosen = torch.tensor(new)
            drawn = starting_points(
                self._graph, box[chosen], spec[chosen], self._attack, self._dtype
            )
            self._points.update(zip((indices[place] for place in new), drawn, strict=True))
        return Batch(box, spec, torch.stack([self._points[index] for index in indices]))

    def digest(self, index: int) -> str:
        """Of limits and constraints."""
        case = self._cases[index]
        denials = [part for one in case.denials for part in (one.rows, one.offsets)]
        return instance_digest(
            torch.cat([case.lower, case.upper]), torch.cat([part.flatten() for part in denials])
        )

    def label(self, index: int) -> None:
        """None: cases have no label."""
        return


def _one_has_to_hold(case: Case, few: int) -> bool:
    """Whether one row of the network's own outputs has to hold, and nothing else.

    When inputs are split, this is bounded more tightly than the maximum of the rows.
    """
    alone = len(case.conjunctions) == 1 and len(case.conjunctions[0]) > 1
    return alone and _varies_little(case, few)


def needs_any_of(case: Case, few: int) -> bool:
    """Whether the network has to be extended by maxima of rows."""
    several = any(len(conjunction) > 1 for conjunction in case.conjunctions)
    return several and not _one_has_to_hold(case, few)


def specification(case: Case, few: int) -> Specification:
    """The requirement over the case's box, on outputs of the network or of the extended one."""
    denials = case.denials
    if _one_has_to_hold(case, few):
        (any_of,) = denials
        rows, offsets = any_of.rows.unsqueeze(0), any_of.offsets.unsqueeze(0)
        return Specification(rows, offsets, spare=len(any_of) - 1)
    if needs_any_of(case, few):
        rows = torch.eye(len(denials), dtype=torch.float64).unsqueeze(0)
        return Specification(rows, rows.new_zeros(1, len(denials)))
    return Specification(
        torch.cat([one.rows for one in denials]).unsqueeze(0),
        torch.cat([one.offsets for one in denials]).unsqueeze(0),
    )


def _varies_little(case: Case, few: int) -> bool:
    """Whether at most ``few`` inputs are free, so that splitting them is promising."""
    return case.free_inputs <= few


def _kind(case: Case, few: int) -> Hashable:
    """The key of a batch: its cases have the same network, extended or not, and as many rows."""
    denials = case.denials
    if _one_has_to_hold(case, few):
        return "spare", len(denials[0])
    if not needs_any_of(case, few):
        return len(denials)
    return tuple(
        (len(one), one.rows.numpy().tobytes(), one.offsets.numpy().tobytes()) for one in denials
    )


def _certify(
    network: Certifiable,
    cases: Sequence[Case],
    chosen: Plan,
    room: CascadeLimits,
    sink: Sink,
    observer: Observer,
    clock: Clock,
) -> None:
    """Bring cases of one kind to their verdicts."""
    graph, replay, dtype = network.graph, network.replay, network.input_dtype
    few = chosen.input_split.few_inputs
    arithmetic = ARITHMETICS.get(chosen.arithmetic)
    begun = _begun(network, cases, arithmetic)
    if arithmetic is not None:
        hardening = _hardening(network, cases[0], few, arithmetic, begun)
        room = replace(room, hardening=hardening)
    graph = graph if begun is None else begun.graph
    reach = _reach(cases, graph.input_shape, dtype)
    if needs_any_of(cases[0], few):
        # a float32 graph would round the rows' float64 offsets
        graph = append_any_of(graph.to(torch.float64), cases[0].denials, reach)
        replay = replay_any_of(replay, cases[0].denials)
    subject = Subject.of(graph, replay, room.device, lambda: reach, dtype)
    instances = Cases(cases, graph.to(searched(dtype)).to("cpu"), dtype, chosen)
    stages = build_stages(chosen, subject, instances.rows, clock)
    if _varies_little(cases[0], few):
        stages = for_few_inputs(stages, chosen, subject, instances.rows, clock)
    if begun is not None:
        begun = replace(begun, graph=graph)
        sink = _judged_as_deployed(Deployed(begun, replay, dtype), instances, sink)
    observer.started(len(cases), 0)
    cascade = Cascade(instances, stages, room, sink, observer, clock)
    cascade.run(instances.indices)
    observer.finished()


def _begun(
    network: Certifiable, cases: Sequence[Case], arithmetic: Arithmetic | None
) -> Beginning | None:
    """What is bounded in the network's place, where its end keeps the order of its outputs."""
    if arithmetic is not None:
        beats_all = all(case.one_exceeds_all for case in cases)
        return provable_beginning(network.graph, network.written) if beats_all else None
    compares = all(one.compares for case in cases for one in case.conjunctions)
    return beginning(network.graph) if compares else None


def _hardening(
    network: Certifiable, case: Case, few: int, arithmetic: Arithmetic, begun: Beginning | None
) -> Hardening:
    """What bounds have to prove of cases of the same kind as ``case``."""
    errors = EvaluationErrors.of(network.written, arithmetic, begun)
    return Hardening(MaximaErrors(errors, case.denials) if needs_any_of(case, few) else errors)


def _reach(cases: Sequence[Case], shape: tuple[int, ...], dtype: torch.dtype) -> Box:
    """The least box that all boxes of cases lie in, ``1 x *X``."""
    boxes = [case.box(shape, dtype) for case in cases]
    lower = torch.cat([box.lower for box in boxes]).amin(0, keepdim=True)
    return Box(lower, torch.cat([box.upper for box in boxes]).amax(0, keepdim=True))


def _judged_as_deployed(deployed: Deployed, instances: Cases, sink: Sink) -> Sink:
    """Takes verdicts on cases of a network without its last layers.

    The detail of VERIFIED names the bounded function. A counterexample of the whole file takes
    precedence, since the property is about the file as it is run.
    """

    def take(index: int, verdict: Verdict) -> None:
        if verdict.status is Status.VERIFIED:
            found = deployed.tie(instances.batch([index]))
            verdict = (
                replace(verdict, detail=deployed.proved)
                if found is None
                else replace(verdict, status=Status.FALSIFIED, counterexample=found, detail=TIED)
            )
        sink(index, verdict)

    return take


def property_plan(
    timeout: float,
    search: str | None = None,
    give_up: float | None = None,
    arithmetic: str | None = None,
) -> Plan:
    """The plan for properties: all stages.

    Args:
        timeout: seconds for each property, > 0.
        search: name or path of a file of the search's settings; None: this package's defaults.
        give_up: times its seconds, > 0, that a search may be expected to take; None: any.
        arithmetic: name of one in which every evaluation of the file has to have the property;
            None: unsat is about real numbers.

    Raises:
        ConfigError: a number, the file or the arithmetic's name is invalid.
    """
    if not 0 < timeout < math.inf:
        raise ConfigError("timeout", expected="seconds > 0", got=str(timeout))
    if give_up is not None and not 0 < give_up < math.inf:
        raise ConfigError("give_up", expected="a number > 0", got=str(give_up))
    if arithmetic is not None and arithmetic not in ARITHMETICS:
        raise ConfigError("arithmetic", expected=" or ".join(ARITHMETICS), got=repr(arithmetic))
    # boxes of properties have their own widths: this ε is unused
    asked = CertifySettings(
        epsilon=0.0,
        timeout=timeout,
        search=search or SearchSettings(),
        give_up=give_up,
        arithmetic=cast("ArithmeticName | None", arithmetic),
    )
    return plan(asked)

"""Answers to properties, from the verdicts of their cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from verify_pipeline.certify.cascade import Sink
from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.certify.deployed import PROVED
from verify_pipeline.certify.shared_time import SharedTimeBudget
from verify_pipeline.interop.counterexamples import strict_counterexample
from verify_pipeline.interop.instance_list import Answer
from verify_pipeline.interop.properties import Case, VnnlibProperty
from verify_pipeline.problem import Reason, Status, Verdict


@dataclass(frozen=True, eq=False)
class Decided:
    """The answer to a property.

    Attributes:
        answer: sat, unsat, timeout or unknown.
        seconds: charged to its cases, a share of every batch that they were in.
        point: ``*X``, of sat: lies in a box of the property exactly.
        output: ``K``, of sat: onnxruntime's, which meets the property exactly.
        detail: why it is unknown, or which function unsat is proved for; may be empty.
    """

    answer: Answer
    seconds: float
    point: Tensor | None = None
    output: Tensor | None = None
    detail: str = ""


class Answers:
    """Collects the verdicts of cases, and answers a property once all of its cases have one.

    Args:
        network: that replays.
        properties: to be answered.
        timeout: seconds for each property.
        answered: is told each answer.
    """

    def __init__(
        self,
        network: Certifiable,
        properties: Sequence[VnnlibProperty],
        timeout: float,
        answered: Callable[[int, Decided], None],
    ) -> None:
        self._network, self._properties, self._answered = network, properties, answered
        self._purses = [SharedTimeBudget(timeout, len(prop.cases)) for prop in properties]
        self._verdicts: list[list[Verdict]] = [[] for _ in properties]
        self._answers: dict[int, Decided] = {}
        for place in range(len(properties)):
            self._answer_if_complete(place)  # a property that no input can satisfy has no case

    def purses_of(self, owners: Sequence[int]) -> dict[int, SharedTimeBudget]:
        """The time budgets of cases, by index; ``owners``: the places of their properties."""
        return {index: self._purses[place] for index, place in enumerate(owners)}

    def sink(self, owners: Sequence[int], cases: Sequence[Case]) -> Sink:
        """A sink for the verdicts of cases; ``owners`` are the places of their properties."""
        dtype = self._network.input_dtype

        def take(index: int, verdict: Verdict) -> None:
            if verdict.status is Status.UNKNOWN and not cases[index].has_input(dtype):
                verdict = replace(verdict, reason=Reason.NO_INPUT, detail="")
            self._take(owners[index], verdict)

        return take

    def in_order(self) -> tuple[Decided, ...]:
        """All answers."""
        return tuple(self._answers[place] for place in range(len(self._properties)))

    def _take(self, place: int, verdict: Verdict) -> None:
        """Keep a verdict; a case with a counterexample ends its whole property."""
        prop = self._properties[place]
        self._verdicts[place].append(verdict)
        if verdict.counterexample is not None:
            point = verdict.counterexample.input
            network = self._network
            found = strict_counterexample(network.replay, prop, point, network.input_dtype)
            if found is not None:
                self._purses[place].close()
        self._answer_if_complete(place)

    def _answer_if_complete(self, place: int) -> None:
        prop, verdicts = self._properties[place], self._verdicts[place]
        if len(verdicts) == len(prop.cases):
            self._answers[place] = _answer(self._network, prop, verdicts)
            self._answered(place, self._answers[place])


def _answer(network: Certifiable, prop: VnnlibProperty, verdicts: Sequence[Verdict]) -> Decided:
    """Sat if a case is sat and its replay confirms it without tolerance; unsat if every case is."""
    seconds = sum(verdict.seconds for verdict in verdicts)
    if all(verdict.status is Status.VERIFIED for verdict in verdicts):
        notes = {verdict.detail for verdict in verdicts if verdict.detail.startswith(PROVED)}
        return Decided(Answer.UNSAT, seconds, detail="; ".join(sorted(notes)))
    detail = ""
    for verdict in verdicts:
        if verdict.counterexample is not None:
            point = verdict.counterexample.input
            found = strict_counterexample(network.replay, prop, point, network.input_dtype)
            if found is not None:
                return Decided(Answer.SAT, seconds, *found)
            detail = "a counterexample lies on a strict limit"
    unknown = [verdict for verdict in verdicts if verdict.status is Status.UNKNOWN]
    late = any(verdict.reason is Reason.TIMEOUT for verdict in unknown)
    for verdict in unknown:
        detail = detail or _why(verdict)
    return Decided(Answer.TIMEOUT if late else Answer.UNKNOWN, seconds, detail=detail)


def _why(verdict: Verdict) -> str:
    """Why a case is unknown; empty for a timeout, which the answer itself says."""
    told = None if verdict.reason in (None, Reason.TIMEOUT) else verdict.reason.value
    return "; ".join(words for words in (told, verdict.detail) if words)

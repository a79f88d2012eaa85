"""Replay every counterexample of a run from its ledger."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from verify_pipeline.certify.contract import Replay
from verify_pipeline.certify.instances import Instances
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Record, Run
from verify_pipeline.certify.replay import confirm
from verify_pipeline.problem import Counterexample, Status


@dataclass(frozen=True)
class Rechecked:
    """The result of one counterexample's replay, or the problem of another row.

    Attributes:
        index: the image's place in its data set.
        falsified: whether the row is of a counterexample.
        problem: why it is none; empty if it is one, inside its box and broken again by replay.
    """

    index: int
    falsified: bool
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the row has no problem."""
        return not self.problem


def recheck(ledger: Ledger, run: Run, replay: Replay, instances: Instances) -> Iterator[Rechecked]:
    """Replay the counterexamples of a run's FALSIFIED rows, one by one.

    Other rows are reported if the data set has no such image, or another image or label at that
    index.

    Args:
        ledger: that holds the run.
        run: whose rows are checked.
        replay: the network of the run, loaded anew.
        instances: of the run, made anew from the data set.
    """
    known = set(instances.indices)
    for record in ledger.records(run):
        falsified = record.status is Status.FALSIFIED
        problem = _not_of(record, instances, known)
        if not problem and falsified:
            problem = _not_broken(ledger.counterexample(run, record), replay, instances, record)
        if problem or falsified:
            yield Rechecked(record.index, falsified, problem)


def _not_of(record: Record, instances: Instances, known: Container[int]) -> str:
    """Why a row is not about an image of the data set; empty if it is."""
    if record.index not in known:
        return "the data set holds no such image, or the question leaves it out"
    if instances.digest(record.index) != record.instance:
        return "the data set holds another image there"
    label = instances.label(record.index)
    if record.label != label:
        return f"its label is {record.label} in the ledger and {label} in the data set"
    return ""


def _not_broken(
    stored: Counterexample, replay: Replay, instances: Instances, record: Record
) -> str:
    """Why a stored counterexample is invalid; empty if it is valid."""
    batch = instances.batch([record.index])
    shape = tuple(batch.box.lower.shape[1:])
    if tuple(stored.input.shape) != shape:
        return f"its shape is {tuple(stored.input.shape)}, its box's {shape}"
    point = stored.input.unsqueeze(0)
    if not bool(batch.box.contains(point.double())):
        return "it is outside its box"
    (again,) = confirm(replay, batch.box, batch.spec, point)
    return "" if again is not None else "its output does not break the specification"

"""Replay every counterexample of a run from its ledger."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import torch

from verify_pipeline.certify.contract import Replay
from verify_pipeline.certify.instances import Batch, Instances
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Record, Run
from verify_pipeline.certify.replay import confirm
from verify_pipeline.problem import Counterexample, Status
from verify_pipeline.rounding import nearest


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


def recheck(
    ledger: Ledger, run: Run, replay: Replay, instances: Instances, dtype: torch.dtype
) -> Iterator[Rechecked]:
    """Replay the counterexamples of a run's FALSIFIED rows, one by one.

    Other rows are reported if the data set has no such image, or another image or label at that
    index.

    Args:
        ledger: that holds the run.
        run: whose rows are checked.
        replay: the network of the run, loaded anew.
        instances: of the run, made anew from the data set.
        dtype: of the network's input.
    """
    known = set(instances.indices)
    for record in ledger.records(run):
        falsified = record.status is Status.FALSIFIED
        problem = _not_of(record, instances, known)
        if not problem and falsified:
            stored = ledger.counterexample(run, record)
            problem = _not_broken(stored, replay, instances.batch([record.index]), dtype)
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


def _not_broken(stored: Counterexample, replay: Replay, batch: Batch, dtype: torch.dtype) -> str:
    """Why a stored counterexample is invalid; empty if it is valid."""
    shape = tuple(batch.box.lower.shape[1:])
    if tuple(stored.input.shape) != shape:
        return f"its shape is {tuple(stored.input.shape)}, its box's {shape}"
    point = stored.input.unsqueeze(0)
    if not bool(batch.box.contains(point.double())):
        return "it is outside its box"
    if not torch.equal(nearest(point, dtype), point):
        return f"the network takes {str(dtype).removeprefix('torch.')} numbers, and it is none"
    (again,) = confirm(replay, batch.box, batch.spec, point, dtype)
    return "" if again is not None else "its output does not break the specification"

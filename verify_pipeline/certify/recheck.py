"""Evidence again: replay every counterexample of a run from its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from verify_pipeline.certify.contract import Replay
from verify_pipeline.certify.instances import Instances
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Run
from verify_pipeline.certify.replay import confirm
from verify_pipeline.problem import Status


@dataclass(frozen=True)
class Rechecked:
    """What became of one counterexample, or what is wrong with another row.

    Attributes:
        index: the image's place in its data set.
        problem: why it is none; empty if it is one, inside its box and broken again by replay.
    """

    index: int
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is a counterexample still."""
        return not self.problem


def recheck(ledger: Ledger, run: Run, replay: Replay, instances: Instances) -> Iterator[Rechecked]:
    """Replay the counterexamples of a run's FALSIFIED rows, one by one.

    Of the other rows those are reported whose labels are not the images'.

    Args:
        ledger: that holds the run.
        run: whose rows are checked.
        replay: the network of the run, loaded anew.
        instances: of the run, made anew from the data set; rows of other images are passed over.
    """
    known = set(instances.indices)
    for record in ledger.records(run):
        if record.index not in known:
            continue
        falsified = record.status is Status.FALSIFIED
        if instances.digest(record.index) != record.instance:
            if falsified:
                yield Rechecked(record.index, "the data set holds another image there")
            continue
        label = instances.label(record.index)
        if record.label != label:
            told = f"its label is {record.label} in the ledger and {label} in the data set"
            yield Rechecked(record.index, told)
            continue
        if not falsified:
            continue
        stored = ledger.counterexample(run, record)
        batch = instances.batch([record.index])
        if not bool(batch.box.contains(stored.input.unsqueeze(0).double())):
            yield Rechecked(record.index, "it is outside its box")
            continue
        (again,) = confirm(replay, batch.box, batch.spec, stored.input.unsqueeze(0))
        problem = "" if again is not None else "its output does not break the specification"
        yield Rechecked(record.index, problem)

"""The funnel of stages: which images each stage got, what it decided, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from verify_pipeline.certify.records import Record
from verify_pipeline.certify.stage_verdicts import DECIDES, IN_PLACE_OF
from verify_pipeline.certify.tally import Summary
from verify_pipeline.problem import Status


@dataclass(frozen=True)
class StageFlow:
    """What one stage did with the images that earlier stages left open.

    Attributes:
        stage: its name.
        entered: images that it got.
        verified: images that it verified.
        falsified: images that it falsified; of the clean check, those classified wrongly.
        seconds: charged to all of its images together; None: unknown, as in ledgers of older
            versions.
    """

    stage: str
    entered: int
    verified: int
    falsified: int
    seconds: float | None

    @property
    def left(self) -> int:
        """Images that it neither verified nor falsified."""
        return self.entered - self.verified - self.falsified


def stage_flows(summary: Summary) -> tuple[StageFlow, ...]:
    """The stages of a run in order, without those that got no image.

    A record of an older version does not have its stages. Such an image counts for every stage that
    the settings name up to the one that decided it or tried last.
    """
    order = _order(summary)
    flows = (_flow(stage, summary.records, order) for stage in order)
    return tuple(flow for flow in flows if flow.entered)


def _order(summary: Summary) -> list[str]:
    """The settings' stages; each stage that may run besides comes before the one it maps to."""
    seen = {each.stage for record in summary.records for each in record.stages}
    seen |= {record.stage for record in summary.records}
    order = [stage for stage in summary.stages or DECIDES if stage not in IN_PLACE_OF]
    for extra, main in IN_PLACE_OF.items():
        if extra in seen:
            order.insert(order.index(main) if main in order else len(order), extra)
    return order + sorted(seen - set(order) - {""})


def _flow(stage: str, records: Sequence[Record], order: list[str]) -> StageFlow:
    entered = [record for record in records if stage in _stages_of(record, order)]
    decided = [record.status for record in entered if record.stage == stage]
    known = all(record.stages for record in entered)
    seconds = [each.seconds for r in entered for each in r.stages if each.stage == stage]
    return StageFlow(
        stage,
        len(entered),
        decided.count(Status.VERIFIED),
        decided.count(Status.FALSIFIED),
        sum(seconds) if known else None,
    )


def _stages_of(record: Record, order: list[str]) -> list[str]:
    if record.stages:
        return [each.stage for each in record.stages]
    if record.stage not in order:
        return []
    before = order[: order.index(record.stage)]
    return [stage for stage in before if stage not in IN_PLACE_OF] + [record.stage]

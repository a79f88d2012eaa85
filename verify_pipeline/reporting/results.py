"""Rows of a table of results, as numbers: one for each group of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from verify_pipeline.certify.tally import Summary, Tally
from verify_pipeline.reporting.as_deployed import as_deployed
from verify_pipeline.reporting.groups import RunGroup, grouped
from verify_pipeline.reporting.statistics import Share, share_of

_COUNTS: Mapping[str, Callable[[Tally], int]] = {
    "standard": lambda tally: tally.right,
    "attack_robust": lambda tally: tally.withstood,
    "ibp_verified": lambda tally: tally.proved_up_to("ibp"),
    "crown_verified": lambda tally: tally.proved_up_to("crown"),
    "alpha_crown_verified": lambda tally: tally.proved_up_to("alpha-crown"),
    "verified": lambda tally: tally.proved,
    "with_abcrown": lambda tally: tally.proved + tally.claimed,
    "tied_as_deployed": lambda tally: tally.tied,
    "robust_at_most": lambda tally: tally.not_broken,
}
"""How many images have a property, by the percentage's name."""

_NEEDS = {
    "attack_robust": "attack",
    "ibp_verified": "ibp",
    "crown_verified": "crown",
    "alpha_crown_verified": "alpha-crown",
    "with_abcrown": "abcrown",
}
"""Percentages that a run has only if it has that stage."""


@dataclass(frozen=True)
class ResultRow:
    """One row.

    Attributes:
        group: the runs.
        images: with a verdict, in each run.
        requested: asked for in each run; None: unknown.
        shares: percentages of the images by name (``tables.PERCENTAGES``). Missing where a run
            lacks the stage, or is not finished: early verdicts are not representative.
        undecided: images, on average over the runs; None: a run is not finished.
    """

    group: RunGroup
    images: int
    requested: int | None
    shares: Mapping[str, Share]
    undecided: float | None

    @property
    def keys(self) -> Mapping[str, object]:
        """What distinguishes the row, by name."""
        return self.group.keys

    @property
    def question(self) -> tuple[object, ...]:
        """Data set, split, ε and what else is asked: rows with other questions do not compare."""
        return tuple(self.keys.get(name) for name in ("data_set", "split", "epsilon", "asked"))


def results(summaries: Sequence[Summary], by: Sequence[str] = ()) -> tuple[ResultRow, ...]:
    """The rows of a table; ``by`` as in :func:`grouped`.

    Raises:
        ConfigError: a name in ``by`` is unknown.
    """
    return tuple(_result(group) for group in grouped(summaries, by))


def _result(group: RunGroup) -> ResultRow:
    runs = group.summaries
    finished = not any(run.missing for run in runs)
    tallies = [run.tally for run in runs]
    images = [tally.images for tally in tallies]
    shares = {}
    if finished and all(images):
        for name in _COUNTS:
            needed = _NEEDS.get(name)
            if needed is None or all(needed in run.stages for run in runs):
                shares[name] = share_of([_COUNTS[name](tally) for tally in tallies], images)
    deployed = [run for run in map(as_deployed, runs) if run is not None and not run.missing]
    if "verified" in shares and len(deployed) == len(runs):
        proved = [run.tally.proved for run in deployed]
        shares["as_deployed"] = share_of(proved, images)
    undecided = sum(tally.undecided for tally in tallies) / len(runs) if finished else None
    return ResultRow(group, min(images), runs[0].requested, shares, undecided)

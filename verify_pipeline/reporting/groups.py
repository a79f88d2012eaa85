"""Groups of runs that differ in their seed only: each is one row of a table.

Runs are never averaged over different questions, images or settings of the certification. What else
distinguishes them is told by the notes of their networks' files. Runs of files without notes, or of
equal seeds, stay rows of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError
from verify_pipeline.reporting.as_deployed import paired
from verify_pipeline.reporting.facts import SHOWN_DIGITS, RunFacts, allowed, facts

NAMES = (
    "network",
    "method",
    "alpha",
    "sabr_lambda",
    "architecture",
    "data_set",
    "split",
    "epsilon",
    "asked",
    "seed",
)
"""What runs can be grouped by, besides dotted keys of their training such as
``train.optimiser.l1``; columns stand in this order."""

_HAS_A_COLUMN = frozenset(
    (
        "train.seed",
        "train.loss.name",
        "train.loss.alpha",
        "train.loss.sabr_lambda",
        "train.network.name",
        "train.data.name",
        "train.data.class_order",
    )
)


@dataclass(frozen=True)
class RunGroup:
    """Runs that make one row.

    Attributes:
        keys: what distinguishes the row, by name, in order; values that differ among the runs are
            None.
        summaries: the runs, at least one.
        seeds: how many different seeds the runs have; None: some seed is unknown.
        images: that verdicts were asked for, as ``0:60,70``; the same in all runs.
        averaged: names of what else differs among the runs.
    """

    keys: Mapping[str, object]
    summaries: tuple[Summary, ...]
    seeds: int | None
    images: str
    averaged: tuple[str, ...] = ()


def grouped(summaries: Sequence[Summary], by: Sequence[str] = ()) -> tuple[RunGroup, ...]:
    """The rows of a table, in the order of their first runs.

    Args:
        summaries: the runs; one about an arithmetic stands beside the run that asks the same.
        by: names of :data:`NAMES` or dotted keys of the training: runs that agree in them make one
            row, whatever else differs in their training; empty: only seeds may differ.

    Raises:
        ConfigError: a name is unknown.
    """
    runs = [_Described.of(summary) for summary in paired(summaries)]
    known = {*NAMES, *(key for run in runs for key in run.training)}
    for name in by:
        if name not in known:
            raise ConfigError(
                f"group by {name!r}",
                expected=f"one of {', '.join(NAMES)}, or a dotted key of the training such as "
                "train.optimiser.l1",
            )
    repeated = Counter((run.identity, run.seed) for run in runs)
    members: dict[Hashable, list[_Described]] = {}
    for run in runs:
        key: Hashable = (run.question, *(run.value(name) for name in by))
        if not by:
            alone = run.seed is None or repeated[run.identity, run.seed] > 1
            key = (run.identity, run.summary.info.run.network if alone else "")
        members.setdefault(key, []).append(run)
    groups = list(members.values())
    names = tuple(by) or _distinguishing(groups)
    names += tuple(name for name in _OF_QUESTION if name not in names)
    names += _told_apart(groups, names)
    return tuple(_group(group, names) for group in groups)


def described(summaries: Sequence[Summary]) -> list[dict[str, object]]:
    """For each run, the values of those :data:`NAMES` that some run has, and what they leave."""
    runs = [_Described.of(summary) for summary in summaries]
    names = tuple(name for name in NAMES if any(run.value(name) not in (None, "") for run in runs))
    names += _told_apart([[run] for run in runs], names)
    return [{name: run.value(name) for name in names} for run in runs]


_OF_QUESTION = ("data_set", "split", "epsilon", "asked")


@dataclass(frozen=True)
class _Described:
    """A run, with what distinguishes it by name."""

    summary: Summary
    known: RunFacts

    @staticmethod
    def of(summary: Summary) -> _Described:
        return _Described(summary, facts(summary))

    @property
    def training(self) -> Mapping[str, object]:
        return self.known.training

    @property
    def seed(self) -> int | None:
        return self.known.seed

    def value(self, name: str) -> Hashable:
        """The value of one of :data:`NAMES` or of a setting; None: it has none, or unknown."""
        one = self.known
        named: dict[str, Hashable] = {
            "network": one.file,
            "method": one.method or None,
            "alpha": one.alpha,
            "sabr_lambda": one.sabr_lambda,
            "architecture": one.network if one.method else None,
            "data_set": one.data,
            "split": one.split,
            "epsilon": one.box,
            "asked": one.asked,
            "seed": one.seed,
            "settings": self.summary.info.run.settings[:SHOWN_DIGITS],
            "places": self.images,
            "file": self.summary.info.run.network[:SHOWN_DIGITS],
            "timeout": allowed(self.summary),
        }
        return named[name] if name in named else _hashable(one.training.get(name))

    @property
    def images(self) -> str:
        """The images that verdicts were asked for."""
        asked, decided = self.summary.asked, self.summary.decided
        return (decided if asked is None else asked.union(decided)).text

    @property
    def question(self) -> Hashable:
        """What was asked of which images, and what was tried: never averaged over."""
        run = self.summary.info.run
        words = (run.perturbation, run.specification, run.settings)
        return (run.data_set, run.split, *words, self.images)

    @property
    def identity(self) -> Hashable:
        """Everything but the seed."""
        training = {k: v for k, v in self.training.items() if k != "train.seed"}
        names = ("method", "alpha", "sabr_lambda", "architecture")
        told = "" if training else self.known.file
        if not training:  # files of other versions say less: all that they say but the seed
            notes = self.summary.info.notes
            training = {k: v for k, v in notes.items() if k not in ("seed", "recipe")}
        words = json.dumps(training, sort_keys=True, default=str)
        return (self.question, *(self.value(name) for name in names), told, words)


def _distinguishing(groups: Sequence[Sequence[_Described]]) -> tuple[str, ...]:
    """Names of the columns: those of any run, and settings without which rows would look alike."""
    runs = [run for group in groups for run in group]
    names = [
        name
        for name in NAMES
        if name in _OF_QUESTION or any(_common(group, name) is not None for group in groups)
    ]
    names = [name for name in names if name != "seed"]
    alike = _alike(groups, names)
    trained = sorted({key for run in runs for key in run.training} - _HAS_A_COLUMN)
    settings = [key for key in trained if _differ(alike, key)]
    place = names.index("data_set")
    return (*names[:place], *settings, *names[place:])


def _told_apart(groups: Sequence[Sequence[_Described]], names: Sequence[str]) -> tuple[str, ...]:
    """Settings of the certification if any differ, and names without which rows would look alike.

    These are the images that were asked for, and the networks' files.
    """
    found = ("settings",) if _differ([[group[0] for group in groups]], "settings") else ()
    for name in ("places", "file"):
        if _differ(_alike(groups, (*names, *found)), name):
            found = (*found, name)
    return found


def _alike(groups: Sequence[Sequence[_Described]], names: Sequence[str]) -> list[list[_Described]]:
    """The first runs of the groups, those together that look alike by names."""
    alike: dict[Hashable, list[_Described]] = {}
    for group in groups:
        alike.setdefault(tuple(_common(group, name) for name in names), []).append(group[0])
    return list(alike.values())


def _differ(alike: Sequence[Sequence[_Described]], name: str) -> bool:
    """Whether runs that look alike differ in something."""
    return any(len({run.value(name) for run in same}) > 1 for same in alike)


def _group(runs: Sequence[_Described], names: Sequence[str]) -> RunGroup:
    keys = {name: _common(runs, name) for name in names}
    seeds = {run.seed for run in runs}
    count = None if None in seeds else len(seeds)
    others = [name for name in NAMES if name not in ("network", "seed")]
    others += [*sorted({key for run in runs for key in run.training} - _HAS_A_COLUMN), "timeout"]
    averaged = tuple(name for name in others if _differ([runs], name))
    return RunGroup(keys, tuple(run.summary for run in runs), count, runs[0].images, averaged)


def _common(runs: Sequence[_Described], name: str) -> Hashable:
    """What all runs of a group have; None: they differ, as the files of several seeds do."""
    values = {run.value(name) for run in runs}
    return values.pop() if len(values) == 1 else None


def _hashable(value: object) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return json.dumps(value, default=str)
    return value

"""What sweeps and tunings return: one frozen value for each run, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from verify_pipeline import reports
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.settings import plan
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.certify.tally import Summary
from verify_pipeline.config import Recipe
from verify_pipeline.errors import LedgerError
from verify_pipeline.run_folders import LEDGER
from verify_pipeline.sweeps.pareto import Point
from verify_pipeline.sweeps.trial import TrialOutcome

RunState = Literal["done", "failed", "open"]
TrialState = Literal["complete", "pruned", "failed", "running"]


def finished_test(folder: Path, recipe: Recipe) -> Summary | None:
    """The finished certification of test images that a recipe asks for, of a run's folder.

    Returns:
        None if it is not there, or not finished.
    """
    try:
        held = reports.read_ledgers([folder / LEDGER])
    except LedgerError:
        return None
    wanted = (
        recipe.train.data.full_name,
        "test",
        LinfBall(recipe.certify.epsilon).name,
        MARGINS.name,
        plan(recipe.certify).digest,
    )
    for summary in reversed(held):
        run = summary.info.run
        asked = (run.data_set, run.split, run.perturbation, run.specification, run.settings)
        if asked == wanted and summary.complete:
            return summary
    return None


QUESTION = ("data_set", "epsilon", "images", "places")
"""Columns that say what was asked: only results with the same values can be compared."""

SETTINGS = ("stages", "timeout", "settings")
"""Columns that say how it was tried: other settings may decide other images."""

SHARES = {"standard": "right", "verified": "proved", "robust_at_most": "not_broken"}
"""Columns in %, each with the tally's count of it."""


def measured(summary: Summary | None) -> dict[str, Any]:
    """A certification of test images as columns of a table; None where there is none.

    Returns:
        :data:`QUESTION`: data set, ε, number of images, and their places in the data set;
        :data:`SHARES` in %; ``undecided``; :data:`SETTINGS`: stages, seconds that an image was
        allowed at most, and the digest of all settings but those of time and memory.
    """
    if summary is None:
        return dict.fromkeys((*QUESTION, *SHARES, "undecided", *SETTINGS))
    run, tally = summary.info.run, summary.tally
    return {
        "data_set": run.data_set,
        "epsilon": summary.info.epsilon,
        "images": tally.images,
        "places": summary.decided.text,
        **{name: 100 * getattr(tally, count) / tally.images for name, count in SHARES.items()},
        "undecided": tally.undecided,
        "stages": " ".join(summary.stages),
        "timeout": max(record.timeout for record in summary.records),
        "settings": run.settings,
    }


@dataclass(frozen=True, eq=False)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: of its folder in the sweep's.
        values: what it differs in, YAML texts by dotted key.
        state: ``done``, ``failed``, or ``open`` where it was not tried to its end.
        seconds: of its last process; None if it did not end.
        error: of a failed one, the last line of its log.
        summary: of its test images; None unless it is done.
    """

    name: str
    values: Mapping[str, str]
    state: RunState
    seconds: float | None = None
    error: str | None = None
    summary: Summary | None = None

    def __repr__(self) -> str:
        return f"SweepRun({self.name}: {self.state})"


@dataclass(frozen=True, eq=False)
class SweepResult:
    """All runs of a sweep's folder.

    Attributes:
        folder: of the sweep.
        runs: in the order of the grid.
        files: the table, and what else was written.
    """

    folder: Path
    runs: tuple[SweepRun, ...]
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        states = [run.state for run in self.runs]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        return f"SweepResult({self.folder}: {counts})"

    @property
    def failed(self) -> tuple[SweepRun, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if run.state == "failed")

    def to_frame(self) -> pd.DataFrame:
        """One row for each run.

        Columns: ``run``; one for each key of the grid, with YAML texts; ``state``; of the test
        images, ``data_set``, ``epsilon``, ``images``, their ``places``, ``standard``, ``verified``
        and ``robust_at_most`` in %, ``undecided``, and the ``stages``, ``timeout`` and ``settings``
        that they were certified with; ``seconds`` of the run's last process; ``error``.
        """
        return pd.DataFrame(
            {
                "run": run.name,
                **run.values,
                "state": run.state,
                **measured(run.summary),
                "seconds": run.seconds,
                "error": run.error or "",
            }
            for run in self.runs
        )


@dataclass(frozen=True, eq=False)
class TuneTrial:
    """One trial of a tuning.

    Attributes:
        number: from 0.
        state: ``complete``, ``pruned``, ``failed`` or ``running``.
        values: what was chosen for it, YAML texts by dotted key of the recipe.
        objectives: shares of the validation images; None unless it is complete.
        outcome: what its process found; None if it failed or still runs.
        finished: Unix time in seconds; None while it runs.
        error: of a failed one, the last line of its log.
        on_front: whether no other trial is better by the objectives.
        summary: of its test images, for a trial of the front that was certified there.
    """

    number: int
    state: TrialState
    values: Mapping[str, str]
    objectives: Point | None = None
    outcome: TrialOutcome | None = None
    finished: float | None = None
    error: str | None = None
    on_front: bool = False
    summary: Summary | None = None

    def __repr__(self) -> str:
        return f"TuneTrial({self.number}: {self.state}, {self.objectives})"


@dataclass(frozen=True, eq=False)
class TuneResult:
    """A tuning's trials, and the front of those.

    Attributes:
        folder: of the tuning.
        objectives: names of what is maximised.
        trials: in the order of their numbers.
        hypervolume: that the trials up to each one dominate, by number of the complete ones in the
            order in which they ended; of validation shares, reference point 0.
        recipes: of the front's trials, YAML files that ``run`` takes, by trial.
        files: the report and what else was written.
    """

    folder: Path
    objectives: tuple[str, ...]
    trials: tuple[TuneTrial, ...]
    hypervolume: Mapping[int, float]
    recipes: Mapping[int, Path]
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return (
            f"TuneResult({self.folder}: {len(self.trials)} trials, {len(self.front)} on the front)"
        )

    @property
    def front(self) -> tuple[TuneTrial, ...]:
        """The trials that no other is better than, by the first objective, best first."""
        chosen = [trial for trial in self.trials if trial.on_front]
        return tuple(sorted(chosen, key=lambda trial: trial.objectives or (), reverse=True))

    def to_frame(self) -> pd.DataFrame:
        """One row for each trial.

        Columns: ``trial``, ``state``, ``on_front``; ``validation_…`` for each objective in %;
        ``validation_images`` and ``validation_undecided``; ``test_…`` as in a sweep's table, of the
        front's trials; one for each key of the search space, with YAML texts; ``error``.
        """
        return pd.DataFrame(self._row(trial) for trial in self.trials)

    def _row(self, trial: TuneTrial) -> dict[str, Any]:
        shares = trial.objectives or (None,) * len(self.objectives)
        pairs = zip(self.objectives, shares, strict=True)
        counts = {} if trial.outcome is None else trial.outcome.counts
        tested = measured(trial.summary)
        return {
            "trial": trial.number,
            "state": trial.state,
            "on_front": trial.on_front,
            **{f"validation_{n}": None if share is None else 100 * share for n, share in pairs},
            "validation_images": counts.get("images"),
            "validation_undecided": counts.get("undecided"),
            **{f"test_{name}": value for name, value in tested.items()},
            **trial.values,
            "error": trial.error or "",
        }

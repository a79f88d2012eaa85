"""The report of a tuning: Markdown and CSV, and the front's recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pandas as pd

from verify_pipeline.certify.tally import Summary
from verify_pipeline.config import Recipe, dump
from verify_pipeline.markdown import markdown_code, markdown_row, markdown_text
from verify_pipeline.sweeps.comparable import Measurement
from verify_pipeline.sweeps.folders import Said
from verify_pipeline.sweeps.pareto import front_indices, hypervolume_growth
from verify_pipeline.sweeps.pruning import PruningRule, replay
from verify_pipeline.sweeps.results import TuneResult, TuneTrial, measured
from verify_pipeline.sweeps.tune_plan import TunePlan


def with_front(
    trials: Iterable[TuneTrial], tested: Callable[[TuneTrial], Summary | None]
) -> tuple[TuneTrial, ...]:
    """The trials, of which those on the front are marked and have their test images' summary."""
    found = list(trials)
    complete = [trial for trial in found if trial.objectives is not None]
    chosen = front_indices([trial.objectives or () for trial in complete])
    numbers = {complete[place].number for place in chosen}
    return tuple(
        replace(trial, on_front=True, summary=tested(trial)) if trial.number in numbers else trial
        for trial in found
    )


def growth(trials: Iterable[TuneTrial], objectives: int) -> dict[int, float]:
    """The hypervolume over time, by trial in the order in which they ended; reference point 0."""
    complete = sorted(
        (trial for trial in trials if trial.objectives is not None),
        key=lambda trial: (trial.finished or 0.0, trial.number),
    )
    volumes = hypervolume_growth([t.objectives or () for t in complete], (0.0,) * objectives)
    return {trial.number: volume for trial, volume in zip(complete, volumes, strict=True)}


def recipe_text(trial: TuneTrial, recipe: Recipe, objectives: tuple[str, ...]) -> str:
    """A trial's recipe, with what was measured in front of it."""
    shares = zip(objectives, trial.objectives or (), strict=True)
    measured = ", ".join(f"{name} {100 * share:.2f} %" for name, share in shares)
    return f"# Trial {trial.number} of a tuning; on the validation images: {measured}.\n" + dump(
        recipe
    )


def trials_csv(result: TuneResult, command: str) -> str:
    """One row for each trial, see ``TuneResult.to_frame``."""
    return _csv(result.to_frame(), command)


def front_csv(result: TuneResult, command: str) -> str:
    """The same rows, of the front only."""
    frame = result.to_frame()
    return _csv(frame[frame["on_front"]].drop(columns="on_front"), command)


def hypervolume_csv(result: TuneResult, command: str) -> str:
    """The hypervolume over time: a row for each complete trial, in the order of their ends."""
    finished = {trial.number: trial.finished for trial in result.trials}
    began = min((time for time in finished.values() if time is not None), default=0.0)
    rows = [
        {"trial": number, "seconds": (finished[number] or began) - began, "hypervolume": volume}
        for number, volume in result.hypervolume.items()
    ]
    return _csv(pd.DataFrame(rows, columns=["trial", "seconds", "hypervolume"]), command)


def _csv(frame: pd.DataFrame, command: str) -> str:
    return frame.assign(generated_by=command).to_csv(index=False, lineterminator="\n")


def markdown(result: TuneResult, made: TunePlan, command: str) -> str:
    """The report for a reader.

    Args:
        result: of the tuning.
        made: what was searched.
        command: that makes the report.
    """
    said, validation = made.said, made.base.train.data.validation
    states = Counter(trial.state for trial in result.trials)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    volume = list(result.hypervolume.values())
    dominated = f"{volume[-1]:.4f}" if volume else "0 (no trial is complete)"
    lines = [
        f"# Tuning of {markdown_text(said['recipe'])}",
        "",
        f"The choice was made on {validation} validation images, which are held out of the "
        "training images. The columns *test* are of test images, which no choice has seen.",
        "",
        f"* Trials: {len(result.trials)} ({counts}). Seed of the search: {said['seed']}.",
        f"* Objectives: {', '.join(result.objectives)}.",
        f"* Verified accuracy in the search: {made.verified}.",
        *_tested_by(result),
        f"* Dominated by the front on the validation images, of 1: {dominated} (shares of the "
        "images; reference point 0).",
        *_without_pruning(result, said),
        "",
        *_front_table(result),
        "",
        *_failed(result),
        *(
            f"Recipe of trial {n}: {markdown_code(path.name)}.  "
            for n, path in result.recipes.items()
        ),
        "",
        f"Made by {markdown_code(command)}.",
        "",
    ]
    return "\n".join(lines)


def _tested_by(result: TuneResult) -> list[str]:
    """How the front's networks were certified on test images, each way once."""
    tested = [trial.summary for trial in result.front if trial.summary is not None]
    ways = dict.fromkeys(Measurement.of(measured(summary)) for summary in tested)
    return [f"* Tested on {way.question_shown}; {way.settings_shown}." for way in ways]


def _without_pruning(result: TuneResult, said: Said) -> list[str]:
    """What the rule would have ended, of a study whose trainings all went to the end."""
    if said["pruning"]["active"]:
        return []
    rule = PruningRule(margin=said["pruning"]["margin"], rivals=said["pruning"]["rivals"])
    complete = [trial for trial in result.trials if trial.outcome is not None]
    found = replay([trial.outcome.rungs for trial in complete if trial.outcome], rule)
    lost = sum(complete[place].on_front for place in found.ended)
    return [
        f"* No training was ended early. The rule would have ended {len(found.ended)} of "
        f"{len(complete)}, {lost} of them on the front, and saved {100 * found.saved:.0f} % of all "
        "epochs; the trials after the first of them would have been drawn otherwise."
    ]


def _front_table(result: TuneResult) -> list[str]:
    """The front, a line for each of its trials: accuracies in %, and what was chosen."""
    keys = list(dict.fromkeys(key for trial in result.front for key in trial.values))
    heads = [f"validation {name} %" for name in result.objectives]
    heads += ["test images", "test standard %", "test verified %", "test undecided"]
    lines = [
        markdown_row(["trial", *heads, *(markdown_code(key) for key in keys)]),
        f"|---|{'---:|' * (len(heads) + len(keys))}",
    ]
    for trial in result.front:
        shares = [f"{100 * share:.2f}" for share in trial.objectives or ()]
        cells = [*shares, *_tested(trial), *(_short(trial.values.get(key, "")) for key in keys)]
        lines.append(markdown_row([f"{trial.number}", *cells]))
    return lines


def _tested(trial: TuneTrial) -> list[str]:
    if trial.summary is None:
        return ["–", "–", "–", "–"]
    tally = trial.summary.tally
    shares = [f"{100 * count / tally.images:.2f}" for count in (tally.right, tally.proved)]
    return [str(tally.images), *shares, str(tally.undecided)]


def _short(text: str) -> str:
    """A number of a search with as many digits as tell it from others; the CSV has all."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _recipes(result: TuneResult) -> list[str]:
    files = {number: markdown_code(path.name) for number, path in result.recipes.items()}
    return [f"Recipe of trial {number}: {name}.  " for number, name in files.items()]


def _failed(result: TuneResult) -> list[str]:
    failed = [trial for trial in result.trials if trial.state == "failed"]
    lines = [
        f"* Trial {trial.number} failed: {markdown_text(str(trial.error))}" for trial in failed
    ]
    return [*lines, ""] if lines else []

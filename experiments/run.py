"""Runs an experiment: sweeps of recipes, a table of their test images, and figures.

    python experiments/run.py alpha-zero --data digits --jobs 2 [--data-root …]

EXPERIMENT.yaml beside this file names its sweeps, sweeps.yaml says what they train. They lie in
runs/experiments/; the same command continues them. The table goes to results/experiments/, figures
to docs/experiments/, whose pages say what can be read from them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import training_costs
import yaml
from training_costs import Training, training

from verify_pipeline import api
from verify_pipeline.errors import ConfigError, DataError, VerifyPipelineError
from verify_pipeline.figures import drawings
from verify_pipeline.figures.files import save_figure
from verify_pipeline.reporting import Layout

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
SWEEPS = "sweeps"


@dataclass(frozen=True)
class Plan:
    """What an experiment trains on a data set, and what is drawn.

    Attributes:
        recipe: the sweeps' recipe.
        seeds: for each combination of values.
        grids: by name of a sweep.
        overrides: of the recipe, by name of a sweep.
        figures: kinds of ``plot``.
        by: what tells rows of the table apart; nothing: what differs.
        costs: whether there is a table of what the trainings cost.
    """

    recipe: str
    seeds: int
    grids: dict[str, dict[str, list[Any]]]
    overrides: dict[str, dict[str, Any]]
    figures: tuple[str, ...]
    by: tuple[str, ...]
    costs: bool


def experiments() -> list[str]:
    """Names of the experiments that are sweeps."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != SWEEPS)


def read(name: str, data: str) -> Plan:
    """What an experiment does on a data set.

    Raises:
        ConfigError: there is no such experiment, or it is not for that data set.
    """
    if name not in experiments():
        raise ConfigError("experiment", expected=f"one of {', '.join(experiments())}", got=name)
    said, known = _yaml(name), _yaml(SWEEPS)
    if data not in known["data"]:
        raise ConfigError("--data", expected=f"one of {', '.join(known['data'])}", got=data)
    base = known["data"][data]
    sweeps = {each: known["sweeps"][each] for each in said["sweeps"]}
    return Plan(
        base["recipe"],
        known["seeds"],
        {each: sweep["grid"] for each, sweep in sweeps.items()},
        {
            each: {**base.get("set", {}), **sweep.get("set", {}).get(data, {})}
            for each, sweep in sweeps.items()
        },
        tuple(said["figures"]),
        tuple(said.get("by", ())),
        bool(said.get("costs", False)),
    )


def _yaml(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True, eq=False)
class Found:
    """The finished runs of all sweeps.

    Attributes:
        summaries: of their test images.
        trainings: what they cost.
        failed: how many failed, which are told and left out.
    """

    summaries: list[api.Summary]
    trainings: list[Training]
    failed: int


def run(plan: Plan, asked: argparse.Namespace) -> Found:
    """Run all sweeps, or as much of them as is left."""
    summaries: list[api.Summary] = []
    trainings: list[Training] = []
    failed = 0
    for name, grid in plan.grids.items():
        folder = asked.runs / asked.data / name
        print(f"{name}: {folder}", file=sys.stderr, flush=True)
        result = api.sweep(
            plan.recipe,
            {key: list(values) for key, values in grid.items()},
            folder,
            seeds=asked.seeds or plan.seeds,
            jobs=asked.jobs,
            overrides=plan.overrides[name],
            data_root=asked.data_root,
        )
        for each in result.failed:
            print(f"failed: {each.name}: {each.error}", file=sys.stderr, flush=True)
        failed += len(result.failed)
        for each in result.runs:
            if each.summary is not None:
                summaries.append(each.summary)
                trainings.append(training(each.values, folder / each.name))
    return Found(summaries, trainings, failed)


def write(plan: Plan, found: Found, asked: argparse.Namespace) -> None:
    """The tables and the figures."""
    name = f"{asked.experiment}-{asked.data}"
    seeds = f" --seeds {asked.seeds}" if asked.seeds else ""
    command = f"python experiments/run.py {asked.experiment} --data {asked.data}{seeds}"
    layout = Layout(by=plan.by)
    results, summaries = asked.out / "results" / "experiments", found.summaries
    api.tabulate(summaries, results, name, command, layout)
    if plan.costs:
        costs = training_costs.table(found.trainings, command)
        training_costs.write(costs, results / f"{name}-training")
    for kind in plan.figures:
        drawn = _of_first_seed(summaries) if kind == "stages" else summaries
        drawing = drawings.KINDS[kind](drawn, "page" if kind == "stages" else "column")
        path = asked.out / "docs" / "experiments" / f"{name}-{kind}"
        save_figure(drawing.figure, path, ["svg"], title=drawing.title, command=command)


def _of_first_seed(found: list[api.Summary]) -> list[api.Summary]:
    """The runs that have the least seed: a panel for each run of all seeds would not fit."""
    seeds = [run.info.notes.get("seed", "") for run in found]
    return [run for run, seed in zip(found, seeds, strict=True) if seed == min(seeds)]


def main() -> None:
    """Do what the command line says; exit 2 for a mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("experiment", help=", ".join(experiments()))
    add("--data", default="digits")
    add("--jobs", type=int, default=1)
    add("--seeds", type=int, default=0, help="0: as the experiment says")
    add("--data-root", type=Path, default=None)
    add("--runs", type=Path, default=ROOT / "runs" / "experiments")
    add("--out", type=Path, default=ROOT)
    asked = parser.parse_args()
    try:
        plan = read(asked.experiment, asked.data)
        found = run(plan, asked)
        if not found.summaries:
            raise DataError(asked.experiment, expected="a run that did not fail", got="none")
        write(plan, found, asked)
    except VerifyPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if found.failed:
        sys.exit(2)


if __name__ == "__main__":
    main()

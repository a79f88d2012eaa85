"""Searches each method's settings, and compares the Pareto fronts by what the search measured.

    python experiments/fronts.py --data digits --jobs 2 [--data-root …]

sweeps.yaml says what is searched. Each method is searched once for each estimate: verified accuracy
of the held-out images by complete verification, by CROWN or by IBP. Whatever the estimate, the
networks of the front are certified on the test images by the recipe's whole cascade, so that all
fronts are measured alike. The tunings lie in runs/experiments/; the same command continues them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import yaml

from verify_pipeline import api
from verify_pipeline.atomic_write import write_all
from verify_pipeline.errors import ConfigError, VerifyPipelineError
from verify_pipeline.figures import drawings
from verify_pipeline.figures.files import save_figure

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
COMPLETE = "complete"
DECIMALS = {"area": 4, "gap": 4, "area_std": 4, "best_standard": 2, "best_verified": 2}
HEADINGS = {
    "method": "Method",
    "estimate": "Searched by",
    "seeds": "Seeds",
    "trials": "Trials",
    "ended_early": "Ended early",
    "failed": "Failed",
    "front": "On the front",
    "area": "Dominated area",
    "area_std": "± std",
    "gap": "Less than complete's",
    "best_standard": "Best standard %",
    "best_verified": "Best verified %",
}


@dataclass(frozen=True)
class Tuning:
    """One search.

    Attributes:
        method: its name in the table.
        estimate: how verified accuracy is measured in the search.
        seed: of what the search draws.
        recipe: that is tuned.
        overrides: of the recipe.
        trials: that the search has.
    """

    method: str
    estimate: str
    seed: int
    recipe: str
    overrides: dict[str, Any]
    trials: int

    @property
    def folder(self) -> Path:
        """Of the tuning, below that of the data set."""
        return Path("fronts", f"{self.method.lower()}-{self.estimate}-{self.seed}")


def tunings(data: str, seeds: int = 0) -> list[Tuning]:
    """The searches of a data set: all methods and estimates of one seed, then of the next.

    Args:
        data: name of the set.
        seeds: how many; 0: as sweeps.yaml says.

    Raises:
        ConfigError: there is no such data set.
    """
    known = yaml.safe_load((FOLDER / "sweeps.yaml").read_text(encoding="utf-8"))
    said = known["tunings"]
    if data not in known["data"]:
        raise ConfigError("--data", expected=f"one of {', '.join(known['data'])}", got=data)
    base = known["data"][data]
    shared = {**base.get("set", {}), **said["set"].get(data, {})}
    return [
        Tuning(method, estimate, seed, base["recipe"], {**shared, **values}, said["trials"])
        for seed in range(seeds or known["seeds"])
        for method, values in said["methods"].items()
        for estimate in said["estimates"]
    ]


def row_of(results: list[api.TuneResult]) -> dict[str, Any]:
    """The searches of one method by one estimate, all seeds; measured on test images."""
    states = [trial.state for result in results for trial in result.trials]
    front = api.front({"": [result.folder for result in results]})
    areas = front.to_frame().iloc[0]
    repetitions = front.methods[0].repetitions
    return {
        "seeds": len(results),
        "trials": len(states),
        "ended_early": states.count("pruned"),
        "failed": states.count("failed"),
        "front": sum(len(result.front) for result in results),
        "area": areas["hypervolume"],
        "area_std": areas["hypervolume_std"],
        "best_standard": 100 * mean(max(each)[0] for each in repetitions),
        "best_verified": 100 * mean(max(point[1] for point in each) for each in repetitions),
    }


def table(found: dict[tuple[str, str], list[api.TuneResult]]) -> pd.DataFrame:
    """A row for each method and estimate, with what its front lacks of complete verification's."""
    frame = pd.DataFrame(
        {"method": method, "estimate": estimate, **row_of(results)}
        for (method, estimate), results in found.items()
    )
    return with_gap(frame)


def with_gap(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with the column ``gap``: complete verification's area less the row's."""
    complete = frame[frame["estimate"] == COMPLETE].set_index("method")["area"]
    lacks = frame["method"].map(complete) - frame["area"]
    frame.insert(list(frame).index("area") + 1, "gap", lacks)
    return frame


def markdown(frame: pd.DataFrame, command: str) -> str:
    """The table as a document."""
    shown = frame.copy()
    for name, decimals in DECIMALS.items():
        shown[name] = ["–" if pd.isna(x) else f"{x:.{decimals}f}" for x in frame[name]]
    heads = [HEADINGS[str(name)] for name in shown]
    lines = [heads, ["---"] * len(heads), *shown.astype(str).to_numpy().tolist()]
    return "\n".join(
        [
            f"<!-- Generated by {command} -->",
            *(f"| {' | '.join(line)} |" for line in lines),
            "",
            "Accuracies and areas are of test images, by complete verification, and means over the",
            "seeds of the search. Areas are of 1, from the reference point 0 %, 0 %.",
            "",
        ]
    )


def write(
    found: dict[tuple[str, str], list[api.TuneResult]], out: Path, name: str, command: str
) -> None:
    """The table, and the figure of the fronts by complete verification."""
    frame = table(found)
    place = out / "results" / "experiments" / name
    text = frame.assign(generated_by=command).to_csv(index=False, lineterminator="\n")
    write_all({place.with_suffix(".md"): markdown(frame, command), place.with_suffix(".csv"): text})
    by_complete = [results for (_, estimate), results in found.items() if estimate == COMPLETE]
    trials = [trial for results in by_complete for result in results for trial in result.front]
    drawing = drawings.accuracy([trial.summary for trial in trials if trial.summary is not None])
    path = out / "docs" / "experiments" / f"{name}-accuracy"
    save_figure(drawing.figure, path, ["svg"], title=drawing.title, command=command)


def main() -> None:
    """Do what the command line says; exit 2 for a mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--data", default="digits")
    add("--jobs", type=int, default=1)
    add("--seeds", type=int, default=0, help="of each search; 0: as sweeps.yaml says")
    add("--data-root", type=Path, default=None)
    add("--runs", type=Path, default=ROOT / "runs" / "experiments")
    add("--out", type=Path, default=ROOT)
    asked = parser.parse_args()
    command = f"python experiments/fronts.py --data {asked.data}"
    command += f" --seeds {asked.seeds}" if asked.seeds else ""
    found: dict[tuple[str, str], list[api.TuneResult]] = {}
    try:
        for tuning in tunings(asked.data, asked.seeds):
            folder = asked.runs / asked.data / tuning.folder
            print(folder, file=sys.stderr, flush=True)
            result = api.tune(
                tuning.recipe,
                folder,
                tuning.trials,
                jobs=asked.jobs,
                overrides=tuning.overrides,
                data_root=asked.data_root,
                estimate=tuning.estimate,
                seed=tuning.seed,
            )
            found.setdefault((tuning.method, tuning.estimate), []).append(result)
        write(found, asked.out, f"fronts-{asked.data}", command)
    except VerifyPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

"""What an experiment's trainings cost: seconds of their epochs, from each metrics.csv."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

REFERENCE = "ibp"
"""The loss whose cost is 1."""


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        method: what it was trained by, such as ``taps, classifier_relus 2``.
        seconds: of all its epochs, without looks at validation images.
        epochs: of the training.
    """

    method: str
    seconds: float
    epochs: int


def training(values: Mapping[str, object], folder: Path) -> Training:
    """The training in a run's folder.

    Args:
        values: of the sweep, by dotted key.
        folder: with metrics.csv.
    """
    seconds = pd.read_csv(folder / "metrics.csv")["seconds"]
    return Training(method(values), float(seconds.sum()), len(seconds))


def method(values: Mapping[str, object]) -> str:
    """The loss first, then what else differs, by the last part of its key."""
    others = {key.rpartition(".")[2]: value for key, value in values.items()}
    name = str(others.pop("name", ""))
    others.pop("seed", None)
    return ", ".join([name, *(f"{key} {value}" for key, value in others.items())])


def table(found: Iterable[Training], command: str) -> pd.DataFrame:
    """A row for each method, the cheapest first.

    Args:
        found: all trainings; those of one method are seeds.
        command: that made them.
    """
    by_method: dict[str, list[Training]] = {}
    for each in found:
        by_method.setdefault(each.method, []).append(each)
    epoch = {name: _mean_epoch(runs) for name, runs in by_method.items()}
    rows = [
        {
            "method": name,
            "seeds": len(runs),
            "training_seconds": round(statistics.mean(run.seconds for run in runs), 1),
            "epoch_seconds": round(epoch[name], 3),
            "times_ibp": round(epoch[name] / epoch[REFERENCE], 2) if REFERENCE in epoch else None,
            "generated_by": command,
        }
        for name, runs in sorted(by_method.items(), key=lambda item: epoch[item[0]])
    ]
    return pd.DataFrame(rows)


def _mean_epoch(runs: Sequence[Training]) -> float:
    return statistics.mean(run.seconds / run.epochs for run in runs)


def write(found: pd.DataFrame, path: Path) -> None:
    """As CSV and as Markdown, which names the command.

    Args:
        found: from :func:`table`.
        path: of both files, without an ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    found.to_csv(path.with_suffix(".csv"), index=False)
    names = {
        "method": "method",
        "seeds": "seeds",
        "training_seconds": "training (s)",
        "epoch_seconds": "an epoch (s)",
        "times_ibp": "IBP = 1",
    }
    lines = [
        "# What the trainings cost",
        "",
        "Wall-clock seconds of one thread, from metrics.csv; other work may have run beside.",
        "",
        f"| {' | '.join(names.values())} |",
        f"|---|{'---:|' * (len(names) - 1)}",
        *(f"| {' | '.join(str(row[key]) for key in names)} |" for _, row in found.iterrows()),
        "",
        f"Made by `{found['generated_by'].iloc[0]}`.",
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")

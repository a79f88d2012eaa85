"""One trial of a tuning: a training, and its accuracies on the validation images.

This is what the trial's own process does; it knows nothing of Optuna.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from verify_pipeline import pipeline, strict_json
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.settings import ALL_STAGES, CertifySettings, StageName, plan
from verify_pipeline.certify.stage_verdicts import BOUNDING_STAGES
from verify_pipeline.config import Recipe
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import ConfigError, StudyError
from verify_pipeline.settings import STRICT
from verify_pipeline.sweeps.pruning import PruningRule, rung_points
from verify_pipeline.training import Several, Trained
from verify_pipeline.training.observer import Silent, TrainObserver

OUTCOME, VALIDATION = "outcome.json", "validation.sqlite"
"""Names of files in a trial's folder."""

ESTIMATES: dict[str, tuple[StageName, ...]] = {
    "complete": ALL_STAGES,
    "crown": ("clean", "ibp", "crown"),
    "ibp": ("clean", "ibp"),
}
"""How verified accuracy is measured in a search: all of the recipe's stages, or bounds alone."""

OBJECTIVES = {"standard": "right", "attack-robust": "withstood", "verified": "proved"}
"""What can be maximised, each a share of the validation images, and the tally's count of it."""

NEEDED: dict[str, tuple[str, ...]] = {"attack-robust": ("attack",), "verified": BOUNDING_STAGES}
"""Stages without which an objective is not measured: at least one of them."""


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class Rivals:
    """The rule, and the rungs of the trainings that went to the end before this one began.

    Attributes:
        rule: that may end the training.
        rungs: standard and IBP-verified accuracy of each, by rung.
    """

    rule: PruningRule = PruningRule()
    rungs: Mapping[int, tuple[tuple[float, float], ...]] = Field(default_factory=dict)


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial's process found.

    Attributes:
        pruned: the rung on which the training was ended; None: it went to the end.
        rungs: standard and IBP-verified accuracy, by rung.
        counts: of validation images: ``images``, those of :data:`OBJECTIVES`, ``not_broken`` and
            ``undecided``; empty if the training was ended.
        seconds: of training and of certification.
    """

    pruned: int | None
    rungs: Mapping[int, tuple[float, float]]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]

    def objective(self, name: str) -> float:
        """The share of validation images that one of :data:`OBJECTIVES` counts."""
        return self.counts[OBJECTIVES[name]] / self.counts["images"]


def check_objectives(objectives: Sequence[str], estimate: str) -> None:
    """Refuse objectives that are unknown, repeated, or not measured by any recipe's estimate.

    Raises:
        ConfigError: they are.
    """
    if estimate not in ESTIMATES:
        raise ConfigError(
            "--estimate", expected=f"one of {', '.join(ESTIMATES)}", got=repr(estimate)
        )
    unknown = [name for name in objectives if name not in OBJECTIVES]
    if unknown or not objectives or len(set(objectives)) < len(objectives):
        raise ConfigError(
            "--objectives",
            expected=f"some of {', '.join(OBJECTIVES)}, each once",
            got=", ".join(objectives) or "none",
        )
    if "attack-robust" in objectives and "attack" not in ESTIMATES[estimate]:
        raise ConfigError(
            "--objectives attack-robust", expected="--estimate complete", got=f"{estimate}"
        )


def validation_settings(recipe: Recipe, estimate: str, timeout: float) -> CertifySettings:
    """The certification of all validation images: the recipe's, by other stages and seconds."""
    stages = tuple(name for name in recipe.certify.stages if name in ESTIMATES[estimate])
    if estimate != "complete":
        stages = ESTIMATES[estimate]
    return replace(recipe.certify, stages=stages, timeout=timeout, indices=":")


def measuring_stages(settings: CertifySettings, objectives: Sequence[str]) -> tuple[str, ...]:
    """The stages that measure the objectives, in order.

    Raises:
        ConfigError: there is none for an objective, which would be the same for all trials, or
            that of another objective.
    """
    stages = plan(settings).stages
    for name in objectives:
        needed = NEEDED.get(name)
        if needed is not None and not set(needed) & set(stages):
            raise ConfigError(
                f"--objectives {name}",
                expected=f"a recipe with {' or '.join(needed)} among certify.stages",
                got=", ".join(stages),
            )
    return stages


def run_trial(
    recipe: Recipe,
    folder: Path,
    settings: CertifySettings,
    rivals: Rivals,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    observer: TrainObserver | None = None,
) -> TrialOutcome:
    """Train, export, and certify the held-out images; what is there already is continued.

    Args:
        recipe: with held-out images.
        folder: of the trial.
        settings: of the certification of the held-out images.
        rivals: may end the training.
        data_root: where the data set is looked for.
        device: ``auto``, ``cpu``, ``cuda``, …
        observer: is told of the training.

    Raises:
        VerifyPipelineError: something in the recipe, the data or the folder is not as it must be.
    """
    began = time.monotonic()
    epochs = recipe.train.optimiser.epochs
    ahead = _Ahead(rivals, epochs)
    watching = ahead if observer is None else Several(observer, ahead)
    try:
        trained = pipeline.train(
            recipe, folder, data_root=data_root, device=device, observer=watching, progress=True
        )
    except _EndedEarlyError as ended:
        return TrialOutcome(ended.rung, ahead.points, {}, {"train": time.monotonic() - began})
    trained_after = time.monotonic() - began
    images = _held_out(trained)
    path = folder / f"{recipe.name}.onnx"
    pipeline.export_onnx(trained, path, images=images, metadata={"recipe": recipe.name})
    tally = pipeline.certify(
        path, images, settings, ledger=folder / VALIDATION, device=device, progress=True
    ).tally
    names = ("images", *OBJECTIVES.values(), "not_broken", "undecided")
    counts = {
        "images": tally.images,
        "right": tally.right,
        "withstood": tally.withstood,
        "proved": tally.proved,
        "not_broken": tally.not_broken,
        "undecided": tally.undecided,
    }
    seconds = {"train": trained_after, "certify": time.monotonic() - began - trained_after}
    rungs = rung_points(trained.metrics, epochs)
    return TrialOutcome(None, rungs, {name: counts[name] for name in names}, seconds)


def _held_out(trained: Trained) -> ImageSet:
    """The validation images as a split of their own, whose places no other split's rows share."""
    if trained.validation is None:
        raise ConfigError("train.data.validation", expected="held-out images", got="0")
    return replace(trained.validation, split="validation")


class _EndedEarlyError(Exception):
    """Leaves a training whose rivals are far ahead."""

    def __init__(self, rung: int) -> None:
        super().__init__(rung)
        self.rung = rung


class _Ahead(Silent):
    """Ends a training on a rung on which rivals are far ahead; its checkpoint is kept by then."""

    def __init__(self, rivals: Rivals, epochs: int) -> None:
        self._rivals, self._epochs = rivals, epochs
        self.points: dict[int, tuple[float, float]] = {}

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Compare, where the epoch is a rung."""
        for rung, point in rung_points([metrics], self._epochs).items():
            self.points[rung] = point
            rule = self._rivals.rule
            if rule.active and rule.far_behind(point, self._rivals.rungs.get(rung, ())):
                raise _EndedEarlyError(rung)


def write_outcome(folder: Path, outcome: TrialOutcome) -> None:
    """Write what :func:`read_outcome` reads."""
    write_whole(folder / OUTCOME, f"{json.dumps(asdict(outcome), indent=1)}\n")


def read_outcome(folder: Path) -> TrialOutcome:
    """The outcome of a trial's folder.

    Raises:
        StudyError: there is none, or it is damaged.
    """
    try:
        return outcome_of(strict_json.parse((folder / OUTCOME).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StudyError(
            f"trial {folder}", expected=f"an outcome in {OUTCOME}", got=str(error).split("\n")[0]
        ) from None


def outcome_of(plain: Any) -> TrialOutcome:
    """The outcome that JSON's types say.

    Raises:
        ValueError: they say none.
    """
    outcome = TypeAdapter(TrialOutcome).validate_python(plain)
    counts = outcome.counts
    missing = [name for name in (*OBJECTIVES.values(), "images") if name not in counts]
    if outcome.pruned is None and missing:
        raise ValueError(f"no count of {missing[0]}")
    if not all(0 <= count <= counts["images"] for count in counts.values()):
        raise ValueError(f"counts {dict(counts)}")
    return outcome

"""The process of one run or trial: ``python -m verify_pipeline.sweeps.worker job.json``.

It ends when the process that started it is gone, which it learns from the end of its input. That
is watched from the first moment on, so everything large is imported later.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verify_pipeline import strict_json

if TYPE_CHECKING:
    from verify_pipeline.config import Recipe
    from verify_pipeline.sweeps.trial import Rivals
    from verify_pipeline.training import TrainObserver

ORPHANED = 75
"""Exit code of a process whose parent is gone."""


def run_job(folder: Path, recipe: Path, values: dict[str, str]) -> dict[str, Any]:
    """A job of everything that a recipe says, see ``pipeline.run``.

    Args:
        folder: of the run.
        recipe: the YAML file.
        values: that replace the file's, YAML texts by dotted key.
    """
    return {"kind": "run", "folder": str(folder), "recipe": str(recipe), "set": values}


def trial_job(job: dict[str, Any], estimate: str, timeout: float, rivals: Rivals) -> dict[str, Any]:
    """The same job as a trial, see ``trial.run_trial``."""
    about = {"estimate": estimate, "timeout": timeout, "rivals": asdict(rivals)}
    return {**job, "kind": "trial", **about}


def do(job: dict[str, Any]) -> None:
    """Do a job.

    Raises:
        VerifyPipelineError: something in the recipe, the data or the folder is not as it must be.
    """
    from verify_pipeline import pipeline
    from verify_pipeline.run_folders import KeepBegun, begin

    folder = Path(job["folder"])
    data_root = None if job.get("data_root") is None else Path(job["data_root"])
    begun = begin(job["recipe"], job["set"], folder, job.get("device", "auto"))
    kept = KeepBegun(folder, begun)
    if job["kind"] == "trial":
        _do_trial(job, begun.recipe, folder, data_root, kept)
        return
    pipeline.run(
        begun.recipe,
        folder,
        data_root=data_root,
        device=begun.device,
        train_observer=kept,
        command=begun.command(folder),
        progress=True,
    )


def _do_trial(
    job: dict[str, Any],
    recipe: Recipe,
    folder: Path,
    data_root: Path | None,
    observer: TrainObserver,
) -> None:
    from pydantic import TypeAdapter

    from verify_pipeline.sweeps import trial

    settings = trial.validation_settings(recipe, job["estimate"], job["timeout"])
    outcome = trial.run_trial(
        recipe,
        folder,
        settings,
        TypeAdapter(trial.Rivals).validate_json(json.dumps(job["rivals"])),
        data_root=data_root,
        device=job.get("device", "auto"),
        observer=observer,
    )
    trial.write_outcome(folder, outcome)


def main(path: Path) -> int:
    """Do the job of a file; returns the exit code, after the error's line."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from verify_pipeline.errors import VerifyPipelineError

    try:
        do(strict_json.parse(path.read_text(encoding="utf-8")))
    except VerifyPipelineError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_code
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Tuning: search the settings of a recipe for a Pareto front, on images held out of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from verify_pipeline import reports
from verify_pipeline.atomic_write import check_folder, write_all
from verify_pipeline.certify.tally import Summary
from verify_pipeline.config import Recipe, load_recipe
from verify_pipeline.conversions import choose_device
from verify_pipeline.errors import ConfigError, StudyError
from verify_pipeline.run_folders import RECIPE
from verify_pipeline.sweeps import folders
from verify_pipeline.sweeps.figure import draw_figure
from verify_pipeline.sweeps.grid import full_name
from verify_pipeline.sweeps.locks import FileLock, is_held
from verify_pipeline.sweeps.machine import Machine
from verify_pipeline.sweeps.processes import Ended, Launcher, RunJob, run_all
from verify_pipeline.sweeps.pruning import PruningRule, watch_every
from verify_pipeline.sweeps.results import TuneResult, TuneTrial, finished_test
from verify_pipeline.sweeps.space import EPOCHS
from verify_pipeline.sweeps.study import Drawn, Study, require_optuna
from verify_pipeline.sweeps.trial import Rivals, read_outcome
from verify_pipeline.sweeps.tune_plan import TunePlan, TuneRequest, plan_tuning
from verify_pipeline.sweeps.tuning_report import (
    front_csv,
    growth,
    hypervolume_csv,
    markdown,
    recipe_text,
    trials_csv,
    with_front,
)
from verify_pipeline.sweeps.watching import JobWatcher, seconds_left
from verify_pipeline.sweeps.worker import run_job, trial_job

TRIALS, FRONT = "trials", "front"
"""Folders of the trials, and of the front's recipes."""

TEST_LOCK = ".test.lock"
"""In a trial's folder: the lock of the command that certifies its test images."""


def tune(
    request: TuneRequest,
    folder: Path,
    trials: int,
    machine: Machine,
    watcher: JobWatcher | None = None,
    command: str = "verify_pipeline.api.tune",
) -> TuneResult:
    """Search, certify the test images of the front's networks, and report.

    Each trial is a training, an export and a certification of the held-out images, in a process
    and a folder of its own. A trial that fails does not end the search. Trials are chosen by
    validation images only; the test images are certified for the front that they give. Several
    calls may work on one folder at once. One that was interrupted is continued by the same call; a
    trial goes on from its last epoch.

    Args:
        request: what is searched.
        folder: of the tuning.
        trials: that the study is to have, whatever their state.
        machine: where trials are done, and how many at once.
        watcher: is told what happens.
        command: what makes the report, as it tells its reader.

    Raises:
        ConfigError: a mistake in recipe, space, objectives or numbers.
        StudyError: the folder belongs to another tuning, or its study is locked or damaged.
        DependencyError: Optuna is not installed.
        DataError: the data is missing, or the folder cannot be written.
        ProcessError: the cluster does not answer, has no room, or does not see the folder.
    """
    made = check_tuning(request, folder, trials, machine)
    watching = watcher or JobWatcher()
    for note in made.notes:
        watching.noted(note)
    with machine.launcher(folder) as launcher:
        with FileLock(folder / ".begin.lock", 10.0):
            if not (folder / folders.TUNING).is_file():
                folders.keep(folder, folders.TUNING, made.said, made.text)
        with Study(folder, len(request.objectives), request.seed) as study:
            tuner = _Tuner(made, folder, study, machine, launcher, watching)
            return tuner.work(trials, command)


def check_tuning(request: TuneRequest, folder: Path, trials: int, machine: Machine) -> TunePlan:
    """Check all that :func:`tune` refuses before its first trial; nothing is written.

    Raises:
        VerifyPipelineError: as :func:`tune`, but for the study's own file.
    """
    if trials < 1:
        raise ConfigError("--trials", expected="at least 1", got=str(trials))
    require_optuna()
    choose_device(machine.device)
    check_folder(folder)
    return plan_tuning(request, folder, machine.data_root)


class _Tuner:
    """One command's work on a tuning."""

    def __init__(
        self,
        made: TunePlan,
        folder: Path,
        study: Study,
        machine: Machine,
        launcher: Launcher,
        watcher: JobWatcher,
    ) -> None:
        self._made, self._folder, self._study = made, folder, study
        self._machine, self._launcher, self._watcher = machine, launcher, watcher
        self._rule = TypeAdapter(PruningRule).validate_python(made.said["pruning"])

    def work(self, trials: int, command: str) -> TuneResult:
        """Search; then certify test images and report, unless other commands still work."""
        self.search(trials)
        others = self._study.others_running()
        if others:
            self._watcher.noted(
                f"Trials that other commands work on: {others}. The command that ends last "
                "certifies the front's test images and writes the report."
            )
            return self.result()
        others = self.test_front()
        if others:
            self._watcher.noted(
                f"Networks whose test images other commands certify: {others}. The command that "
                "ends last writes the report."
            )
            return self.result()
        return self.report(command)

    def search(self, trials: int) -> None:
        """Do trials until the study has as many."""
        done = sum(trial.state != "running" for trial in self._study.trials())
        self._watcher.planned(trials, min(done, trials), self._launcher.jobs)
        seconds: list[float] = []
        epochs = self._made.base.train.optimiser.epochs

        def next_job() -> RunJob | None:
            drawn = self._study.next(trials, self._made.space, epochs)
            return None if drawn is None else self._trial_job(drawn)

        for ended in run_all(next_job, self._launcher, self._started):
            self._tell(ended)
            seconds.append(ended.seconds)
            left = trials - sum(trial.state != "running" for trial in self._study.trials())
            if left > 0:
                self._watcher.expected(left, seconds_left(seconds, left, self._launcher.jobs))

    def _started(self, job: RunJob) -> None:
        self._watcher.started(job.name)

    def _trial_job(self, drawn: Drawn) -> RunJob:
        job = self._job(drawn.number, drawn.values)
        content = trial_job(
            job.content, self._made.said["estimate"], self._made.said["timeout"], self._rivals()
        )
        return replace(job, content=content)

    def _job(self, number: int, values: Mapping[str, str]) -> RunJob:
        name = f"trial={number:04d}"
        place = self._place(number)
        epochs = int(values.get(EPOCHS, self._made.base.train.optimiser.epochs))
        given = {
            **self._made.said["set"],
            **values,
            "train.watch.every": str(watch_every(epochs)),
            "train.watch.cascade_images": "0",
            "name": full_name(self._made.said["recipe"], name),
        }
        content = {**run_job(place, self._folder / RECIPE, given), **self._machine.options}
        return RunJob(name, place, content)

    def _rivals(self) -> Rivals:
        rungs: dict[int, tuple[tuple[float, float], ...]] = {}
        for trial in self._study.trials():
            if trial.state == "complete" and trial.outcome is not None:
                for rung, point in trial.outcome.rungs.items():
                    rungs[rung] = (*rungs.get(rung, ()), point)
        return Rivals(rule=self._rule, rungs=rungs)

    def _tell(self, ended: Ended) -> None:
        """Tell the study what a trial's process found."""
        number = int(ended.job.folder.name)
        error, note = ended.error, ""
        if error is None:
            try:
                outcome = read_outcome(ended.job.folder)
            except StudyError as damage:
                error = str(damage)
            else:
                point = None
                if outcome.pruned is None:
                    names = self._made.said["objectives"]
                    point = tuple(outcome.objective(name) for name in names)
                    shown = (f"{n} {100 * v:.2f} %" for n, v in zip(names, point, strict=True))
                    note = ", ".join(shown)
                else:
                    note = f"ended early, after {outcome.pruned} of 3 parts"
                self._study.tell(number, outcome, point)
        if error is not None:
            self._study.tell_failed(number, error)
        self._watcher.ended(ended.job.name, error, ended.seconds, note)

    def test_front(self) -> int:
        """Certify the test images of the front's networks, those that are not certified yet.

        Returns:
            How many of them other commands certify now.
        """
        open_ = iter([trial for trial in self.result().front if trial.summary is None])
        held: dict[Path, FileLock] = {}

        def next_job() -> RunJob | None:
            for trial in open_:
                job = self._job(trial.number, trial.values)
                lock = FileLock(job.folder / TEST_LOCK)
                if lock.acquire_if_free() and self._tested(trial) is None:
                    held[job.folder] = lock
                    return replace(job, name=f"test images of {job.name}")
                lock.release()
            return None

        try:
            for ended in run_all(
                next_job, self._launcher, lambda job: self._watcher.started(job.name)
            ):
                held.pop(ended.job.folder).release()
                self._watcher.ended(ended.job.name, ended.error, ended.seconds)
        finally:
            for lock in held.values():
                lock.release()
        left = [trial for trial in self.result().front if trial.summary is None]
        return sum(is_held(self._place(trial.number) / TEST_LOCK) for trial in left)

    def _place(self, number: int) -> Path:
        return self._folder / TRIALS / f"{number:04d}"

    def result(self) -> TuneResult:
        """What is known now."""
        trials = with_front(self._study.trials(), self._tested)
        names = tuple(self._made.said["objectives"])
        return TuneResult(self._folder, names, trials, growth(trials, len(names)), {})

    def _tested(self, trial: TuneTrial) -> Summary | None:
        job = self._job(trial.number, trial.values)
        recipe = load_recipe(self._folder / RECIPE, job.content["set"])
        return finished_test(job.folder, recipe)

    def report(self, command: str) -> TuneResult:
        """Write the front's recipes, which replace those of an earlier front, and the report."""
        result = self.result()
        recipes = {trial.number: self._recipe(trial) for trial in result.front}
        place = self._folder / FRONT
        paths = {number: place / f"trial-{number:04d}.yaml" for number in recipes}
        result = replace(result, recipes=paths)
        contents: dict[Path, str | bytes] = {
            paths[trial.number]: recipe_text(trial, recipes[trial.number], result.objectives)
            for trial in result.front
        }
        contents |= {
            self._folder / "report.md": markdown(result, self._made, command),
            self._folder / "trials.csv": trials_csv(result, command),
            self._folder / "front.csv": front_csv(result, command),
            self._folder / "hypervolume.csv": hypervolume_csv(result, command),
        }
        files = write_all(contents)
        for old in set(place.glob("trial-*.yaml")) - set(paths.values()):
            old.unlink()
        summaries = [trial.summary for trial in result.front if trial.summary is not None]
        if summaries:
            files += reports.tabulate(summaries, self._folder, "table", command)
            files += draw_figure(summaries, self._folder, command, self._watcher)
        return replace(result, files=files)

    def _recipe(self, trial: TuneTrial) -> Recipe:
        """A trial's recipe as ``run`` takes it: the same training, watched as the user's is."""
        name = full_name(self._made.said["recipe"], f"trial={trial.number:04d}")
        values = {**self._made.said["set"], **trial.values, "name": name}
        return load_recipe(self._folder / RECIPE, values)

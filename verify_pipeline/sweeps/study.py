"""Optuna's study of a tuning: a file that several commands share, and continue.

The storage is Optuna's journal. Against SQLite, its other storage of one file, it was tried with
two processes of 60 trials each: SQLite took 2.2 s to open and 0.15 s a trial, and one process died
as both made the tables at once; the journal took 0.01 s and 0.03 s. Its own lock files outlive a
process that is killed, so it gets :class:`~verify_pipeline.sweeps.locks.FileLock` instead.

A trial depends on the study's seed, its number, and the trials that ended before it was drawn: so
a study of one process at a time has the same trials whether it was interrupted or not.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from verify_pipeline.errors import DependencyError, StudyError
from verify_pipeline.sweeps.locks import FileLock, is_held
from verify_pipeline.sweeps.pareto import Point
from verify_pipeline.sweeps.results import TrialState, TuneTrial
from verify_pipeline.sweeps.space import Range, Space, draw_all
from verify_pipeline.sweeps.trial import TrialOutcome, outcome_of

if TYPE_CHECKING:
    import optuna

NAME = "tune"
"""Of the study in its file."""

JOURNAL, COMMANDS = "study.journal", ".commands"
"""The study's file, and the folder with a lock for each command that works on it."""

WAIT = 30.0
"""Seconds that another process's lock on the study is waited for."""

LONGEST_DAMAGE = 200
"""Characters that a message shows of what is wrong with the study."""

SEEDS_APART = 100_003
"""Between the seeds of two studies, so that no trial of one draws as one of the other."""


def require_optuna() -> None:
    """Refuse where Optuna is missing.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise DependencyError(
            "optuna is not installed",
            remedy="Install it with: pip install 'verify_pipeline[tune]'",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Drawn:
    """A trial that is to be done.

    Attributes:
        number: from 0.
        values: YAML texts by dotted key of the recipe.
    """

    number: int
    values: Mapping[str, str]


class Study:
    """A study in a folder, as one command works on it; use it as a context manager.

    Args:
        folder: of the tuning.
        objectives: how many are maximised.
        seed: of what is drawn.
    """

    def __init__(self, folder: Path, objectives: int, seed: int) -> None:
        require_optuna()
        self._folder, self._objectives, self._seed = folder, objectives, seed
        self._owner = uuid.uuid4().hex
        self._own = FileLock(folder / COMMANDS / self._owner)
        self._turn = FileLock(folder / f".{JOURNAL}.turn", WAIT, _LOCKED)
        self._study, self._storage = self._open()

    def __enter__(self) -> Study:
        self._own.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._own.release()
        with suppress(OSError):
            (self._folder / COMMANDS / self._owner).unlink(missing_ok=True)

    def _open(self) -> tuple[optuna.Study, optuna.storages.JournalStorage]:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        path = self._folder / JOURNAL
        with _journal(path):
            lock: Any = FileLock(self._folder / f".{JOURNAL}.lock", WAIT, _LOCKED)
            with lock:
                _drop_half_line(path)
            storage = JournalStorage(JournalFileBackend(str(path), lock))
            study = optuna.create_study(
                study_name=NAME,
                storage=storage,
                directions=["maximize"] * self._objectives,
                load_if_exists=True,
            )
        return study, storage

    def _journal(self) -> AbstractContextManager[None]:
        return _journal(self._folder / JOURNAL)

    def next(self, trials: int, space: Space, epochs: int) -> Drawn | None:
        """The next trial: one whose command is gone, or a new one.

        Args:
            trials: that the study is to have.
            space: that a new one is drawn from.
            epochs: of the recipe.

        Returns:
            None if the study has its trials, or others work on those that are open.

        Raises:
            StudyError: another process holds the study, or it is damaged.
        """
        with self._turn:
            for trial in self._read():
                if trial.state.name == "RUNNING" and not self._in_hands(trial):
                    self._note(trial.number, "owner", self._owner)
                    values = self._values(trial)
                    if values:
                        return Drawn(trial.number, values)
                    self._finish(trial.number, state="FAIL")
            if len(self._read()) >= trials:
                return None
            return self._draw(space, epochs)

    def _read(self) -> list[optuna.trial.FrozenTrial]:
        with self._journal():
            return self._study.get_trials(deepcopy=False)

    def _values(self, trial: optuna.trial.FrozenTrial) -> dict[str, str]:
        """What was drawn for a trial; empty where its command died before it was."""
        with self._journal():
            return _TEXTS.validate_python(trial.user_attrs.get("values", {}))

    def _draw(self, space: Space, epochs: int) -> Drawn:
        import optuna

        number = len(self._read())
        self._study.sampler = optuna.samplers.TPESampler(
            seed=(self._seed * SEEDS_APART + number) % 2**32
        )
        with self._journal():
            trial = self._study.ask()
            chosen = draw_all(space, lambda name, each: _suggest(trial, name, each))
        values = space.values(chosen, epochs)
        self._note(trial.number, "owner", self._owner)
        self._note(trial.number, "values", values)
        return Drawn(trial.number, values)

    def _in_hands(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether a command that is alive works on a trial."""
        owner = _owner(trial)
        return owner == self._owner or (owner != "" and is_held(self._folder / COMMANDS / owner))

    def _finish(
        self, number: int, values: Sequence[float] | None = None, state: str | None = None
    ) -> None:
        import optuna

        with self._journal():
            ended = None if state is None else optuna.trial.TrialState[state]
            self._study.tell(number, values, ended)

    def tell(self, number: int, outcome: TrialOutcome, objectives: Point | None) -> None:
        """Tell what a trial found; without objectives, that its training was ended early.

        Raises:
            StudyError: another process holds the study, or it is damaged.
        """
        with self._turn:
            self._note(number, "outcome", json.loads(json.dumps(asdict(outcome))))
            if objectives is None:
                self._finish(number, state="PRUNED")
            else:
                self._finish(number, list(objectives))

    def tell_failed(self, number: int, error: str) -> None:
        """Tell that a trial failed, and why.

        Raises:
            StudyError: another process holds the study, or it is damaged.
        """
        with self._turn:
            self._note(number, "error", error)
            self._finish(number, state="FAIL")

    def _note(self, number: int, key: str, value: Any) -> None:
        with self._journal():
            study = self._storage.get_study_id_from_name(NAME)
            trial = self._storage.get_trial_id_from_study_id_trial_number(study, number)
            self._storage.set_trial_user_attr(trial, key, value)

    def trials(self) -> tuple[TuneTrial, ...]:
        """Every trial, by number.

        Raises:
            StudyError: the study is damaged.
        """
        found = self._read()
        with self._journal():
            return tuple(_as_trial(each, self._objectives) for each in found)

    def others_running(self) -> int:
        """Trials that other commands work on now."""
        running = [trial for trial in self._read() if trial.state.name == "RUNNING"]
        return sum(self._in_hands(each) and _owner(each) != self._owner for each in running)


def _owner(trial: optuna.trial.FrozenTrial) -> str:
    """The command that works on a trial, or worked on it; empty: none did yet."""
    return str(trial.user_attrs.get("owner", ""))


def _suggest(trial: optuna.Trial, name: str, each: Range) -> Any:
    if each.choices:
        return trial.suggest_categorical(name, each.choices)
    low, high = each.low or 0.0, each.high or 0.0
    if each.integer:
        return trial.suggest_int(name, int(low), int(high), log=each.log)
    return trial.suggest_float(name, low, high, log=each.log)


def _drop_half_line(path: Path) -> None:
    """Remove what a process that died, or a full disk, left of a journal's last line.

    Optuna would append to it, after which the journal could not be read any more.
    """
    if not path.is_file():
        return
    with path.open("r+b") as file:
        text = file.read()
        if text and not text.endswith(b"\n"):
            file.truncate(text.rfind(b"\n") + 1)


_LOCKED = (
    "Another process works on the study, or holds its lock: wait for it, or end that process; a "
    "lock ends with its process."
)
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What Optuna raises at a journal that it did not write, and pydantic at notes that are others."""


@contextmanager
def _journal(path: Path) -> Iterator[None]:
    """Damage of the study's file as one error that names it."""
    try:
        yield
    except OSError as error:
        raise StudyError(
            f"study {path}",
            expected="a file that can be read and written",
            got=error.strerror or str(error),
        ) from None
    except _DAMAGE as error:
        raise StudyError(
            f"study {path}",
            expected="Optuna's journal of this tuning",
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST_DAMAGE]}",
            remedy="Restore it from a copy, or name another folder.",
        ) from None


_TEXTS = TypeAdapter(dict[str, str])
_STATES: dict[str, TrialState] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def _as_trial(trial: optuna.trial.FrozenTrial, objectives: int) -> TuneTrial:
    """A trial of the study.

    Raises:
        ValueError: its notes are none that :class:`Study` writes.
    """
    notes = trial.user_attrs
    outcome = outcome_of(notes["outcome"]) if "outcome" in notes else None
    finished = trial.datetime_complete
    return TuneTrial(
        trial.number,
        _STATES.get(trial.state.name, "running"),
        _TEXTS.validate_python(notes.get("values", {})),
        _point(trial.values, objectives),
        outcome,
        None if finished is None else finished.timestamp(),
        notes.get("error"),
    )


def _point(values: Sequence[float] | None, objectives: int) -> Point | None:
    if values is None:
        return None
    if len(values) != objectives or not all(map(math.isfinite, values)):
        raise ValueError(f"objectives {values}")
    return tuple(values)

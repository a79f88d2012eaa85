"""Runs families and counts their answers; false cases go into folders from which they run again."""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.soundness.contract import Answer, Family, Judged, Trial

FULL_MINUTES = 30.0
"""For which the families' least numbers of trials are meant."""


@dataclass(eq=False)
class Tally:
    """What a family has come to so far.

    Attributes:
        family: its name.
        trials: networks.
        answers: cases by answer.
        false: cases.
        lies: false cases by the trial's name, each with an example.
        tags: by word.
        missing: why nothing was asked; empty: something was.
    """

    family: str
    trials: int = 0
    answers: Counter[Answer] = field(default_factory=Counter)
    false: int = 0
    lies: dict[str, list[str]] = field(default_factory=dict)
    tags: Counter[str] = field(default_factory=Counter)
    missing: str = ""

    @property
    def cases(self) -> int:
        """All of them."""
        return self.answers.total()

    def add(self, name: str, judged: Iterable[Judged]) -> None:
        """Count a trial."""
        self.trials += 1
        for one in judged:
            self.answers[one.answer] += 1
            self.tags.update(one.tags)
            if one.lie:
                self.false += 1
                self.lies.setdefault(name, []).append(one.lie)


def judge(trial: Trial) -> Sequence[Judged]:
    """A trial's answers; one that failed if asking raised something else than an error of ours."""
    try:
        return trial.judged()
    except Exception as error:  # whatever it is, it is to be counted, and the others are to run
        files = {"traceback.txt": traceback.format_exc().encode()}
        return [Judged(Answer.FAILED, tags=(f"failed: {type(error).__name__}",), files=files)]


def run_family(
    family: Family,
    seed: int,
    seconds: float,
    least: int,
    false_folder: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
    told: Callable[[str], None] = lambda line: None,
) -> Tally:
    """Trials of a family until its seconds are over and at least so many are done.

    Args:
        family: whose trials.
        seed: of all of them.
        seconds: that it may take.
        least: trials, even if they take longer.
        false_folder: where false and failed cases are written; None: nowhere.
        clock: seconds from some origin.
        told: gets a line for each trial with a false case.
    """
    tally = Tally(family.name, missing=family.missing)
    began, number = clock(), 0
    while not family.missing and (number < least or clock() - began < seconds):
        trial = family.trial(seed, number)
        judged = judge(trial)
        tally.add(trial.name, judged)
        false = sum(bool(one.lie) for one in judged)
        if false:
            told(f"{family.name} {number} ({trial.name}): {false} of {len(judged)} are false")
        if false_folder is not None:
            for place, one in enumerate(judged):
                if one.lie or one.answer is Answer.FAILED:
                    origin = {
                        "family": family.name,
                        "seed": seed,
                        "number": number,
                        "place": place,
                    }
                    save(false_folder / f"{family.name}-{number}-{place}", one, origin)
        number += 1
    return tally


def save(folder: Path, judged: Judged, origin: dict[str, object]) -> None:
    """Write a case's files and where it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in judged.files.items():
        (folder / name).write_bytes(content)
    (folder / "origin.json").write_text(json.dumps(origin) + "\n", encoding="utf-8")


def least_of(family: Family, minutes: float) -> int:
    """The least number of trials in a shorter time than the full one; at least one."""
    share = min(1.0, minutes / FULL_MINUTES)
    return max(1, round(family.least * share)) if family.least else 0

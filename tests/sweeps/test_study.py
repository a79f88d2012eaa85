"""The study: repeatable, shared between processes, continued after a death."""

import subprocess
import sys
from pathlib import Path

import pytest

from verify_pipeline.errors import DependencyError, StudyError
from verify_pipeline.sweeps import study as module
from verify_pipeline.sweeps.locks import FileLock
from verify_pipeline.sweeps.space import Range, Space
from verify_pipeline.sweeps.study import Drawn, Study
from verify_pipeline.sweeps.trial import TrialOutcome

pytest.importorskip("optuna")

SPACE = Space(
    parameters={
        "a": Range(low=0, high=1),
        "b": Range(low=1, high=9, integer=True),
        "c": Range(choices=("x", "y")),
    }
)
COUNTS = {"images": 10, "right": 8, "withstood": 7, "proved": 6, "not_broken": 7, "undecided": 1}
OUTCOME = TrialOutcome(None, {1: (0.5, 0.25)}, COUNTS, {"train": 2.0, "certify": 1.0})


def value(drawn: Drawn) -> tuple[float, float]:
    return float(drawn.values["a"]), float(drawn.values["b"]) / 9


def do(study: Study, trials: int) -> list[Drawn]:
    found = []
    while (drawn := study.next(trials, SPACE, 10)) is not None:
        study.tell(drawn.number, OUTCOME, value(drawn))
        found.append(drawn)
    return found


def test_the_same_seed_draws_the_same_trials_also_after_an_interruption(tmp_path: Path) -> None:
    for name in ("whole", "parts", "other"):
        (tmp_path / name).mkdir()
    with Study(tmp_path / "whole", 2, 5) as study:
        whole = do(study, 16)
    parts = []
    for trials in (3, 11, 16):
        with Study(tmp_path / "parts", 2, 5) as study:
            parts += do(study, trials)
    with Study(tmp_path / "other", 2, 6) as study:
        other = do(study, 2)
    assert [each.number for each in whole] == list(range(16))
    assert parts == whole
    assert other[0].values != whole[0].values
    assert len({tuple(each.values.items()) for each in whole}) == 16


def test_what_was_told_is_read_again(tmp_path: Path) -> None:
    with Study(tmp_path, 2, 0) as study:
        first, second, third = (study.next(3, SPACE, 10) for _ in range(3))
        assert first is not None
        assert second is not None
        assert third is not None
        assert study.next(3, SPACE, 10) is None
        study.tell(first.number, OUTCOME, (0.8, 0.6))
        study.tell(second.number, TrialOutcome(1, {1: (0.1, 0.0)}, {}, {"train": 1.0}), None)
        study.tell_failed(third.number, "killed by signal 9")
    with Study(tmp_path, 2, 0) as study:
        complete, pruned, failed = study.trials()
    assert (complete.state, complete.objectives) == ("complete", (0.8, 0.6))
    assert complete.outcome == OUTCOME
    assert complete.values == first.values
    assert complete.finished is not None
    assert (pruned.state, pruned.objectives) == ("pruned", None)
    assert pruned.outcome is not None
    assert pruned.outcome.pruned == 1
    assert (failed.state, failed.error, failed.outcome) == ("failed", "killed by signal 9", None)


def test_a_trial_of_a_command_that_is_gone_is_taken_over(tmp_path: Path) -> None:
    with Study(tmp_path, 2, 0) as gone:
        left = gone.next(2, SPACE, 10)
    with Study(tmp_path, 2, 0) as alive, Study(tmp_path, 2, 0) as other:
        assert alive.next(2, SPACE, 10) == left
        assert alive.others_running() == 0
        assert other.others_running() == 1
        new = other.next(2, SPACE, 10)  # what another command works on is not taken
        assert new is not None
        assert new.number == 1
        assert other.next(2, SPACE, 10) is None
        alive.tell(0, OUTCOME, (1.0, 1.0))
        other.tell(1, OUTCOME, (0.5, 0.5))
        assert [trial.state for trial in alive.trials()] == ["complete", "complete"]
    assert list((tmp_path / ".commands").iterdir()) == []


WORK = """
import sys, time
from pathlib import Path
from tests.sweeps.test_study import do
from verify_pipeline.sweeps.study import Study
with Study(Path(sys.argv[1]), 2, 0) as study:
    print(len(do(study, 12)))
"""


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORK, str(tmp_path)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    done = [int(worker.communicate()[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(done) == 12
    with Study(tmp_path, 2, 0) as study:
        assert [trial.state for trial in study.trials()] == ["complete"] * 12


def test_a_study_that_another_process_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Study(tmp_path, 2, 0) as study:
        do(study, 1)
    monkeypatch.setattr(module, "WAIT", 0.05)
    with (
        FileLock(tmp_path / ".study.journal.lock"),
        pytest.raises(StudyError, match=r"holds \.study\.journal\.lock for 0\.05 s\. Another"),
    ):
        Study(tmp_path, 2, 0)
    with (
        FileLock(tmp_path / ".study.journal.turn"),
        Study(tmp_path, 2, 0) as study,
        pytest.raises(StudyError, match=r"holds \.study\.journal\.turn"),
    ):
        study.next(2, SPACE, 10)


def test_a_lock_file_that_nobody_holds_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / ".study.journal.lock").touch()
    (tmp_path / ".study.journal.turn").touch()
    with Study(tmp_path, 2, 0) as study:
        assert len(do(study, 1)) == 1


@pytest.mark.parametrize("text", ["not a journal\nat all\n", "[]\n[]\n", '{"op_code": 99}\n{}\n'])
def test_a_damaged_study_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.journal").write_text(text)
    with pytest.raises(StudyError, match="expected Optuna's journal of this tuning"):
        Study(tmp_path, 2, 0)


def test_a_missing_optuna_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DependencyError, match=r"pip install 'verify_pipeline\[tune\]'"):
        Study(tmp_path, 2, 0)


def test_a_line_that_was_half_written_is_dropped(tmp_path: Path) -> None:
    with Study(tmp_path, 2, 0) as study:
        do(study, 2)
    journal = tmp_path / module.JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "worker_id": "x')
    with Study(tmp_path, 2, 0) as study:
        assert [each.number for each in do(study, 3)] == [2]
    assert journal.read_bytes().startswith(whole)
    with Study(tmp_path, 2, 0) as study:
        assert len(study.trials()) == 3


def damaged(folder: Path, old: bytes, new: bytes) -> None:
    """Change something in a study's file."""
    journal = folder / module.JOURNAL
    content = journal.read_bytes()
    assert old in content
    journal.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("step", ["next", "tell", "tell_failed", "trials", "others_running"])
def test_damage_after_the_study_was_opened_is_told(tmp_path: Path, step: str) -> None:
    with Study(tmp_path, 2, 0) as study:
        drawn = study.next(3, SPACE, 10)
        assert drawn is not None
        with (tmp_path / module.JOURNAL).open("ab") as file:
            file.write(b"no line of a journal\n[]\n")
        steps = {
            "next": lambda: study.next(3, SPACE, 10),
            "tell": lambda: study.tell(drawn.number, OUTCOME, (0.5, 0.5)),
            "tell_failed": lambda: study.tell_failed(drawn.number, "why"),
            "trials": study.trials,
            "others_running": study.others_running,
        }
        with pytest.raises(StudyError, match="expected Optuna's journal of this tuning; got "):
            steps[step]()


@pytest.mark.parametrize(
    ("old", "new", "got"),
    [
        (b'"proved":6', b'"proved":"six"', "ValidationError"),
        (b'"proved":6', b'"proofs":6', "ValueError: no count of proved"),
        (b'"proved":6', b'"proved":11', "ValueError: counts"),
        (b'"a":"', b'"a":1,"x":"', "ValidationError"),
        (b'"values":[0.5,0.25]', b'"values":[0.5,NaN]', "ValueError: objectives"),
        (b'"values":[0.5,0.25]', b'"values":[0.5]', "ValueError: "),
    ],
)
def test_damaged_notes_of_a_trial_are_told(
    tmp_path: Path, old: bytes, new: bytes, got: str
) -> None:
    with Study(tmp_path, 2, 0) as study:
        drawn = study.next(1, SPACE, 10)
        assert drawn is not None
        study.tell(drawn.number, OUTCOME, (0.5, 0.25))
    damaged(tmp_path, old, new)
    with (
        Study(tmp_path, 2, 0) as study,
        pytest.raises(StudyError, match=rf"journal of this tuning; got {got}.*Restore it"),
    ):
        study.trials()


def test_a_damaged_open_trial_is_told(tmp_path: Path) -> None:
    with Study(tmp_path, 2, 0) as study:
        assert study.next(1, SPACE, 10) is not None
    damaged(tmp_path, b'"a":"', b'"a":[],"x":"')
    with (
        Study(tmp_path, 2, 0) as study,
        pytest.raises(StudyError, match="journal of this tuning; got ValidationError"),
    ):
        study.next(1, SPACE, 10)


def test_a_trial_that_was_never_drawn_is_failed(tmp_path: Path) -> None:
    with Study(tmp_path, 2, 0) as study:
        assert study.next(2, SPACE, 10) is not None
    damaged(tmp_path, b'"user_attr":{"values"', b'"user_attr":{"other"')
    with Study(tmp_path, 2, 0) as study:
        new = study.next(2, SPACE, 10)
        assert new is not None
        assert new.number == 1
        assert [trial.state for trial in study.trials()] == ["failed", "running"]


def test_a_journal_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / module.JOURNAL).mkdir()
    with pytest.raises(StudyError, match="expected a file that can be read and written; got Is a"):
        Study(tmp_path, 2, 0)

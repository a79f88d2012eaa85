"""Locks between processes: one at a time, and none that outlives its process."""

import subprocess
import sys
from pathlib import Path

import pytest

from verify_pipeline.errors import StudyError
from verify_pipeline.sweeps.locks import FileLock, is_held

HOLD = """
import sys, time
from pathlib import Path
from verify_pipeline.sweeps.locks import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_is_free_after_its_process_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_held(path)
        with pytest.raises(StudyError, match=r"got one that holds lock for 0\.1 s. Wait"):
            FileLock(path, 0.1, "Wait for it.").acquire()
        holder.kill()
        holder.wait()
    with FileLock(path):
        assert is_held(path)
    assert not is_held(path)


def test_a_file_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StudyError, match="expected a file that can be locked"):
        FileLock(tmp_path / "lock").acquire()
    (tmp_path / "text").write_text("no data base, but long enough" * 100)
    with pytest.raises(StudyError, match="expected a file that can be locked"):
        FileLock(tmp_path / "text").acquire()


def test_a_lock_that_is_not_held_can_be_released(tmp_path: Path) -> None:
    FileLock(tmp_path / "lock").release()

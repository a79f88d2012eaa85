"""How a command line ends: with an exit code, and as a process of torchrun at once."""

from __future__ import annotations

import atexit
import os
import sys

import pytest

from tests.cli.typed import command
from verify_pipeline import doctor
from verify_pipeline.cli.framework import run_application


class EndedError(Exception):
    """What stands in for the end of the process."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes of processes that ended at once."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise EndedError

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    return codes


def leaving(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [None, "", "1"])
def test_a_process_of_its_own_ends_as_python_does(
    size: str | None, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(SystemExit) as end:
        run_application(lambda: leaving(3))
    assert end.value.code == 3
    assert ends == []


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (None, 0), (2, 2), ("no", 1)])
def test_a_process_of_torchrun_ends_at_once_with_its_code(
    code: object, expected: int, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(EndedError):
        run_application(lambda: leaving(code))
    assert ends == [expected]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("can't start new thread"),
        SystemError("error return without exception set"),
        ImportError("resource.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_runs_out_is_one_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs_out(data_root: object) -> None:
        raise error

    monkeypatch.setattr(doctor, "examine", runs_out)
    code, told, said = command("doctor")
    assert (code, told) == (2, "")
    assert said.startswith("error: memory; expected room for what the command needs; got none")
    assert said.count("\n") == 1


@pytest.mark.parametrize("kind", [RuntimeError, SystemError, ImportError])
def test_another_error_of_the_code_is_no_matter_of_memory(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(data_root: object) -> None:
        raise kind("a bug")

    monkeypatch.setattr(doctor, "examine", breaks)
    with pytest.raises(kind, match="a bug"):
        command("doctor")

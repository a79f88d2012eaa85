"""The command line as a user meets it: help, messages, exit codes."""

import errno
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.typed import command
from verify_pipeline import doctor, lirpa
from verify_pipeline._version import __version__
from verify_pipeline.cli.app import app
from verify_pipeline.config import recipe_names

COMMANDS = tuple(sorted(one.callback.__name__ for one in app.registered_commands))


def test_help_names_every_command_and_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from verify_pipeline.cli import main\n"
        "sys.argv = ['verify-pipeline', '--help']\n"
        "try:\n    main()\n"
        "finally:\n    assert not {'torch', 'numpy', 'pydantic_core'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for name in COMMANDS:
        assert name.replace("_", "-") in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    code, out, _ = command(name.replace("_", "-"), "--help")
    assert code == 0
    assert "Usage" in out


def test_python_m_is_the_same_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "verify_pipeline", "recipes"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(recipe_names())


def test_a_users_mistake_is_a_message_and_exit_code_2() -> None:
    code, out, err = command("recipes", "no-such-recipe")
    assert (code, out) == (2, "")
    assert err.startswith("error: recipe 'no-such-recipe'; expected one of")
    assert "Traceback" not in err


def test_an_unknown_option_is_exit_code_2() -> None:
    code, _, err = command("recipes", "--nonsense")
    assert code == 2
    assert "No such option" in err


def test_ctrl_c_is_exit_code_130_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(data_root: Path | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupt)
    code, _, err = command("doctor")
    assert code == 130
    assert "continue with the same command" in err


def test_errors_of_the_operating_system_are_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(data_root: Path | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")

    monkeypatch.setattr(doctor, "examine", full)
    code, _, err = command("doctor")
    assert code == 2
    assert "No space left on device: '/somewhere'" in err


def test_the_version_is_told() -> None:
    assert command("--version") == (0, f"verify-pipeline {__version__}\n", "")


def test_recipes_are_shown_in_full() -> None:
    code, out, _ = command("recipes", "mnist-0.1-cnn7-cc-ibp")
    assert code == 0
    assert "alpha: 0.1" in out
    assert "batch_norm_policy: paper" in out


def test_doctor_tells_versions_tools_and_the_data_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("ABCROWN_HOME", "ABCROWN_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    code, out, _ = command("doctor", "--data-root", str(tmp_path))
    assert code == 0, out
    width = len("verify_pipeline") + 2
    facts = {line[:width].strip(): line[width:] for line in out.splitlines() if line[0] != " "}
    assert facts["verify_pipeline"] == __version__
    assert facts["data root"].startswith(str(tmp_path))
    assert "shims" in facts["auto_LiRPA"]
    assert facts["α,β-CROWN"].startswith("none found")


def test_doctor_finds_a_checkout_of_abcrown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ABCROWN_HOME", str(tmp_path))
    assert "expected complete_verifier/abcrown.py in the folder that" in command("doctor")[1]
    (tmp_path / "complete_verifier").mkdir()
    script = tmp_path / "complete_verifier" / "abcrown.py"
    script.write_text("", encoding="utf-8")
    assert f"α,β-CROWN        {script} (ABCROWN_HOME)" in command("doctor")[1]


def test_without_auto_lirpa_one_message_tells_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.metadata.version

    def version(name: str) -> str:
        if name == "auto_LiRPA":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    lirpa.load.cache_clear()
    try:
        told = "pip install --no-deps auto_LiRPA==0.3"
        code, out, _ = command("doctor")
        assert code == 2
        assert told in out
        code, _, err = command("train", "digits-cc-ibp", "--out", str(tmp_path / "none"))
        assert code == 2
        assert err.count(told) == 1
        assert "auto_LiRPA is not installed" in err
        assert not (tmp_path / "none").exists()
    finally:
        lirpa.load.cache_clear()


def test_doctor_fails_when_something_needed_is_missing(tmp_path: Path) -> None:
    code, out, _ = command("doctor", "--data-root", str(tmp_path / "none"))
    assert code == 2
    assert "-> Name a folder that exists" in out

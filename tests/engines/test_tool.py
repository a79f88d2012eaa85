"""Finding the tool: what is named, what the environment says, what is installed."""

import sys
from pathlib import Path

import pytest

from verify_pipeline.engines.tool import HOME_VARIABLE, PYTHON_VARIABLE, find_tool
from verify_pipeline.errors import DependencyError


def checkout(folder: Path) -> Path:
    script = folder / "complete_verifier" / "abcrown.py"
    script.parent.mkdir(parents=True)
    script.write_text("", encoding="utf-8")
    return script


def test_a_checkout_its_folder_and_its_script_are_the_same_tool(tmp_path: Path) -> None:
    script = checkout(tmp_path)
    for named in (tmp_path, script.parent, script):
        assert find_tool(named, environment={}).script == script.resolve()


def test_the_option_goes_before_the_variable(tmp_path: Path) -> None:
    one, two = checkout(tmp_path / "one"), checkout(tmp_path / "two")
    variables = {HOME_VARIABLE: str(tmp_path / "two"), PYTHON_VARIABLE: sys.executable}
    assert find_tool(tmp_path / "one", environment=variables).script == one.resolve()
    found = find_tool(environment=variables)
    assert (found.script, found.origin) == (two.resolve(), HOME_VARIABLE)
    assert found.python == Path(sys.executable).absolute()


def test_version_is_what_it_says(tmp_path: Path) -> None:
    script = checkout(tmp_path)
    assert find_tool(tmp_path, environment={}).version == "unknown"
    (script.parent / "__init__.py").write_text("__version__ = '0.7.0'\n", encoding="utf-8")
    assert find_tool(tmp_path, environment={}).title == "alpha-beta-CROWN 0.7.0"


def test_what_is_not_there_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=r"complete_verifier/abcrown\.py .* Name a checkout"):
        find_tool(tmp_path, environment={})
    with pytest.raises(DependencyError, match=HOME_VARIABLE):
        find_tool(environment={HOME_VARIABLE: str(tmp_path / "nowhere")})
    with pytest.raises(DependencyError, match=f"none found.*{HOME_VARIABLE}.*{PYTHON_VARIABLE}"):
        find_tool(environment={})
    checkout(tmp_path)
    with pytest.raises(DependencyError, match="--abcrown-python"):
        find_tool(tmp_path, tmp_path / "no-python", environment={})


def test_a_package_of_another_environment_is_found_by_its_python(tmp_path: Path) -> None:
    script = tmp_path / "site" / "abcrown" / "abcrown.py"
    script.parent.mkdir(parents=True)
    script.write_text("", encoding="utf-8")
    (script.parent / "__init__.py").write_text("__version__ = '1.0'\n", encoding="utf-8")
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{tmp_path / "site"}" exec "{sys.executable}" "$@"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    found = find_tool(environment={PYTHON_VARIABLE: str(python)})
    assert (found.script, found.version) == (script.resolve(), "1.0")
    assert found.origin == "installed package"

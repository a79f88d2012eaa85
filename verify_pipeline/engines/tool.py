"""Finds α,β-CROWN and the Python that runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from verify_pipeline.errors import DependencyError

HOME_VARIABLE, PYTHON_VARIABLE = "ABCROWN_HOME", "ABCROWN_PYTHON"

NAME = "alpha-beta-CROWN"

SCRIPT = "abcrown.py"

_PLACES = (Path("complete_verifier") / SCRIPT, Path("abcrown") / SCRIPT, Path(SCRIPT))
_VERSION = re.compile(r"__version__\s*=\s*['\"]([^'\"]+)['\"]")
_LOOK_UP = "import importlib.util as u; s = u.find_spec('abcrown'); print(s.origin if s else '')"
LOOK_UP_SECONDS = 60.0


@dataclass(frozen=True)
class Tool:
    """α,β-CROWN as it is run.

    Attributes:
        script: its abcrown.py.
        python: the interpreter of its environment.
        version: as it says; ``unknown`` where it does not.
        origin: how it was found, for people.
    """

    script: Path
    python: Path
    version: str
    origin: str

    @property
    def title(self) -> str:
        """Name and version, as ledgers and tables have it."""
        return f"{NAME} {self.version}"


def find_tool(
    home: Path | None = None,
    python: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Tool:
    """Find the named tool, or else that of the environment variables, or else an installed one.

    Args:
        home: a checkout, its complete_verifier folder, or its abcrown.py; None: ``ABCROWN_HOME``,
            then the package ``abcrown`` of the interpreter.
        python: the interpreter that has what the tool imports; None: ``ABCROWN_PYTHON``, then
            this one.
        environment: variables.

    Raises:
        DependencyError: there is none at that place, or none at all.
    """
    interpreter = _interpreter(python, environment)
    named, origin = home, "--abcrown-home"
    if named is None and environment.get(HOME_VARIABLE):
        named, origin = Path(environment[HOME_VARIABLE]), HOME_VARIABLE
    if named is not None:
        script = _script_in(named.expanduser())
        if script is None:
            raise DependencyError(
                "α,β-CROWN",
                expected=f"complete_verifier/{SCRIPT} in the folder that {origin} names",
                got=str(named),
                remedy="Name a checkout of github.com/Verified-Intelligence/alpha-beta-CROWN.",
            )
    else:
        script, origin = _installed(interpreter), "installed package"
        if script is None:
            raise DependencyError(
                "α,β-CROWN",
                got="none found",
                remedy=f"Clone github.com/Verified-Intelligence/alpha-beta-CROWN, install what it "
                f"needs into an environment of its own, and let {HOME_VARIABLE} name the checkout "
                f"and {PYTHON_VARIABLE} the environment's python.",
            )
    return Tool(script, interpreter, _version(script), origin)


def _interpreter(python: Path | None, environment: Mapping[str, str]) -> Path:
    named = python or Path(environment.get(PYTHON_VARIABLE) or sys.executable)
    named = named.expanduser()
    if not (named.is_file() and os.access(named, os.X_OK)):
        raise DependencyError(
            "Python of α,β-CROWN",
            expected="an interpreter",
            got=str(named),
            remedy=f"Name its environment's python with --abcrown-python or {PYTHON_VARIABLE}.",
        )
    return named.absolute()  # not resolved: a virtual environment is recognised by its own link


def _script_in(home: Path) -> Path | None:
    if home.is_file() and home.name == SCRIPT:
        return home.resolve()
    found = (home / place for place in _PLACES)
    return next((script.resolve() for script in found if script.is_file()), None)


def _installed(interpreter: Path) -> Path | None:
    """abcrown.py of the package in that interpreter's environment."""
    if interpreter == Path(sys.executable).absolute():
        found = importlib.util.find_spec("abcrown")
        origin = found.origin if found is not None else None
    else:
        try:
            done = subprocess.run(
                [str(interpreter), "-c", _LOOK_UP],
                capture_output=True,
                text=True,
                timeout=LOOK_UP_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        origin = done.stdout.strip()
    return None if not origin else _script_in(Path(origin).parent)


def _version(script: Path) -> str:
    try:
        text = (script.parent / "__init__.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "unknown"
    match = _VERSION.search(text)
    return "unknown" if match is None else match[1]

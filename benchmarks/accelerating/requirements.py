"""What has to be installed, looked up before anything of it is imported."""

from __future__ import annotations

import configparser
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def missing() -> list[str]:
    """Distributions that the package needs and that are not there."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].splitlines()
    names = [re.split(r"[><=\s]", line)[0] for line in lines if line and line[0].isalpha()]
    return [name for name in (*names, "auto_LiRPA", "pytest") if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True

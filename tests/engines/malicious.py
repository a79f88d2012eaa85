"""Pickles that no reader of results may open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class Malicious:
    """Unpickled by somebody careless, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)

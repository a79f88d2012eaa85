"""A ledger that version 0.1.0 wrote, of four images of two pixels and two outputs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

VERSION_1 = Path(__file__).with_name("ledger_version_1.sql")


def write_version_1(path: Path) -> Path:
    """Images 0 and 2 are verified, 1 is attacked, 3 is classified wrongly; returns ``path``."""
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return path

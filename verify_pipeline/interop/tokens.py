"""Parenthesised text: the tokens of VNN-LIB files and of counterexample files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from verify_pipeline.errors import DataError
from verify_pipeline.interop.text_files import read_plain

TOKEN = re.compile(r";[^\r\n]*|([()]|[^\s();]+)")
"""A comment (which has no first group), a bracket, or a word."""

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)

VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})", re.ASCII)
"""An input or an output, and its place."""


class Source:
    """A text as words. Where a word stands is an offset; its line is found when an error needs it.

    Args:
        text: the whole file.
        name: how messages call it.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name

    @staticmethod
    def read(path: Path) -> Source:
        """A file, compressed with gzip or not.

        Raises:
            DataError: it cannot be read, or is no text.
        """
        try:
            text = read_plain(path).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"file {path}", expected="text in UTF-8", got="other bytes") from None
        return Source(text, path.name)

    def words(self, start: int = 0) -> Iterator[tuple[int, str]]:
        """Brackets and words from an offset on, each with its own; comments are left out."""
        for match in TOKEN.finditer(self.text, start):
            if match[1]:
                yield match.start(), match[1]

    def error(self, offset: int, expected: str, got: str) -> DataError:
        """An error at an offset, with its line, counted from 1."""
        line = self.text.count("\n", 0, offset) + 1
        return DataError(f"{self.name}, line {line}", expected=expected, got=got)

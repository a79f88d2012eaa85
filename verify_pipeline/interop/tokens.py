"""Text in brackets: the tokens of VNN-LIB files and of counterexample files."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from verify_pipeline.errors import DataError
from verify_pipeline.interop.files import read_plain

TOKEN = re.compile(r";[^\r\n]*|([()]|[^\s();]+)")
"""A comment (which leaves an empty token), a bracket, or a word."""

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)

VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})", re.ASCII)
"""An input or an output, and its place."""


class Source:
    """A text as tokens. Where a token stands is only found out when an error has to say so.

    Args:
        text: the whole file.
        name: how messages call it.
    """

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self.name = name
        self.tokens: list[str] = TOKEN.findall(text)

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

    def line(self, place: int) -> int:
        """The line, from 1, of the token at ``place``; past the end: the last line."""
        match = next(islice(TOKEN.finditer(self._text), place, None), None)
        end = len(self._text) if match is None else match.start()
        return self._text.count("\n", 0, end) + 1

    def error(self, place: int, expected: str, got: str) -> DataError:
        """What is wrong at the token at ``place``."""
        return DataError(f"{self.name}, line {self.line(place)}", expected=expected, got=got)

"""Reads untrusted pickles without executing code."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verify_pipeline.errors import DataError


def read_pickle(path: Path, content: bytes, allowed: Mapping[tuple[str, str], object]) -> Any:
    """The object in a pickle that refers to allowed names only.

    Args:
        path: to name in messages.
        content: of the file. Text of Python 2 becomes bytes.
        allowed: what each (module, name) in the pickle stands for; nothing is imported.

    Raises:
        DataError: the pickle names anything else, or is damaged.
    """
    try:
        return _Restricted(io.BytesIO(content), allowed).load()
    except _ForbiddenError as error:
        raise DataError(
            str(path),
            expected="a pickle of plain data",
            got=f"one that asks for {error}",
            remedy="Nothing of it was run. Fetch the published file instead.",
        ) from None
    except Exception as error:  # damaged pickles raise almost any exception
        raise DataError(
            str(path),
            expected="a whole pickle",
            got=f"{type(error).__name__}: {error}",
            remedy="Delete it and fetch it again.",
        ) from error


class _ForbiddenError(Exception):
    """The pickle names something that is not allowed."""


class _Restricted(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: Mapping[tuple[str, str], object]) -> None:
        super().__init__(file, encoding="bytes")
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise _ForbiddenError(f"{module}.{name}")
        return self._allowed[module, name]

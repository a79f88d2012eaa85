"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from verify_pipeline.errors import ConfigError, DataError


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file under another name and move it into place; its folder is made if need be.

    Args:
        path: of the file; what stands there is replaced.
        content: text becomes UTF-8.

    Returns:
        ``path``.

    Raises:
        DataError: the place cannot be written; nothing is left there.
    """
    write_all({path: content})
    return path


def write_all(contents: Mapping[Path, str | bytes]) -> tuple[Path, ...]:
    """Write files that belong together: none is moved into place before all are written.

    Args:
        contents: by path; as in :func:`write_whole`.

    Returns:
        The paths, in order.

    Raises:
        DataError: a place cannot be written, or the disk is full; nothing is left there.
    """
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.new") for path in contents}
    try:
        for path, content in contents.items():
            with _naming(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                whole = content.encode() if isinstance(content, str) else content
                temporary[path].write_bytes(whole)
        for path, written in temporary.items():
            with _naming(path):
                os.replace(written, path)
    finally:  # also where somebody stops the program
        for written in temporary.values():
            with suppress(OSError):
                written.unlink(missing_ok=True)
    return tuple(contents)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error of the file system as one that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"file {path}", expected="a place that can be written", got=error.strerror or str(error)
        ) from error


def check_folder(folder: Path) -> None:
    """Refuse, before hours of work, a folder that could not be made or written.

    Raises:
        ConfigError: it is a file, or below one, or must not be written.
    """
    nearest = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(
            f"folder {folder}",
            expected="a folder that can be written",
            got=f"{nearest} is {'not writable' if nearest.is_dir() else 'a file'}",
        )

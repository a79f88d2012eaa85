"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"file {path}", expected="a place that can be written", got=error.strerror or str(error)
        ) from error
    finally:  # also where somebody stops the program
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


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

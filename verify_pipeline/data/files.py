"""Finds data files in a local data root, or else in a per-user cache of downloads.

This module knows no formats. It finds a file, or downloads and checks it; otherwise a
:class:`~verify_pipeline.errors.DataError` names every searched folder and the remedy.
"""

from __future__ import annotations

import hashlib
import logging
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch

from verify_pipeline.errors import DataError

ROOT_VARIABLE = "VERIFY_PIPELINE_DATA"


@dataclass(frozen=True)
class Remote:
    """A file that can be downloaded.

    Attributes:
        address: where its authors (or a mirror of theirs) publish it.
        md5: of the file behind the address.
    """

    address: str
    md5: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.address.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Store:
    """The folders in which data sets are looked for.

    Attributes:
        root: the user's data root, looked in first; None when none was given.
        cache: where downloads are kept, looked in last.
        download: whether a missing file may be downloaded.
    """

    root: Path | None
    cache: Path
    download: bool = True

    def folders(self, subfolders: Sequence[str]) -> list[Path]:
        """Each subfolder under the root, then each under the cache."""
        roots = [self.cache] if self.root is None else [self.root, self.cache]
        return [root / subfolder for root in roots for subfolder in subfolders]

    def find(self, subfolders: Sequence[str], names: Sequence[str]) -> Path | None:
        """The first of ``names`` that exists in the first of the folders that has one."""
        candidates = (folder / name for folder in self.folders(subfolders) for name in names)
        return next((path for path in candidates if os.path.isfile(path)), None)

    def obtain(
        self, what: str, subfolders: Sequence[str], names: Sequence[str], remote: Remote | None
    ) -> Path:
        """The path of an existing file, or of one that is downloaded and checked now.

        Args:
            what: the file's role, for the message.
            subfolders: of the data root in which it may lie; downloads go to the first one.
            names: that it may have.
            remote: where it can be downloaded, if anywhere.

        Raises:
            DataError: it is nowhere, cannot be downloaded, or its checksum is wrong.
        """
        found = self.find(subfolders, names)
        if found is not None:
            return found
        places = ", ".join(str(folder) for folder in self.folders(subfolders))
        remedy = f"Put it there, or name the data root with --data-root or {ROOT_VARIABLE}"
        if remote is not None and self.download:
            return fetch(
                remote, self.cache / subfolders[0], f"{what} was not found in {places}. {remedy}."
            )
        if remote is not None:
            remedy += f", or allow the download from {remote.address}"
        raise DataError(
            what,
            expected=" or ".join(names),
            got=f"no such file in {places}",
            remedy=remedy + ".",
        )


def open_store(root: Path | None = None, download: bool = True) -> Store:
    """The store for a data root: the option, else the environment variable, else only the cache.

    Raises:
        DataError: the root that was named is not a folder.
    """
    origin = "--data-root"
    named = os.environ.get(ROOT_VARIABLE)
    if root is None and named:
        origin, root = ROOT_VARIABLE, Path(named)
    if root is not None:
        root = root.expanduser()
        if not root.is_dir():
            raise DataError(f"data root ({origin})", expected="a folder that exists", got=str(root))
    return Store(root, Path(pooch.os_cache("verify_pipeline")), download)


def fetch(remote: Remote, folder: Path, remedy: str) -> Path:
    """Download a file into a folder; a file with a wrong checksum is not kept.

    Args:
        remote: what to download.
        folder: made where it does not exist.
        remedy: what to do when that fails.

    Raises:
        DataError: it cannot be downloaded or written, or its content is not the published file's.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # it would print every download on stderr
    try:
        path = pooch.retrieve(
            remote.address, known_hash=f"md5:{remote.md5}", fname=remote.name, path=folder
        )
    except ValueError as error:
        raise DataError(
            f"download of {remote.address}",
            expected=f"a file with MD5 {remote.md5}",
            got=str(error),
            remedy=remedy,
        ) from error
    except OSError as error:
        raise DataError(
            f"download of {remote.address}",
            got=_reason(error),
            remedy=remedy,
        ) from error
    return Path(path)


def _reason(error: BaseException) -> str:
    """The root cause in a few words; HTTP libraries wrap it several times."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return textwrap.shorten(told or type(error).__name__, 120, placeholder=" …")


def check_md5(path: Path, content: bytes, expected: str) -> None:
    """Refuse a file whose content is not the published one.

    Args:
        path: to name in the message.
        content: of the file, after decompression where ``expected`` is about that.
        expected: the published MD5, in hexadecimal.

    Raises:
        DataError: the digests differ.
    """
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != expected:
        raise DataError(
            str(path),
            expected=f"content with MD5 {expected}",
            got=digest,
            remedy="The file is damaged or not the published one: delete it and fetch it again.",
        )

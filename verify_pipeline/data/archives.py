"""Files of a folder, a zip or a tar archive, read by name; nothing is unpacked onto the disk."""

from __future__ import annotations

import contextlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from verify_pipeline.errors import DataError

DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError)
"""Exceptions of the standard library for files that cannot be read or decompressed."""


class Files(Protocol):
    """Files under one root; names are relative paths with ``/`` as the separator."""

    @property
    def place(self) -> Path:
        """The folder or the archive."""

    def names(self, folder: str) -> list[str]:
        """The names (without ``folder``) of the files right inside a folder, sorted."""

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            DataError: there is no such file, or it cannot be read.
        """


@dataclass(frozen=True)
class FolderFiles:
    """Files of a folder on the disk."""

    place: Path

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted; none if there is no such folder."""
        inside = self.place / folder
        return sorted(f.name for f in inside.iterdir() if f.is_file()) if inside.is_dir() else []

    def read(self, name: str) -> bytes:
        """A file's content; see :class:`Files`."""
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(
                str(self.place), expected="names of files in the folder", got=repr(name)
            )
        try:
            return (self.place / name).read_bytes()
        except FileNotFoundError:
            raise _absent(self.place, name) from None
        except OSError as error:
            raise unreadable(self.place / name, error) from error


@dataclass(frozen=True, eq=False)
class ArchiveFiles:
    """Files of an open archive.

    Attributes:
        place: the archive.
        readers: what reads each file.
        folders: the names of the files in each folder.
    """

    place: Path
    readers: Mapping[str, Callable[[], bytes]]
    folders: Mapping[str, list[str]]

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted; none if there is no such folder."""
        return sorted(self.folders.get(folder, []))

    def read(self, name: str) -> bytes:
        """A file's content; see :class:`Files`."""
        if name not in self.readers:
            raise _absent(self.place, name)
        try:
            return self.readers[name]()
        except DAMAGED as error:
            raise unreadable(self.place / name, error) from error


@contextlib.contextmanager
def open_files(path: Path, landmark: str) -> Iterator[Files]:
    """The files around a landmark.

    Args:
        path: a zip or tar archive that holds the landmark in some folder of its own, or a file
            that lies in the same folder as the landmark.
        landmark: name of a file; the names of all files count from its folder.

    Raises:
        DataError: the archive is damaged or does not hold the landmark.
    """
    with contextlib.ExitStack() as stack:
        try:
            readers = _members(path, stack)
        except DAMAGED as error:
            raise unreadable(path, error) from error
        yield FolderFiles(path.parent) if readers is None else _around(path, readers, landmark)


@contextlib.contextmanager
def open_folder(path: Path, folder: str) -> Iterator[Files]:
    """The files of a folder by its name; names of files count from it.

    Args:
        path: the folder that it is in, or a zip or tar archive that holds it at any depth.
        folder: such as ``Final_Test/Images``; empty: the whole.

    Raises:
        DataError: the archive is damaged or does not hold the folder.
    """
    with contextlib.ExitStack() as stack:
        try:
            readers = None if path.is_dir() else _members(path, stack)
        except DAMAGED as error:
            raise unreadable(path, error) from error
        if readers is None:
            yield FolderFiles(path / folder)
            return
        inside = f"{folder}/" if folder else ""
        start = next((at for name in readers if (at := _start(name, inside)) is not None), None)
        if start is None:
            raise _absent(path, inside)
        yield _below(path, readers, start)


def _start(name: str, folder: str) -> str | None:
    """A path up to a folder in it; None: it is not below the folder."""
    place = f"/{name}".find(f"/{folder}")
    return None if place < 0 else name[: place + len(folder)]


def unreadable(path: Path, error: BaseException) -> DataError:
    """The error for an existing file that cannot be read."""
    return DataError(
        str(path),
        expected="a readable, whole file",
        got=f"{type(error).__name__}: {error}",
        remedy="Delete it and fetch it again.",
    )


def _absent(place: Path, name: str) -> DataError:
    return DataError(
        str(place),
        expected=f"the file {name}",
        got="none of that name",
        remedy="Fetch the data set again.",
    )


def _members(path: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[], bytes]] | None:
    """Readers of an archive's members; None if the file is not an archive."""
    if path.suffix == ".zip":
        zipped = stack.enter_context(zipfile.ZipFile(path))
        members = [member for member in zipped.infolist() if not member.is_dir()]
        return {member.filename: partial(zipped.read, member) for member in members}
    if path.name.endswith((".tar.gz", ".tar")):
        # Going back in a compressed tar means decompressing it from the start: read it once.
        with tarfile.open(path) as tar:
            streams = ((member.name, tar.extractfile(member)) for member in tar)
            return {name: partial(bytes, stream.read()) for name, stream in streams if stream}
    return None


def _around(path: Path, readers: dict[str, Callable[[], bytes]], landmark: str) -> ArchiveFiles:
    base = next((PurePosixPath(n).parent for n in readers if n.split("/")[-1] == landmark), None)
    if base is None:
        raise _absent(path, landmark)
    return _below(path, readers, "" if base == PurePosixPath(".") else f"{base.as_posix()}/")


def _below(path: Path, readers: Mapping[str, Callable[[], bytes]], start: str) -> ArchiveFiles:
    """The members whose names begin so, without this beginning."""
    inside: dict[str, Callable[[], bytes]] = {}
    folders: dict[str, list[str]] = {}
    for name, reader in readers.items():
        if name.startswith(start):
            relative = name[len(start) :]
            folder, _, last = relative.rpartition("/")
            inside[relative] = reader
            folders.setdefault(folder, []).append(last)
    return ArchiveFiles(path, inside, folders)

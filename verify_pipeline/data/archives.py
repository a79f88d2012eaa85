"""Files of a folder, a zip or a tar archive, read by name; nothing is unpacked onto the disk."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from verify_pipeline.errors import DataError

DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError)
"""Exceptions of the standard library for files that cannot be read or decompressed."""

LARGEST = 1 << 31
"""Bytes that a file of an archive may have, unpacked; a tar archive as a whole, since it is read as
a whole. A few packed bytes can be many plain ones."""

MOST_MEMBERS = 1 << 19
"""Files in an archive; each takes about a kilobyte of memory, also where it is empty."""

GZIP = b"\x1f\x8b"


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


def read_unpacked(path: Path) -> bytes:
    """A file's content, decompressed where its name ends in ``.gz``.

    Raises:
        DataError: it cannot be read, is not whole, or has more than :data:`LARGEST` bytes.
    """
    try:
        with path.open("rb") as file:
            plain = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            content = plain.read(LARGEST + 1)
    except DAMAGED as error:
        raise unreadable(path, error) from error
    refuse_above(len(content), LARGEST, path)
    return content


def refuse_above(size: int, largest: int, place: Path) -> None:
    """Refuse a file before, or while, its content is read.

    Args:
        size: bytes that it has or claims to have, unpacked.
        largest: bytes that it may have.
        place: to name in the message.

    Raises:
        DataError: it is larger.
    """
    if size > largest:
        raise DataError(
            str(place),
            expected=f"at most {largest:,} bytes, unpacked",
            got=f"{size:,} bytes or more",
            remedy="If you trust it, unpack it yourself and name the folder.",
        )


def _members(path: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[], bytes]] | None:
    """Readers of an archive's members; None if the file is not an archive."""
    if path.suffix == ".zip":
        zipped = stack.enter_context(zipfile.ZipFile(path))
        members = [member for member in zipped.infolist() if not member.is_dir()]
        _refuse_many(len(members), path)
        return {member.filename: partial(_of_zip, zipped, member, path) for member in members}
    if path.name.endswith((".tar.gz", ".tar")):
        # Going back in a compressed tar means decompressing it from the start: read it once.
        with path.open("rb") as file:
            return _of_tar(file, path)
    return None


def _of_zip(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bytes:
    """A member's content; zipfile reads no more of it than it claims to have."""
    refuse_above(member.file_size, LARGEST, path / member.filename)
    return zipped.read(member)


def _of_tar(file: IO[bytes], path: Path) -> dict[str, Callable[[], bytes]]:
    packed = file.read(len(GZIP)) == GZIP
    file.seek(0)
    plain = gzip.GzipFile(fileobj=file) if packed else file
    limited = io.BufferedReader(_Limited(plain, path))
    found: dict[str, Callable[[], bytes]] = {}
    with tarfile.open(fileobj=limited, mode="r|") as tar:
        for number, member in enumerate(tar, 1):
            _refuse_many(number, path)
            refuse_above(member.size, LARGEST, path / member.name)
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                found[member.name] = partial(bytes, stream.read())
    return found


def _refuse_many(count: int, path: Path) -> None:
    if count > MOST_MEMBERS:
        raise DataError(str(path), expected=f"at most {MOST_MEMBERS:,} files", got="more")


class _Limited(io.RawIOBase):
    """A stream that ends with an error once it has given :data:`LARGEST` bytes.

    A tar archive has headers that are as long as they say, so that its files' sizes do not bound
    what is read of it.
    """

    def __init__(self, plain: IO[bytes] | gzip.GzipFile, path: Path) -> None:
        self._plain, self._path, self._given = plain, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._plain.read(len(buffer))
        self._given += len(found)
        refuse_above(self._given, LARGEST, self._path)
        buffer[: len(found)] = found
        return len(found)


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

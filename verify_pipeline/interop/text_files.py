"""Files that may be compressed with gzip, like those of VNN-COMP."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from verify_pipeline.errors import DataError
from verify_pipeline.onnx import Network, load_network, network_from_bytes

GZIP = b"\x1f\x8b"

LARGEST = 2**31 - 1
"""Bytes of a file that is read, unpacked; an ONNX file cannot be larger."""


def read_plain(path: Path, largest: int = LARGEST) -> bytes:
    """The bytes of a file, unpacked if it is compressed, whatever its name.

    Args:
        path: of the file.
        largest: bytes, unpacked, that it may have.

    Raises:
        DataError: it cannot be read, is not whole, or is larger.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            # a few compressed bytes can be many plain ones
            data = (gzip.GzipFile(fileobj=file) if compressed else file).read(largest + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"file {path}", expected="a whole gzip file", got=str(error)) from None
    except OSError as error:
        raise DataError(
            f"file {path}", expected="a file that can be read", got=error.strerror or str(error)
        ) from None
    if len(data) > largest:
        raise DataError(f"file {path}", expected=f"at most {largest} bytes", got="more")
    return data


def read_network(path: Path, check_parity: bool = True) -> Network:
    """The network in an ONNX file, whose name ends in ``.gz`` if it is compressed.

    Args:
        path: of the file.
        check_parity: whether the graph is compared with onnxruntime.

    Raises:
        NetworkError: it is no network that can be used; see ``load_network``.
        DataError: a compressed file cannot be read.
    """
    if path.suffix == ".gz":
        return network_from_bytes(read_plain(path), path, check_parity)
    return load_network(path, check_parity)

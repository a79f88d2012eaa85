"""Images of CIFAR-10 in one small file, and back, bit by bit.

Red and blue are written as differences from green. Each value is predicted from those on its left,
above it, and on the diagonal (the median of left, above, and left + above - diagonal, as in
LOCO-I: Weinberger et al. 2000), and the differences are compressed with xz, colour by colour.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import DataError

Bytes = np.ndarray
"""``N x C x H x W`` uint8; arithmetic on them wraps around at 256."""

MAGIC = b"verify_pipeline images 1\n"


@dataclass(frozen=True)
class Header:
    """What stands before the images of one split.

    Attributes:
        name: of the data set.
        split: of it.
        shape: ``N, C, H, W``.
        classes: number of them.
        size: bytes of the compressed differences.
        digest: SHA-256 of labels and images.
    """

    name: str
    split: str
    shape: tuple[int, ...]
    classes: int
    size: int
    digest: str


def pack(path: Path, sets: Sequence[ImageSet]) -> int:
    """Write sets of 8-bit images with 3 channels and at most 256 classes; the file's bytes.

    Raises:
        DataError: images of another type or shape, or a place that cannot be written.
    """
    parts = [MAGIC]
    for images in sets:
        if images.images.dtype != torch.uint8 or len(images.shape) != 3 or images.shape[0] != 3:
            raise DataError(
                f"images {images.name} ({images.split})",
                expected="8-bit images with 3 channels",
                got=f"{images.images.dtype} of shape {images.shape}",
            )
        pixels, labels = images.images.numpy(), images.labels.numpy().astype(np.uint8)
        differences = np.ascontiguousarray(_differences(pixels).transpose(1, 0, 2, 3))
        body = lzma.compress(labels.tobytes() + differences.tobytes(), preset=6)
        header = Header(
            images.name,
            images.split,
            tuple(pixels.shape),
            images.classes,
            len(body),
            _digest(pixels, labels),
        )
        parts += [json.dumps(asdict(header)).encode() + b"\n", body]
    content = b"".join(parts)
    write_whole(path, content)
    return len(content)


def headers(path: Path) -> list[Header]:
    """What a file holds; images are not unpacked.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    return [header for header, _ in _packed(path)]


def unpack(path: Path, split: str) -> ImageSet:
    """One split of a file.

    Raises:
        DataError: there is no such file or split, or it is damaged.
    """
    found = {header.split: (header, packed) for header, packed in _packed(path)}
    if split not in found:
        raise DataError(f"packed images {path}", expected=f"split {split}", got=", ".join(found))
    header, packed = found[split]
    try:
        body = lzma.decompress(packed)
    except (lzma.LZMAError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    return _images(path, header, body)


def _packed(path: Path) -> Iterator[tuple[Header, bytes]]:
    """The header and the compressed differences of each split."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"packed images {path}",
            expected="a file that `python benchmarks/accelerator.py pack` wrote",
            got=error.strerror or str(error),
        ) from error
    if not content.startswith(MAGIC):
        raise _damaged(path, "another beginning")
    rest = content[len(MAGIC) :]
    while rest:
        line, _, rest = rest.partition(b"\n")
        try:
            header = Header(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise _damaged(path, str(error)) from error
        if len(rest) < header.size:
            raise _damaged(path, f"{len(rest)} of {header.size} bytes of {header.split}")
        yield header, rest[: header.size]
        rest = rest[header.size :]


def _images(path: Path, header: Header, body: bytes) -> ImageSet:
    count, channels, height, width = header.shape
    if len(body) != count * (1 + channels * height * width):
        raise _damaged(path, f"{len(body)} bytes for {count} images")
    flat = np.frombuffer(body, np.uint8)
    labels = flat[:count]
    planes = flat[count:].reshape(channels, count, height, width).transpose(1, 0, 2, 3)
    pixels = _sums(planes)
    if _digest(pixels, labels) != header.digest:
        raise _damaged(path, "another digest")
    return ImageSet(
        header.name,
        header.split,
        torch.from_numpy(pixels),
        torch.from_numpy(labels.astype(np.int64)),
        header.classes,
    )


def _damaged(path: Path, got: str) -> DataError:
    return DataError(
        f"packed images {path}",
        expected="a whole file of packed images",
        got=got,
        remedy="Make it anew: python benchmarks/accelerator.py pack --out FILE.",
    )


def _digest(pixels: Bytes, labels: Bytes) -> str:
    sha = hashlib.sha256(labels.tobytes())
    sha.update(np.ascontiguousarray(pixels).tobytes())
    return sha.hexdigest()


def _differences(pixels: Bytes) -> Bytes:
    """From their predictions, with small ones of both signs as small numbers."""
    values = _from_green(pixels, -1)
    out = np.empty_like(values)
    for row in range(values.shape[2]):
        for column in range(values.shape[3]):
            out[:, :, row, column] = values[:, :, row, column] - _predicted(values, row, column)
    signed = out.view(np.int8)
    return ((signed << 1) ^ (signed >> 7)).view(np.uint8)


def _sums(folded: Bytes) -> Bytes:
    """Pixels of their differences: the inverse of :func:`_differences`."""
    out = (folded >> 1) ^ (-(folded & 1).view(np.int8)).view(np.uint8)
    values = np.zeros_like(np.ascontiguousarray(out))
    for row in range(values.shape[2]):
        for column in range(values.shape[3]):
            values[:, :, row, column] = out[:, :, row, column] + _predicted(values, row, column)
    return _from_green(values, 1)


def _from_green(values: Bytes, sign: int) -> Bytes:
    """Red and blue minus green (sign -1), or back (sign 1); green as a signed number."""
    out = values.copy()
    out[:, 1] ^= 128
    values = values if sign < 0 else out
    for channel in (0, 2):
        out[:, channel] += np.uint8(sign % 256) * values[:, 1]
    return out


def _predicted(values: Bytes, row: int, column: int) -> Bytes:
    """From what is left, above and on the diagonal; ``N x C``."""
    if row == 0 and column == 0:
        return np.zeros_like(values[:, :, 0, 0])
    if row == 0:
        return values[:, :, 0, column - 1]
    if column == 0:
        return values[:, :, row - 1, 0]
    left = values[:, :, row, column - 1].view(np.int8).astype(np.int16)
    above = values[:, :, row - 1, column].view(np.int8).astype(np.int16)
    diagonal = values[:, :, row - 1, column - 1].view(np.int8).astype(np.int16)
    low, high = np.minimum(left, above), np.maximum(left, above)
    predicted: Bytes = np.clip(left + above - diagonal, low, high).astype(np.int8).view(np.uint8)
    return predicted

"""Section 8, continued: which proofs are of which instances of a VNN-COMP list.

An instance is a network and a property, each known by the SHA-256 of its file's bytes; of a file
that gzip compressed, those are the bytes inside it. Proofs show an instance if they name it, and
each disjunct of its property is refuted by one of them.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from verify_checker.problems import reject
from verify_checker.proof import Proof
from verify_checker.vnnlib import Disjunct, read_property

LARGEST_FILE = 1 << 30
Key = tuple[str, str]
"""SHA-256 of a network and of a property."""


def read_instances(listed: Path) -> dict[Key, Path]:
    """The property files of a list ``onnx,vnnlib,seconds``; names are relative to its folder.

    Raises:
        ValueError: it is of another form, or a file that it names is damaged or too large.
        OSError: a file cannot be read.
    """
    try:
        with listed.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
    except csv.Error as error:
        raise ValueError(f"{listed.name}: {error}") from None
    if not lines or any(len(line) != 3 for line in lines):
        raise ValueError(f"{listed.name} has other lines than onnx,vnnlib,seconds")
    pairs = [[_beside(listed, name.strip()) for name in line[:2]] for line in lines]
    digests = {path: _sha256(read_plain(path)) for path in {p for pair in pairs for p in pair}}
    return {(digests[network], digests[named]): named for network, named in pairs}


def _beside(listed: Path, name: str) -> Path:
    """The file that a list names; if it is not there, the one with or without ``.gz``."""
    path, plain = listed.parent / name, listed.parent / name.removesuffix(".gz")
    others = path, plain, plain.with_name(f"{plain.name}.gz")
    return next((one for one in others if one.is_file()), path)


def read_plain(path: Path) -> bytes:
    """The bytes of a file, or those that it holds compressed, whatever its name."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(LARGEST_FILE + 1)
        except (EOFError, zlib.error) as error:
            raise ValueError(f"{path.name}: {error}") from None
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{path.name} has more than {LARGEST_FILE} bytes")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def key_of(about: Mapping[str, Any]) -> Key:
    """The instance that a proof names."""
    return str(about.get("network")), str(about.get("sha256_of_property"))


@cache
def _property_of(path: Path, sha256: str) -> list[Disjunct]:
    data = read_plain(path)
    reject(_sha256(data) != sha256, f"the property's file {path.name} has changed")
    return read_property(data)


def refuted(proof: Proof, instances: Mapping[Key, Path]) -> list[bool]:
    """For each disjunct of the property that a proof names, whether the proof refutes it.

    Raises:
        Rejected: it names none of the list, or refutes nothing of it.
        Refused: the property has something that is not known here.
    """
    key = key_of(proof.about)
    reject(key not in instances, "a proof that names no network and property of the list")
    found = [one.is_refuted_by(proof) for one in _property_of(instances[key], key[1])]
    reject(not any(found), f"a box or rows that are not those of {instances[key].name}")
    return found

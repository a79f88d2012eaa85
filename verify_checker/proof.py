"""Section 7: what a proof is, and its file.

A proof claims: at every input ``lower <= x <= upper``, each *group* of rows of ``C f(x) + d`` has a
row above zero, for the network whose file has a given SHA-256. Usually each row is a group of its
own, so that all rows are above zero. A proof supports the claim by lemmas and trees.

* A *lemma* claims limits of some neurons over the whole box.
* A *tree* covers the box for some of the rows. Its nodes stand in preorder. An inner node splits at
  a neuron (its value is >= 0, then <= 0), or at an input (<= ``at``, then >= ``at``), or says that
  all values below it are bounded again. Two parts share the number at which they are split, so that
  a gap between them cannot be written.
* A *leaf* has multipliers: α of the neurons that lemmas left undecided, and β >= 0 of
  each split at a neuron since values were last bounded again.

A file is a line that names the format, and a deflated stream: a header of JSON in one line, then
the arrays that it lists. Nothing in it is executed, and sizes are checked before memory is taken.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verify_checker.operations import Places
from verify_checker.problems import Rejected, reject
from verify_checker.rounding import Array

MAGIC = b"verify_pipeline proof 1\n"
LARGEST, LONGEST_HEADER = 1 << 29, 1 << 22
TYPES = ("<u1", "<u2", "<u4", "<f4", "<f8")
LEAF, NEURON, INPUT, AGAIN = range(4)
"""Kinds of a tree's nodes."""

Bytes = NDArray[np.uint8]
Codes = NDArray[np.uint8] | NDArray[np.uint16]
"""Numbers in [0, 1], as shares of the type's largest number."""

Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lemma:
    """Claimed limits of some numbers of a value.

    Attributes:
        value: its name in the file.
        places: ``k``, in the flattened value.
        lower, upper: ``k`` float32.
        alpha: multipliers ``2 k x columns`` of the walks that show it (first the lower limits, then
            the upper ones); None: the usual lines.
    """

    value: str
    places: Places
    lower: Singles
    upper: Singles
    alpha: Codes | None = None


@dataclass(frozen=True, eq=False)
class Tree:
    """A cover of the box, and a proof of some rows over each part.

    Attributes:
        rows: which rows, ``r``.
        any_row: at each leaf, one of these rows, all of one group, is above zero; else all are.
        intervals: the walks stop at the last nonlinear operations and take intervals.
        kind: ``n`` nodes in preorder.
        value: ``n``, of a split neuron: which of the proof's ``values``.
        number: ``n``, place of the neuron in its value, or of the input.
        at: ``n``, where an input is split.
        alpha: ``leaves x r x columns``, or one for all leaves, ``1 x r x columns``; None: the usual
            lines.
        beta: one for each leaf, row and neuron split above it since values were bounded again, in
            this order.
    """

    rows: Places
    intervals: bool
    kind: Bytes
    value: Places
    number: Places
    at: Array
    alpha: Codes | None = None
    beta: Singles | None = None
    any_row: bool = False


@dataclass(frozen=True, eq=False)
class Proof:
    """A claim and its support.

    Attributes:
        about: what the claim is of: ``network`` (SHA-256), and what a reader wants to know.
        lower, upper: the box, ``*X`` flattened.
        rows, offsets: C ``S x K`` and d ``S``.
        groups: the group of each row, ``S``; None: each is its own.
        values: names of the values that feed kinked operations and have undecided neurons.
        columns: for each of these, the places of its undecided neurons. Concatenated, they are the
            columns of all ``alpha``.
        lemmas, trees: the support.
    """

    about: dict[str, Any]
    lower: Array
    upper: Array
    rows: Array
    offsets: Array
    values: tuple[str, ...] = ()
    columns: tuple[Places, ...] = ()
    lemmas: tuple[Lemma, ...] = ()
    trees: tuple[Tree, ...] = ()
    groups: Places | None = None

    @property
    def claims_every_row(self) -> bool:
        """Whether each row is a group of its own, so that all rows are claimed to be above zero."""
        return self.groups is None or len(np.unique(self.groups)) == len(self.rows)


def read_proof(data: bytes) -> Proof:
    """The proof of a file's bytes.

    Raises:
        Rejected: it is damaged, of another format, or larger than allowed.
    """
    reject(not data.startswith(MAGIC), "no proof of a format that is known")
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(data[len(MAGIC) :], LARGEST)
    except zlib.error as error:
        raise Rejected(f"a damaged file: {error}") from None
    if not inflate.eof or inflate.unused_data:
        raise Rejected("a file that is cut off, too large, or has something behind its end")
    try:
        return _parsed(body)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Rejected(f"a damaged file: {type(error).__name__}: {error}"[:200]) from None


def _parsed(body: bytes) -> Proof:
    end = body.index(b"\n", 0, LONGEST_HEADER)
    header = json.loads(body[:end])
    arrays = _arrays(header["arrays"], memoryview(body)[end + 1 :])
    limits, box = _typed(arrays["limits"], np.float64), _whole(arrays["box"])
    if box.ndim != 2 or len(box) != 2 or int(box.max(initial=0)) >= len(limits):
        raise ValueError("a box without limits")
    names = [str(v) for v in header["values"]]
    lemmas = tuple(
        Lemma(
            str(value),
            _whole(arrays[f"lemma {n} places"]),
            _typed(arrays[f"lemma {n} lower"], np.float32),
            _typed(arrays[f"lemma {n} upper"], np.float32),
            _codes(arrays, f"lemma {n} alpha"),
        )
        for n, value in enumerate(header["lemmas"])
    )
    trees = tuple(
        Tree(
            _whole(arrays[f"tree {n} rows"]),
            _flag(intervals),
            _typed(arrays[f"tree {n} kind"], np.uint8),
            _whole(arrays[f"tree {n} value"]),
            _whole(arrays[f"tree {n} number"]),
            _typed(arrays[f"tree {n} at"], np.float64),
            _codes(arrays, f"tree {n} alpha"),
            _typed(arrays[f"tree {n} beta"], np.float32) if f"tree {n} beta" in arrays else None,
            _flag(any_row),
        )
        for n, (intervals, any_row) in enumerate(header["trees"])
    )
    columns = tuple(_whole(arrays[f"columns {n}"]) for n in range(len(names)))
    about = header["about"]
    flat = isinstance(about, dict) and all(isinstance(v, str | int | None) for v in about.values())
    if not flat:
        raise ValueError("what it is about is not given by texts and whole numbers")
    json.dumps(about, ensure_ascii=False).encode()  # texts that cannot be written
    rows, offsets = _typed(arrays["rows"], np.float64), _typed(arrays["offsets"], np.float64)
    groups = _whole(arrays["groups"]) if "groups" in arrays else None
    box_limits = limits[box[0]], limits[box[1]]
    return Proof(about, *box_limits, rows, offsets, tuple(names), columns, lemmas, trees, groups)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("a flag that is neither true nor false")
    return value


def _arrays(listed: list[Any], data: memoryview) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, kind, shape in listed:
        if kind not in TYPES or name in found or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"an array {name!r} of type {kind!r}")
        size = math.prod(shape) * np.dtype(kind).itemsize
        if size > len(data):
            raise ValueError(f"an array {name!r} that is longer than the file")
        found[name] = np.frombuffer(data[:size], dtype=kind).reshape(shape)
        data = data[size:]
    if len(data):
        raise ValueError("bytes that belong to no array")
    return found


def _codes(arrays: dict[str, np.ndarray], name: str) -> Codes | None:
    return _typed(arrays[name], np.uint8, np.uint16) if name in arrays else None


def _whole(array: np.ndarray) -> Places:
    return _typed(array, np.uint8, np.uint16, np.uint32).astype(np.int64)


def _typed(array: np.ndarray, *types: type[np.generic]) -> np.ndarray:
    if array.dtype not in types:
        raise ValueError(f"numbers of type {array.dtype}")
    return array.copy()

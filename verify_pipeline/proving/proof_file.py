"""The file of a proof, in the format that ``verify_checker.proof`` reads.

The checker only reads proofs, so that what writes them is not part of what has to be trusted.
"""

from __future__ import annotations

import json
import zlib

import numpy as np

from verify_checker.operations import Places
from verify_checker.proof import MAGIC, Codes, Proof, Tree


def leaf_only(rows: Places, intervals: bool = False, alpha: Codes | None = None) -> Tree:
    """A tree without splits."""
    one = np.zeros(1, dtype=np.int64)
    beta = None if alpha is None else np.zeros(0, dtype=np.float32)
    return Tree(rows, intervals, one.astype(np.uint8), one, one, np.zeros(1), alpha, beta)


def write_proof(proof: Proof) -> bytes:
    """The bytes of a proof's file."""
    arrays: list[tuple[str, np.ndarray]] = []

    def put(name: str, array: np.ndarray | None) -> None:
        if array is not None:
            arrays.append((name, _integers(array) if array.dtype == np.int64 else array))

    limits, places = np.unique(np.concatenate([proof.lower, proof.upper]), return_inverse=True)
    put("limits", limits)
    put("box", places.reshape(2, -1).astype(np.int64))
    for name in ("rows", "offsets", "groups"):
        put(name, getattr(proof, name))
    for n, columns in enumerate(proof.columns):
        put(f"columns {n}", columns)
    for n, lemma in enumerate(proof.lemmas):
        for name in ("places", "lower", "upper", "alpha"):
            put(f"lemma {n} {name}", getattr(lemma, name))
    for n, tree in enumerate(proof.trees):
        for name in ("rows", "kind", "value", "number", "at", "alpha", "beta"):
            put(f"tree {n} {name}", getattr(tree, name))
    header = {
        "about": proof.about,
        "values": list(proof.values),
        "lemmas": [lemma.value for lemma in proof.lemmas],
        "trees": [[bool(tree.intervals), bool(tree.any_row)] for tree in proof.trees],
        "arrays": [[name, _little(a).dtype.str.replace("|", "<"), a.shape] for name, a in arrays],
    }
    parts = [json.dumps(header, separators=(",", ":")).encode(), b"\n"]
    parts += [_little(array).tobytes() for _, array in arrays]
    return MAGIC + zlib.compress(b"".join(parts), 9)


def _integers(values: Places) -> np.ndarray:
    most = int(values.max(initial=0))
    return values.astype(np.uint8 if most < 1 << 8 else np.uint16 if most < 1 << 16 else np.uint32)


def _little(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))

"""Reads the results file that α,β-CROWN rewrites after each instance, without executing it.

A pickle of ``{'summary': …, 'results': [[status, seconds], …], 'bab_ret': [[place, bound, domains,
seconds], …]}``. Bounds may be tensors; they are float32 and no evidence, so they are not rebuilt.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verify_pipeline.data.pickles import read_pickle
from verify_pipeline.errors import DataError

LARGEST_FILE = 256 << 20
"""Bytes; 100,000 instances take 20 MB."""


class _Opaque:
    """Placeholder for an object that is not reconstructed."""

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_ALLOWED: Mapping[tuple[str, str], object] = {
    ("collections", "defaultdict"): defaultdict,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "list"): list,
    ("__builtin__", "list"): list,
    **dict.fromkeys(
        (
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch.storage", "_load_from_bytes"),
            ("torch", "device"),
            ("torch", "Size"),
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "scalar"),
            ("numpy._core.multiarray", "_reconstruct"),
        ),
        _Opaque,
    ),
}


@dataclass(frozen=True)
class Row:
    """The tool's result for one instance.

    Attributes:
        status: its words.
        seconds: that it says it took.
        domains: that it visited; None where it did not branch.
    """

    status: str
    seconds: float
    domains: int | None = None


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a results file, in the order of the instances that were run.

    Raises:
        DataError: it cannot be read, is no whole pickle, names anything but plain data, tensors and
            numbers, or has another form.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(
                f"results file {path}", expected="less than 256 MiB", got="a larger file"
            )
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"results file {path}", expected="a file", got=error.strerror or str(error)
        ) from None
    held = read_pickle(path, content, _ALLOWED)
    if not isinstance(held, dict) or not isinstance(held.get("results"), list):
        raise DataError(f"results file {path}", expected="a list 'results'", got="none")
    domains = _domains(held.get("bab_ret"))
    return tuple(
        _row(path, place, entry, domains.get(place)) for place, entry in enumerate(held["results"])
    )


def _row(path: Path, place: int, entry: Any, domains: int | None) -> Row:
    match entry:
        case [str(status), int() | float() as seconds] if math.isfinite(seconds):
            return Row(status, float(seconds), domains)
    raise DataError(
        f"results file {path}, instance {place}",
        expected="a status and seconds",
        got=type(entry).__name__,
    )


def _domains(entries: Any) -> dict[int, int]:
    """Domains by place; whatever has another form says nothing."""
    found: dict[int, int] = {}
    for entry in entries if isinstance(entries, list) else []:
        match entry:
            case [int(place), _, int(domains), *_]:
                found[place] = domains
    return found

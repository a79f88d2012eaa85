"""VNN-LIB 1.0 files of our own instances, in the form that every VNN-COMP tool reads."""

from __future__ import annotations

from pathlib import Path

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import DataError
from verify_pipeline.problem import Box, Specification


def write_vnnlib(box: Box, spec: Specification, path: Path) -> Path:
    """Write the property whose counterexamples break a specification over a box.

    Args:
        box: one, ``1 x *X``.
        spec: one, ``1 x S x K``.
        path: of the file.

    Returns:
        ``path``.

    Raises:
        DataError: a row of the specification is zero, or the file cannot be written.
    """
    return write_whole(path, vnnlib_text(box, spec))


def vnnlib_text(box: Box, spec: Specification) -> str:
    """The file's text; the same for the same box and specification, and every number exact.

    Margins ``f_y - f_j`` become ``(>= Y_j Y_y)``, as in VNN-COMP's files; other rows become
    linear terms, which not every tool reads.

    Raises:
        DataError: a row of the specification is zero.
    """
    if len(box) != 1 or len(spec) != 1:
        raise ValueError(f"one box and one specification, not {len(box)} and {len(spec)}")
    lower, upper = (side.detach().flatten().tolist() for side in (box.lower, box.upper))
    rows, offsets = spec.rows[0].tolist(), spec.offsets[0].tolist()
    lines = [f"(declare-const X_{i} Real)" for i in range(len(lower))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(len(rows[0]))]
    for i, (low, high) in enumerate(zip(lower, upper, strict=True)):
        lines += [f"(assert (>= X_{i} {low!r}))", f"(assert (<= X_{i} {high!r}))"]
    broken = [f"    (and {_not_positive(*one)})" for one in zip(rows, offsets, strict=True)]
    return "\n".join([*lines, "(assert (or", *broken, "))", ""])


def _not_positive(row: list[float], offset: float) -> str:
    """The constraint ``c f + d <= 0``."""
    terms = {j: value for j, value in enumerate(row) if value != 0}
    if not terms:
        raise DataError("specification", expected="rows with a coefficient", got="a row of zeros")
    if offset == 0 and sorted(terms.values()) == [-1, 1]:
        (right,) = (j for j, value in terms.items() if value == 1)
        (other,) = (j for j, value in terms.items() if value == -1)
        return f"(>= Y_{other} Y_{right})"
    parts = [f"Y_{j}" if value == 1 else f"(* {value!r} Y_{j})" for j, value in terms.items()]
    left = parts[0] if len(parts) == 1 else f"(+ {' '.join(parts)})"
    return f"(<= {left} {0.0 - offset!r})"

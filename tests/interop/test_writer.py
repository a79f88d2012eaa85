"""VNN-LIB files that are written read back as what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verify_pipeline.errors import DataError
from verify_pipeline.interop.vnnlib import parse_vnnlib, read_vnnlib
from verify_pipeline.interop.writer import vnnlib_text, write_vnnlib
from verify_pipeline.problem import Box, Specification

finite = st.floats(allow_nan=False, allow_infinity=False)
interval = st.tuples(finite, finite).map(sorted)
row = st.lists(finite, min_size=3, max_size=3).filter(any)


def box_of(limits: list[list[float]]) -> Box:
    lower, upper = torch.tensor(limits, dtype=torch.float64).T
    return Box(lower.unsqueeze(0), upper.unsqueeze(0))


def test_margins_as_vnncomp_writes_them(tmp_path: Path) -> None:
    spec = Specification.margins(torch.tensor([1]), 3, torch.float64)
    path = write_vnnlib(box_of([[-0.5, 1e-7]]), spec, tmp_path / "a.vnnlib")
    assert path.read_text() == (
        "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
        "(declare-const Y_2 Real)\n(assert (>= X_0 -0.5))\n(assert (<= X_0 1e-07))\n"
        "(assert (or\n    (and (>= Y_0 Y_1))\n    (and (>= Y_2 Y_1))\n))\n"
    )
    (case,) = read_vnnlib(path).cases
    back = torch.stack([one.rows for one in case.denials], dim=1)
    assert torch.equal(back, spec.rows)


@given(st.lists(interval, min_size=1, max_size=5), st.lists(st.tuples(row, finite), min_size=1))
def test_any_specification_reads_back(
    limits: list[list[float]], rows: list[tuple[list[float], float]]
) -> None:
    box = box_of(limits)
    spec = Specification(
        torch.tensor([[one for one, _ in rows]], dtype=torch.float64),
        torch.tensor([[offset for _, offset in rows]], dtype=torch.float64),
    )
    text = vnnlib_text(box, spec)
    assert text == vnnlib_text(box, spec)
    (case,) = parse_vnnlib(text).cases
    assert torch.equal(case.lower, box.lower[0])
    assert torch.equal(case.upper, box.upper[0])
    assert torch.equal(torch.stack([one.rows for one in case.denials], dim=1), spec.rows)
    assert torch.equal(torch.stack([one.offsets for one in case.denials], dim=1), spec.offsets)


def test_float32_images_are_written_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    box = Box.around(torch.rand(1, 1, 4, 4, generator=generator), 0.1)
    spec = Specification.margins(torch.tensor([0]), 2)
    (case,) = parse_vnnlib(vnnlib_text(box, spec)).cases
    assert torch.equal(case.box((1, 4, 4)).lower, box.lower.double())
    assert torch.equal(case.box((1, 4, 4)).upper, box.upper.double())


def test_a_row_of_zeros_is_refused() -> None:
    spec = Specification(torch.zeros(1, 1, 2), torch.ones(1, 1))
    with pytest.raises(DataError, match="coefficient"):
        vnnlib_text(box_of([[0, 1]]), spec)

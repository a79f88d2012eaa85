"""`certify --arithmetic` as it is typed, and the row of a table that shows both runs."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.typed import command, write_network

BOXES = ("--lower", "lower.npy", "--upper", "upper.npy", "--labels", "labels.npy")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier of 2 pixels, two boxes, and their classes."""
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path / "net.onnx", np.asarray([[1.0, -1.0], [-1.0, 1.0]], np.float32))
    # in the second box, the margin is as small as its rounding
    centers = np.asarray([[0.75, 0.25], [0.5, 0.5 - 2.0**-24]])
    np.save("lower.npy", centers - 2.0**-30)
    np.save("upper.npy", centers + 2.0**-30)
    np.save("labels.npy", np.asarray([0, 0]))
    return tmp_path


def test_a_table_shows_both_runs_in_one_row(folder: Path) -> None:
    for options in ((), ("--arithmetic", "float32")):
        code, out, err = command("certify", "net.onnx", *BOXES, *options, "--ledger", "l.sqlite")
        assert (code, err.count("Traceback")) == (0, 0), (out, err)
    code, out, _ = command("table", "l.sqlite", "--format", "csv")
    assert code == 0
    header, *rows = out.strip().splitlines()
    (row,) = rows
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert (cells["verified"], cells["as_deployed"]) == ("100.0", "50.0")
    code, out, _ = command("show", "l.sqlite", "--image", "1", "--run", "2")
    assert code == 0
    assert "every evaluation in float32" in out
    assert "unknown (rounding)" in out


def test_an_arithmetic_that_is_not_known_is_told(folder: Path) -> None:
    code, _, err = command("certify", "net.onnx", *BOXES, "--arithmetic", "float8")
    assert code == 2
    assert "arithmetic" in err
    assert "bfloat16" in err

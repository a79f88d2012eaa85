"""The demo, as `make demo` runs it: real images, the whole way, in well under a minute."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from verify_pipeline import reports
from verify_pipeline.cli.app import app
from verify_pipeline.problem import Reason, Status
from verify_pipeline.run_folders import LEDGER

pytest.importorskip("sklearn")


def test_the_demo_decides_every_image_and_every_stage_has_its_share(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["images"] == "360"
    assert float(row["standard"]) > 93
    assert float(row["verified"]) > 70
    assert row["verified"] in result.stdout
    (summary,) = reports.read_ledgers([tmp_path / LEDGER])
    assert [record.index for record in summary.records] == list(range(360))
    verified = summary.tally.verified
    assert verified["ibp"] > 0
    assert verified.get("crown", 0) + verified.get("alpha-crown", 0) > 0
    assert verified["branch-and-bound"] > 0
    assert summary.tally.falsified["attack"] > 0
    for record in summary.records:
        if record.status is Status.VERIFIED:
            assert record.bound is not None
            assert record.bound > 0
        elif record.status is Status.FALSIFIED:
            assert record.margin is not None
            assert record.margin <= 0
        else:
            assert record.reason is Reason.TIMEOUT

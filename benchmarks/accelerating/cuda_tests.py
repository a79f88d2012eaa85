"""Part: the tests that run on CUDA where there is one, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from accelerating.job import Job, Record
from accelerating.sizes import Sizes

ROOT = Path(__file__).resolve().parents[2]
MARKS = ("device: torch.device", "torch.cuda.is_available()")
"""What a file of tests holds that has a test for CUDA."""


def cuda_tests(job: Job, record: Record) -> None:
    """One row for each file; what failed, by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-k", "cuda", "-p", "no:cacheprovider"]
        command += ["--continue-on-collection-errors", f"--junitxml={report}"]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            done = subprocess.run(
                [*command, *files(job.sizes)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                capture_output=True,
                text=True,
                timeout=max(1.0, job.left),
            )
        except subprocess.TimeoutExpired:
            record.remark("The tests were not done in their time; nothing is known of them.")
            return
        if not report.is_file():
            record.error = f"pytest ended with {done.returncode}: {done.stderr[-300:]}"
            return
        _count(report, record)


def files(sizes: Sizes) -> list[str]:
    """The files of tests that are run."""
    if sizes.test_files:
        return list(sizes.test_files)
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if any(mark in path.read_text(encoding="utf-8") for mark in MARKS)
    ]
    return [name for name in found if "test_accelerator" not in name]


def _count(report: Path, record: Record) -> None:
    counts: dict[str, dict[str, int]] = {}
    failed = []
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        kind = "passed"
        if kinds & {"failure", "error"}:
            kind = "failed"
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in kinds:
            kind = "skipped"
        place = str(case.get("classname")).removesuffix(str(case.get("name"))) or "collection"
        row = counts.setdefault(place, {"passed": 0, "failed": 0, "skipped": 0})
        row[kind] += 1
    for place, row in counts.items():
        record.row(tests=place, **row)
    total = {kind: sum(row[kind] for row in counts.values()) for kind in ("passed", "failed")}
    record.remark(f"{total['passed']} passed, {total['failed']} failed.")
    for name in failed:
        record.remark(f"Failed: {name}")

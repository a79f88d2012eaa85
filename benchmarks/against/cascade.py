"""Our side of a task: the cascade, by its command line."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from against.answers import WORDS, Given, name_of
from against.tasks import Job
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.errors import DataError
from verify_pipeline.interop.instance_list import read_instances
from verify_pipeline.interop.sets import read_results


def of_images(job: Job, work: Path, log: Path, options: Sequence[str]) -> Iterator[Given]:
    """What ``certify`` says of images.

    Args:
        job: of images.
        work: an empty folder.
        log: gets what the command says.
        options: more of them.

    Raises:
        DataError: the command failed.
    """
    ledger = work / "ledger.sqlite"
    asked = ["certify", job.source, "--data", job.data, "--epsilon", job.epsilon]
    _run([*asked, "--indices", job.indices, "--ledger", str(ledger), *_usual(job), *options], log)
    with Ledger.existing(ledger) as book:
        (info,) = book.runs()
        for record in book.records(info.run):
            searched = re.search(r"(\d+) domains", record.detail)
            domains = 0 if searched is None else int(searched[1])
            yield Given(str(record.index), record.status.value, record.seconds, domains)


def of_list(job: Job, work: Path, log: Path, options: Sequence[str]) -> Iterator[Given]:
    """What ``vnncomp`` says of a list's lines; arguments and errors as above."""
    chosen = job.lines()
    rows, results = work / "instances.csv", work / "results.csv"
    with rows.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            (one.onnx.absolute(), one.vnnlib.absolute(), job.timeout) for one in chosen
        )
    _run(["vnncomp", str(rows), "--out", str(results), *_usual(job), *options], log)
    found = read_results(results)  # in the order in which they fell
    for one, row in zip(chosen, read_instances(rows), strict=True):
        result = found[row.key]
        yield Given(name_of(one), WORDS[result.answer], result.seconds, 0)


def _usual(job: Job) -> list[str]:
    search = ["--search", job.search] if job.search else []
    return ["--timeout", f"{job.timeout:g}", "--device", job.device, *search]


def _run(arguments: list[str], log: Path) -> None:
    command = [sys.executable, "-m", "verify_pipeline", *arguments]
    with log.open("wb") as out:
        status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode
    if status:
        raise DataError(f"verify_pipeline {arguments[0]} failed: exit status {status}; log: {log}")

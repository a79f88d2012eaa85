"""The command line of `benchmarks/ablations.py`."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
from pathlib import Path

from against.tasks import check, read_tasks

from ablating.measuring import Measured, measure_all, measure_pass
from ablating.page import page
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import VerifyPipelineError

TASKS = Path("benchmarks/ablations.yaml")


def main(description: str) -> None:
    """Do what the command line says, and exit: 0 done, 2 a mistake or a failure, 130 stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, too
    try:
        _run(_parser(description).parse_args())
    except VerifyPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("tasks", type=Path, nargs="?", default=TASKS, help="a file of tasks")
    add("--only", nargs="*", default=[], metavar="NAME", help="mechanisms, by their names' begin")
    add("--table", action="store_true", help="only write the page, of what was measured")
    add("--fresh", action="store_true", help="measure what was measured already, too")
    add("--work", type=Path, default=Path("runs/ablations"), help="what was measured")
    add("--out", type=Path, default=Path("docs/ablations.md"), help="the page")
    add("--pass", dest="one", help=argparse.SUPPRESS)
    return parser


def _run(asked: argparse.Namespace) -> None:
    jobs = read_tasks(asked.tasks)
    measured = Measured(asked.work, jobs)
    if asked.one is not None:
        measure_pass(asked.one, measured)
        return
    if asked.fresh:
        shutil.rmtree(asked.work, ignore_errors=True)
    if not asked.table:
        for job in jobs:
            check(job)
        measure_all(asked.tasks, measured, asked.only)
    named = [] if asked.tasks == TASKS else [str(asked.tasks)]
    text = page(measured, shlex.join(["python", "benchmarks/ablations.py", *named]))
    write_whole(asked.out, text)
    print(text)

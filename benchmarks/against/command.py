"""The command line of `benchmarks/against_abcrown.py`."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from against.measured import collect, jobs_in, of_tasks, read_job, record
from against.measuring import measure
from against.page import page
from against.running import forget, installed, run
from against.tasks import COMMAND, ENGINES, EngineName, Job, check, read_tasks
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.config import checked
from verify_pipeline.errors import ConfigError, VerifyPipelineError


def main(description: str) -> None:
    """Do what the command line says, and exit: 0 done, 2 a mistake or a failure, 130 stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, too
    asked = parser(description).parse_args()
    try:
        asked.do(asked)
    except VerifyPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def parser(description: str) -> argparse.ArgumentParser:
    """What the command line may say."""
    whole = argparse.ArgumentParser(description=description)
    shown = argparse.ArgumentDefaultsHelpFormatter
    kinds = whole.add_subparsers(required=True, metavar="{images,list,all,table}")
    places = argparse.ArgumentParser(add_help=False)
    add = places.add_argument
    add("--work", type=Path, default=Path("runs/against_abcrown"), help="what was measured")
    add("--out", type=Path, default=Path("results/against_abcrown.md"), help="the table")
    running = argparse.ArgumentParser(add_help=False, parents=[places])
    add = running.add_argument
    add("--engines", type=_engines, default=",".join(ENGINES), help="of these, with commas")
    add("--fresh", action="store_true", help="measure what was measured already, too")
    task = argparse.ArgumentParser(add_help=False, parents=[running])
    add = task.add_argument
    add("--indices", default=":", help="0:1000, ::4, a list or a count")
    add("--timeout", type=float, default=60.0, help="seconds for each")
    add("--tuned", default="default", help="configuration of abcrown_configs/ for α,β-CROWN")
    add("--search", default="", help="the same for our side; empty: our defaults")
    add("--device", default="cpu", help="cpu or cuda")

    images = kinds.add_parser(
        "images", parents=[task], help="images of a data set", formatter_class=shown
    )
    images.add_argument("source", metavar="NETWORK")
    images.add_argument("--data", default="mnist", help="the set")
    images.add_argument("--epsilon", default="0.1", help="half the box's width")
    images.set_defaults(do=_one)
    lines = kinds.add_parser("list", parents=[task], help="lines of a list", formatter_class=shown)
    lines.add_argument("source", metavar="INSTANCES")
    lines.set_defaults(do=_one, data="", epsilon="")
    everything = kinds.add_parser(
        "all", parents=[running], help="a file's tasks", formatter_class=shown
    )
    everything.add_argument("tasks", type=Path, metavar="TASKS")
    everything.set_defaults(do=_all)
    table = kinds.add_parser(
        "table", parents=[places], help="what is there already", formatter_class=shown
    )
    table.set_defaults(do=_tabulate)
    one = kinds.add_parser("_measure")
    for name, kind in (("job", Path), ("engine", str), ("result", Path), ("run", str)):
        one.add_argument(name, type=kind)
    one.set_defaults(do=lambda a: measure(read_job(a.job), a.engine, a.result, a.run))
    return whole


def _engines(text: str) -> list[EngineName]:
    chosen = [engine for engine in ENGINES if engine in text.split(",")]
    if len(chosen) != len(text.split(",")):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(ENGINES)}; got {text!r}")
    return chosen


def _one(asked: argparse.Namespace) -> None:
    """A task of its own; then the table of everything that is there."""
    names = ("source", "data", "epsilon", "indices", "timeout", "tuned", "search", "device")
    job = checked(Job, {name: getattr(asked, name) for name in names}, "options")
    first = sum(path.is_dir() for path in asked.work.glob("*") if path.name != job.folder)
    failed = _run([job], first, asked)
    _tabulate(asked)
    _complain(failed)


def _all(asked: argparse.Namespace) -> None:
    """The tasks of a file in one run; then their table."""
    jobs = read_tasks(asked.tasks)
    failed = _run(jobs, 0, asked)
    found = collect(asked.work, _recorded(asked))
    command = shlex.join(["python", COMMAND, "all", str(asked.tasks)])
    record(found, _recorded(asked))
    _show(page(of_tasks(found, jobs), [command, *(job.command for job in jobs)]), asked)
    _complain(failed)


def _run(jobs: Sequence[Job], first: int, asked: argparse.Namespace) -> list[str]:
    for job in jobs:
        check(job)
    chosen = installed(asked.engines, _tell)
    if asked.fresh:
        forget(jobs, chosen, asked.work)
    try:
        return run(jobs, first, chosen, asked.work, _tell)
    except KeyboardInterrupt:
        _tell("\nstopped; continue with the same command, without --fresh")
        raise


def _tabulate(asked: argparse.Namespace) -> None:
    """The table of everything that was measured or recorded."""
    found = collect(asked.work, _recorded(asked))
    record(found, _recorded(asked))
    _show(page(found, [job.command for job in jobs_in(asked.work)]), asked)


def _recorded(asked: argparse.Namespace) -> Path:
    out: Path = asked.out
    return out.with_suffix(".json")


def _show(text: str, asked: argparse.Namespace) -> None:
    write_whole(asked.out, text)
    print(text)


def _complain(failed: list[str]) -> None:
    if failed:
        raise ConfigError("\n  ".join(("these failed; their messages stand above", *failed)))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

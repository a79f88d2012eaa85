"""The command line of ``benchmarks/accelerator.py``."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from accelerating.cuda_tests import ROOT
from accelerating.environment import asked
from accelerating.job import Job, Record, first_line
from accelerating.packing import headers, pack
from accelerating.page import page, section
from accelerating.parts import PARTS, limit
from accelerating.sizes import FULL, SMALL
from verify_pipeline import data
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import ConfigError, DependencyError, VerifyPipelineError
from verify_pipeline.training import checkpoint

SCRIPT = ROOT / "benchmarks" / "accelerator.py"
MINUTE = 60.0
SPARE = 4.0
"""Seconds of a part's limit in which it ends by itself, before it is ended."""
SIZES = {"full": FULL, "small": SMALL}


def main(description: str) -> None:
    """Do what the command line says, and exit: 0 done, 2 a mistake or a failure, 130 stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typed = sys.argv[1:]
    actions = {"pack": _pack, "part": _part}
    try:
        if typed and typed[0] in actions:
            actions[typed[0]](typed[1:])
        else:
            _all(typed, description)
    except VerifyPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _pack(typed: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="accelerator.py pack", description="Pack CIFAR-10.")
    add = parser.add_argument
    add("--data-root", type=Path, help="where the data set is looked for")
    add("--out", type=Path, required=True, help="the file")
    add("--train", type=int, default=24_000, help="training images, the set's first")
    add("--test", type=int, default=1_000, help="test images, the set's first")
    given = parser.parse_args(typed)
    for name, count in (("--train", given.train), ("--test", given.test)):
        if count < 1:
            raise ConfigError(name, expected="a number of images, at least 1", got=str(count))
    sets = [
        data.load("cifar10", "train", given.data_root).subset(slice(0, given.train)),
        data.load("cifar10", "test", given.data_root).subset(slice(0, given.test)),
    ]
    size = pack(given.out, sets)
    counts = " and ".join(f"{len(each):,} {each.split}" for each in sets)
    print(f"{given.out}: {counts} images, {size / 2**20:.1f} MiB")


def _options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=Path, required=True, help="the file of packed images")
    add("--out", type=Path, default=Path("results/accelerator"), help="folder of the results")
    add("--work", type=Path, default=Path("runs/accelerator"), help="of checkpoint and network")
    add("--device", default="cuda", help="that is measured")
    add("--sizes", choices=list(SIZES), default="full", help="small: a dry run")


def _all(typed: Sequence[str], description: str) -> None:
    parser = argparse.ArgumentParser(
        prog="accelerator.py",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _options(parser)
    add = parser.add_argument
    add("--minutes", type=float, default=12.0, help="for all parts together")
    add("--parts", nargs="+", choices=list(PARTS), help="only these; default: all")
    add("--continue", dest="going_on", type=Path, metavar="FOLDER", help="of an earlier --work")
    given = parser.parse_args(typed)
    if not given.minutes > 0:
        raise ConfigError("--minutes", expected="a number > 0", got=str(given.minutes))
    _check_device(given.device)
    headers(given.data)
    chosen = [name for name in PARTS if name in (given.parts or PARTS)]
    if given.going_on is not None:
        given.work = given.going_on
        chosen = [name for name in PARTS if name in (given.parts or ["training"])]
        _check_checkpoint(given.work / "training")
    command = shlex.join(["python", "benchmarks/accelerator.py", *typed])
    failed = run_parts(given, chosen, command)
    print(f"{given.out / 'report.md'} is written.", flush=True)
    if failed:
        print(f"error: parts that failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(2)


def run_parts(given: argparse.Namespace, chosen: list[str], command: str) -> list[str]:
    """Run the parts one after the other, each as a process; names of those that failed.

    An error of CUDA ends nothing but its own part. The page is written after each one; it has the
    parts of earlier calls, too.
    """
    ends = time.monotonic() + MINUTE * given.minutes
    commit = _commit()
    failed = []
    for name in chosen:
        path = given.out / f"{name}.json"
        seconds = limit(name, chosen, max(0.0, ends - time.monotonic()))
        record = _run_part(name, path, seconds, given)
        if record.error:
            failed.append(name)
        print("\n".join(section(name, record)), end="\n\n", flush=True)
        files = {each: given.out / f"{each}.json" for each in PARTS}
        records = {each: Record.read(file) for each, file in files.items() if file.is_file()}
        write_whole(given.out / "report.md", page(command, commit, records))
    return failed


def _run_part(name: str, path: Path, seconds: float, given: argparse.Namespace) -> Record:
    Record(path).keep()  # what an earlier call found is not this one's
    # the clock is the machine's: it says the same in the part's process
    ends = time.monotonic() + seconds
    typed = [sys.executable, str(SCRIPT), "part", "--name", name, "--ends", str(ends)]
    for option in ("data", "out", "work", "device", "sizes"):
        typed += [f"--{option}", str(getattr(given, option))]
    started = time.monotonic()
    problem = ""
    with subprocess.Popen(typed) as process:
        try:
            code = process.wait(timeout=seconds)
            problem = f"the process ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            problem = f"not done after {seconds:.0f} s; rows so far are kept"
            process.kill()
        except BaseException:
            process.kill()
            raise
    record = Record.read(path)
    record.seconds = time.monotonic() - started
    record.error = record.error or problem
    record.keep()
    return record


def _part(typed: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="accelerator.py part")
    _options(parser)
    parser.add_argument("--name", choices=list(PARTS), required=True)
    parser.add_argument("--ends", type=float, required=True)
    given = parser.parse_args(typed)
    ends = given.ends - SPARE
    job = Job(torch.device(given.device), SIZES[given.sizes], given.data, given.work, ends)
    record = Record(given.out / f"{given.name}.json")
    try:
        PARTS[given.name].run(job, record)
    except Exception as error:  # the parent tells it, and runs the next part
        record.error = first_line(error)
    record.keep()


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError("--device", expected="cuda or cpu", got=name) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DependencyError(
            "CUDA",
            expected="a torch that sees a CUDA device",
            got=f"torch {torch.__version__} in {sys.executable}, built for CUDA "
            f"{torch.version.cuda}; nvidia-smi: {asked('name')}",
            remedy="Run it with the Python whose torch has CUDA, or dry-run it: --device cpu "
            "--sizes small.",
        )


def _check_checkpoint(folder: Path) -> None:
    if checkpoint.read_progress(folder) is None:
        raise ConfigError(
            f"--continue: {folder}",
            expected="a checkpoint of the part training",
            got="none",
            remedy="Give the --work folder of an earlier call.",
        )


def _commit() -> str:
    typed = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(typed, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"

"""How long 1 to 64 workers take for many images, simulated from the seconds in a ledger.

    python benchmarks/workers_simulated.py --ledger LEDGER [--images 10000] [--start 5] …

Images are drawn from the ledger's, and are handed out as `certify --jobs N` hands them out: the
same functions as those of `certify --dry-run`. Each worker is a process like the one that wrote the
ledger, on a machine of its own.

With --measured N=SECONDS, or --measured FILE for the CSV file of benchmarks/workers.py, the
ledger's own images are simulated, too, beside the seconds that whole commands took for them. The
command's start comes before that of its workers then, and shards are merged. Writes OUT.md and
OUT.csv.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from verify_pipeline.atomic_write import write_all
from verify_pipeline.certify.job_plan import LEAST_SAMPLE
from verify_pipeline.certify.simulated_workers import finish, finish_of_shards
from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError, LedgerError, VerifyPipelineError
from verify_pipeline.planning.certification import WORKERS
from verify_pipeline.planning.estimates import Cost, workers_estimates
from verify_pipeline.reports import read_ledgers

ROOT = Path(__file__).resolve().parents[1]
HOUR = 3600.0


def costs_of(ledger: Path) -> tuple[Summary, list[float]]:
    """The seconds of each image of the ledger's run, in order.

    Raises:
        LedgerError: several runs, or one that says nothing of other images.
    """
    found, name = read_ledgers([ledger]), f"ledger {ledger}"
    if len(found) != 1:
        raise LedgerError(name, expected="one run", got=str(len(found)))
    (summary,) = found
    if not summary.complete:
        raise LedgerError(
            name,
            expected="a finished run",
            got="one with images left",
            remedy="Easy images get their verdicts first: finish it with the same command.",
        )
    if len(summary.records) < LEAST_SAMPLE:
        got = str(len(summary.records))
        raise LedgerError(name, expected=f"at least {LEAST_SAMPLE} images", got=got)
    return summary, [record.seconds for record in summary.records]


def simulated(costs: Sequence[float], images: int, start: float) -> pd.DataFrame:
    """A row for each number of workers."""
    exact = [Cost(each, each) for each in costs]
    rows = [
        {
            "workers": each.workers,
            "hours_low": each.seconds.low / HOUR,
            "hours_high": (each.seconds.high or 0.0) / HOUR,
            "efficiency": each.efficiency,
            "limit": each.limit,
        }
        for each in workers_estimates(exact, max(images, len(costs)), WORKERS, start)
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Way:
    """A way to certify that was measured.

    Attributes:
        name: such as ``--jobs 2``.
        workers: how many certify.
        seconds: of the whole command.
    """

    name: str
    workers: int
    seconds: float


def measured_ways(words: Sequence[str]) -> Iterator[list[Way]]:
    """The ways that were measured together: all that were typed, then those of each file."""
    typed = [word.split("=") for word in words if "=" in word]
    yield [
        Way("one process" if count == "1" else f"--jobs {count}", int(count), float(seconds))
        for count, seconds in typed
    ]
    for word in words:
        if "=" not in word:
            rows = pd.read_csv(word)[["way", "seconds"]].itertuples(index=False)
            yield [way for name, took in rows for way in _way_of(name, took)]


def _measured(words: Sequence[str]) -> list[list[Way]]:
    """:func:`measured_ways`, with this package's error for what cannot be read."""
    try:
        return list(measured_ways(words))
    except (ValueError, KeyError, OSError) as error:
        expected = "N=SECONDS or the CSV file of workers.py"
        raise ConfigError("--measured", expected=expected, got=str(error)) from error


def _way_of(name: str, seconds: float) -> Iterator[Way]:
    """The way of that name in the table of benchmarks/workers.py; none where threads differ."""
    several = re.fullmatch(r"--jobs (\d+)|(\d+) shards, merged", name)
    if several or name == "one process, one thread":
        yield Way(name, int(several[1] or several[2]) if several else 1, seconds)


def predicted(costs: Sequence[float], way: Way, start: float) -> float:
    """Seconds of a whole command: its start, then its workers'; shards are merged by another."""
    if way.workers == 1:
        return finish(costs, 1, start).seconds
    if "shards" in way.name:
        return finish_of_shards(costs, way.workers, start).seconds + start
    return start + finish(costs, way.workers, start).seconds


def compared(costs: Sequence[float], ways: Sequence[Way], start: float) -> pd.DataFrame:
    """A row for each way: prediction beside measurement.

    If one process was measured, too, all costs are multiplied so that it takes what was measured:
    a machine may have been slower when it wrote the ledger.
    """
    alone = next((way.seconds for way in ways if way.workers == 1), None)
    factor = 1.0 if alone is None else max(0.0, alone - start) / sum(costs)
    scaled = [cost * factor for cost in costs]
    rows = [(way.name, predicted(scaled, way, start), way.seconds) for way in ways]
    frame = pd.DataFrame(rows, columns=["way", "predicted", "measured"])
    return frame.assign(ratio=frame["predicted"] / frame["measured"])


def markdown(summary: Summary, frame: pd.DataFrame, beside: pd.DataFrame, command: str) -> str:
    """Both tables as a document."""
    costs = [record.seconds for record in summary.records]
    run = summary.info.run
    lines = [
        f"<!-- Generated by {command} -->",
        f"`{command}`: {summary.info.network_name}, {run.data_set} {run.split}, "
        f"{run.perturbation}; {len(costs):,} images in the ledger, {sum(costs) / len(costs):.3g} s "
        f"an image, the longest {max(costs):.3g} s. Ranges have 95 % of the sets that were drawn.",
        "",
        "| workers | hours | efficiency | limited by |",
        "|---:|---:|---:|---|",
        *(
            f"| {row.workers} | {row.hours_low:.3g} to {row.hours_high:.3g} "
            f"| {row.efficiency:.0%} | {row.limit} |"
            for row in frame.itertuples()
        ),
        "",
    ]
    if len(beside):
        lines += [
            f"The ledger's own {len(costs):,} images; where one process was measured, costs are "
            "multiplied so that it takes what was measured:",
            "",
            "| certified by | predicted s | measured s | predicted / measured |",
            "|---|---:|---:|---:|",
            *(
                f"| {row.way} | {row.predicted:.1f} | {row.measured:.1f} | {row.ratio:.2f} |"
                for row in beside.itertuples()
            ),
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--ledger", type=Path, required=True, help="of a finished certification by one process")
    add("--images", type=int, default=10_000)
    add("--start", type=float, default=5.0, help="seconds until a worker takes images")
    add("--measured", action="append", default=[], metavar="N=SECONDS|CSV")
    add("--out", type=Path, default=ROOT / "results" / "workers-simulated")
    asked = parser.parse_args()
    command = shlex.join(["python", "benchmarks/workers_simulated.py", *sys.argv[1:]])
    try:
        if asked.images < 1:
            raise ConfigError("--images", expected="at least 1", got=str(asked.images))
        if not 0 <= asked.start < math.inf:
            raise ConfigError("--start", expected="seconds from 0", got=str(asked.start))
        summary, costs = costs_of(asked.ledger)
        measured = _measured(asked.measured)
    except VerifyPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    frame = simulated(costs, asked.images, asked.start)
    beside = pd.concat(compared(costs, ways, asked.start) for ways in measured)
    text = frame.assign(generated_by=command).to_csv(index=False, lineterminator="\n")
    told = markdown(summary, frame, beside, command)
    write_all({asked.out.with_suffix(".md"): told, asked.out.with_suffix(".csv"): text})
    print(told)


if __name__ == "__main__":
    main()

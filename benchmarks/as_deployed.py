"""Images verified for real numbers and as deployed, with the errors of the file's evaluation.

    python benchmarks/as_deployed.py NETWORK… --data mnist --epsilon 0.1 --indices 0:1000
        [--arithmetic float32] [--timeout 20] [--ledger runs/as-deployed.sqlite]
        [--out results/as-deployed]

Each network is certified twice, with the same settings: once with ``--arithmetic``. The ledger is
continued, so that several commands may write one table, of all runs that the ledger holds.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from verify_pipeline import data, pipeline
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify import CertifySettings, Ledger
from verify_pipeline.certify.tally import Summary, summaries
from verify_pipeline.problem import Reason, Status
from verify_pipeline.reporting.as_deployed import paired
from verify_pipeline.reporting.facts import epsilon_text

CHEAP = ("ibp", "crown")

COLUMNS = (
    *("network", "data", "ε", "arithmetic", "images", "verified %", "as deployed %"),
    *("median e", "greatest e", "lost", "seconds an image", "… as deployed"),
)


def certify(options: argparse.Namespace, ledger: Path) -> None:
    """Both runs of each network."""
    settings = CertifySettings(
        epsilon=options.epsilon, indices=options.indices, timeout=options.timeout
    )
    images = data.load(options.data, "test")
    for network in options.networks:
        for arithmetic in (None, options.arithmetic):
            asked = replace(settings, arithmetic=arithmetic)
            pipeline.certify(network, images, asked, ledger=ledger, progress=True)


def row(run: Summary) -> tuple[str, ...]:
    """A line of the table: a run about real numbers, and that beside it."""
    other = run.deployed
    assert other is not None
    proved = {one.index: one for one in run.records if one.status is Status.VERIFIED}
    kept = {one.index: one for one in other.records if one.status is Status.VERIFIED}
    # a stage without a search bounds the harder specification by as much less as the errors are
    errors = [
        proved[index].bound - kept[index].bound
        for index in proved.keys() & kept.keys()
        if proved[index].stage == kept[index].stage and kept[index].stage in CHEAP
    ]
    of_rounding = sum(one.reason is Reason.ROUNDING for one in other.records)
    count = run.tally.images
    return (
        run.info.network_name,
        run.info.run.data_set,
        epsilon_text(run.info.epsilon),
        other.info.arithmetic,
        str(count),
        f"{100 * run.tally.proved / count:.2f}",
        f"{100 * other.tally.proved / count:.2f}",
        f"{statistics.median(errors):.2g}" if errors else "–",
        f"{max(errors):.2g}" if errors else "–",
        f"{len(proved.keys() - kept.keys())} ({of_rounding} by rounding)",
        f"{run.tally.seconds / count:.3f}",
        f"{other.tally.seconds / count:.3f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epsilon", default="0.1")
    parser.add_argument("--indices", default="0:1000")
    parser.add_argument("--arithmetic", default="float32")
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--ledger", type=Path, default=Path("runs/as-deployed.sqlite"))
    parser.add_argument("--out", type=Path, default=Path("results/as-deployed"))
    options = parser.parse_args()
    options.ledger.parent.mkdir(parents=True, exist_ok=True)
    certify(options, options.ledger)
    with Ledger.open(options.ledger) as ledger:
        runs = [run for run in paired(summaries(ledger)) if run.deployed is not None]
    command = f"python benchmarks/as_deployed.py {shlex.join(sys.argv[1:])}"
    lines = [
        f"<!-- The last command that wrote this table: {command} -->",
        "# Verified for real numbers, and as deployed",
        "",
        "*e* is what the errors of the evaluation take from an image's least margin, of images",
        "that interval bounds or CROWN verify in both runs. *Lost* are images that are verified",
        "for real numbers, not as deployed. [docs/soundness.md](../docs/soundness.md) explains e.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row(run)) + " |" for run in runs),
        "",
        f"The last command: `{command}`.",
        "",
    ]
    path = options.out.with_suffix(".md")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join(lines))
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

"""Verdicts for real numbers and as deployed, with the errors of the file's evaluation.

    python benchmarks/as_deployed.py [NETWORK…] --data mnist --epsilon 0.1 --indices 0:1000
        [--vnncomp DATA/vnncomp --sets acasxu mnist_fc cifar10_resnet --properties 10]
        [--half float16] [--arithmetic float32] [--timeout 20] [--ledger runs/as-deployed.sqlite]
        [--out results/as-deployed]

Each network is certified twice, with the same settings: once with ``--arithmetic``. With
``--half``, float32 files are converted to a half precision first, weights, inputs and outputs. Of a
VNN-COMP set, instances are decided until so many are unsat, then these with ``--arithmetic``. The
ledger and the files beside it are continued. Rows of the table that another command wrote stay in
it, unless this one has the same network, data, ε and arithmetic.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from half_precision import NAMES, halved
from property_sets import SETS, unsat_instances

from verify_pipeline import data, pipeline
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.bounds.types import always
from verify_pipeline.certify import CertifySettings, Ledger
from verify_pipeline.certify.evaluation_errors import EvaluationErrors
from verify_pipeline.certify.tally import Summary, summaries
from verify_pipeline.interop.decide import property_plan
from verify_pipeline.interop.instance_list import Answer, SetInstance
from verify_pipeline.interop.sets import SetJob, run_set
from verify_pipeline.interop.text_files import read_network
from verify_pipeline.interop.vnnlib import read_vnnlib
from verify_pipeline.network.arithmetic import ARITHMETICS, Arithmetic
from verify_pipeline.problem import Reason, Specification, Status
from verify_pipeline.reporting.as_deployed import paired
from verify_pipeline.reporting.facts import epsilon_text

REAL = "real.csv"
ROW = "row.json"

CHEAP = ("ibp", "crown")

KEY = 4
"""Columns that tell a row from others: network, data, ε, arithmetic."""

COLUMNS = (
    *("network", "data", "ε", "arithmetic", "instances", "verified %", "as deployed %"),
    *("median e", "greatest e", "lost", "seconds each", "… as deployed"),
)


def certify(options: argparse.Namespace, ledger: Path) -> None:
    """Both runs of each network."""
    settings = CertifySettings(
        epsilon=options.epsilon, indices=options.indices, timeout=options.timeout
    )
    images = data.load(options.data, "test")
    for network in options.networks:
        if options.half:
            network = halved(network, options.half, ledger.with_suffix(""))
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


def decide_set(name: str, options: argparse.Namespace, folder: Path) -> None:
    """Both runs of some unsat instances of a set; the row of the table goes into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = options.vnncomp / SETS[name]
    job = SetJob(folder / REAL, None, property_plan, options.timeout)
    _, unsat, real = unsat_instances(listed, options.properties, job)
    chosen = ARITHMETICS[options.arithmetic]
    deployed = SetJob(
        folder / f"{chosen.name}.csv",
        None,
        partial(property_plan, arithmetic=chosen.name),
        options.timeout,
    )
    found = run_set(unsat, deployed)
    kept = [one for one in unsat if found[one.key].answer is Answer.UNSAT]
    errors = [error_of(instance, chosen) for instance in kept]
    cells = (
        name,
        f"VNN-COMP {Path(SETS[name]).parts[0]}",
        "",
        chosen.name,
        f"{len(unsat)} unsat",
        "100.00",
        f"{100 * len(kept) / len(unsat):.2f}",
        f"{statistics.median(errors):.2g}" if errors else "–",
        f"{max(errors):.2g}" if errors else "–",
        str(len(unsat) - len(kept)),
        f"{sum(real[one.key].seconds for one in unsat) / len(unsat):.3f}",
        f"{sum(found[one.key].seconds for one in unsat) / len(unsat):.3f}",
    )
    write_whole(folder / ROW, json.dumps(cells))


def error_of(instance: SetInstance, arithmetic: Arithmetic) -> float:
    """The greatest e of a row over the boxes of a property."""
    network = read_network(instance.onnx, check_parity=False)
    errors = EvaluationErrors.of(network.written, arithmetic, None)
    most = 0.0
    for case in read_vnnlib(instance.vnnlib).cases:
        rows = torch.cat([one.rows for one in case.denials]).unsqueeze(0)
        offsets = torch.cat([one.offsets for one in case.denials]).unsqueeze(0)
        box = case.box(network.graph.input_shape, network.input_dtype)
        spec = Specification(rows, offsets)
        found = errors.sharpened(box, spec, errors.of_rows(box, spec), always)
        most = max(most, float(found.max()))
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", type=Path)
    parser.add_argument("--vnncomp", type=Path, help="folder of VNN-COMP's sets")
    parser.add_argument("--sets", nargs="*", choices=sorted(SETS), default=[])
    parser.add_argument("--properties", type=int, default=10, help="unsat ones of each set")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epsilon", default="0.1")
    parser.add_argument("--indices", default="0:1000")
    parser.add_argument("--half", choices=NAMES, help="converts the networks first")
    parser.add_argument("--arithmetic", choices=sorted(ARITHMETICS), default="float32")
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--ledger", type=Path, default=Path("runs/as-deployed.sqlite"))
    parser.add_argument("--out", type=Path, default=Path("results/as-deployed"))
    options = parser.parse_args()
    options.ledger.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.networks:
        certify(options, options.ledger)
    folder = options.ledger.with_suffix("")
    for name in options.sets:
        decide_set(name, options, folder / name)
    with Ledger.open(options.ledger) as ledger:
        runs = [run for run in paired(summaries(ledger)) if run.deployed is not None]
    rows = [row(run) for run in runs]
    rows += [json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{ROW}"))]
    path = options.out.with_suffix(".md")
    rows = merged(rows, path.read_text(encoding="utf-8") if path.exists() else "")
    command = f"python benchmarks/as_deployed.py {shlex.join(map(shown, sys.argv[1:]))}"
    lines = [
        f"<!-- The last command that wrote this table: {command} -->",
        "# Verified for real numbers, and as deployed",
        "",
        "*e* is what the errors of the evaluation take from an image's least margin, of images",
        "that interval bounds or CROWN verify in both runs; of properties, the greatest of a row.",
        "*Lost* are verified for real numbers, not as deployed. Of VNN-COMP's sets, the instances",
        "are unsat for real numbers. [docs/soundness.md](../docs/soundness.md) explains e.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(cells) + " |" for cells in rows),
        "",
        f"The last command: `{command}`.",
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join(lines))
    print(path.read_text(encoding="utf-8"))


def merged(rows: Sequence[Sequence[str]], page: str) -> list[Sequence[str]]:
    """Rows of a page, those with the key of a new row replaced, then other new ones."""
    new = {tuple(cells[:KEY]): cells for cells in rows}
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    old = {tuple(cells[:KEY]): cells for cells in found if len(cells) == len(COLUMNS)}
    return [*({**old, **new}.values())]


def shown(word: str) -> str:
    """An argument as the page shows it: without the places of this machine."""
    return f"…/{Path(word).name}" if word.startswith("/") else word


if __name__ == "__main__":
    main()

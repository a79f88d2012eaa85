"""The commands that decide VNN-LIB properties."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.cli.options import ArithmeticOption, Device, GiveUp, Parity, Search
from verify_pipeline.cli.proofs import ProofOptions
from verify_pipeline.cli.workers import WorkerOptions

if TYPE_CHECKING:
    from verify_pipeline.certify.settings import Plan
    from verify_pipeline.interop.instance_list import SetInstance
    from verify_pipeline.interop.sets import Comparison


def vnnlib(
    onnx: Annotated[
        Path, typer.Option(help="ONNX file of the network.", rich_help_panel=panels.QUESTION)
    ],
    prop: Annotated[
        Path,
        typer.Option(
            "--property",
            help="VNN-LIB file, 1.0 or 2.0, gzip or not.",
            rich_help_panel=panels.QUESTION,
        ),
    ],
    timeout: Annotated[
        float, typer.Option(help="Seconds, once the files are read.", rich_help_panel=panels.SEARCH)
    ] = 300.0,
    counterexample: Annotated[
        Path | None,
        typer.Option(
            help="Where a counterexample goes, in VNN-COMP's form. Default: "
            "NETWORK_PROPERTY.counterexample in this folder.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
    search: Search = None,
    arithmetic: ArithmeticOption = None,
    parity_check: Parity = True,
    device: Device = "auto",
) -> None:
    """Decide a VNN-LIB property of a network: prints sat, unsat, timeout or unknown.

    sat: onnxruntime confirmed a counterexample, which is written to a file. unsat: float64 bounds
    prove that there is none; with --arithmetic, for every evaluation of the file in it.
    """
    from verify_pipeline.cli.arguments import named, tell_ignored
    from verify_pipeline.conversions import choose_device
    from verify_pipeline.interop.counterexamples import write_counterexample
    from verify_pipeline.interop.decide import decide, property_plan
    from verify_pipeline.interop.sets import counterexample_name
    from verify_pipeline.interop.text_files import read_network
    from verify_pipeline.interop.vnnlib import read_vnnlib

    place_of_it = counterexample or Path(counterexample_name(onnx, prop))
    named("--counterexample", place_of_it)
    where = choose_device(device)
    plan = property_plan(
        timeout, search, arithmetic=arithmetic
    )  # reports its mistakes before anything is read
    tell_ignored(plan, search)
    asked, network = read_vnnlib(prop), read_network(onnx, parity_check)
    (found,) = decide(network, [asked], plan, device=where)
    if found.point is not None and found.output is not None:
        written = write_counterexample(place_of_it, found.point, found.output)
        typer.echo(f"counterexample: {written}", err=True)
    if found.detail:
        typer.echo(found.detail, err=True)
    typer.echo(found.answer.value)


@dataclass(frozen=True)
class PropertySearchOptions:
    """Options about the search of a set, its time and its device, as typed."""

    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds for each instance. Default: as the list says.",
            rich_help_panel=panels.SEARCH,
        ),
    ] = None
    search: Search = None
    give_up: GiveUp = None
    retry: Annotated[
        bool,
        typer.Option(
            "--retry",
            help="Try instances again whose result is timeout or unknown; see --timeout.",
            rich_help_panel=panels.SEARCH,
        ),
    ] = False
    arithmetic: ArithmeticOption = None
    parity_check: Parity = True
    device: Device = "auto"


@grouped
def vnncomp(
    instances: Annotated[
        Path, typer.Argument(help="A set's instances.csv: lines onnx,vnnlib,timeout.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Results file (CSV); continued where it is there.", rich_help_panel=panels.OUTPUT
        ),
    ],
    tried: PropertySearchOptions,
    by: WorkerOptions,
    proved: ProofOptions,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with columns onnx, vnnlib and verdict to compare with.",
            rich_help_panel=panels.CHECKS,
        ),
    ] = None,
    counterexamples: Annotated[
        Path | None,
        typer.Option(
            help="Folder for counterexamples. Default: counterexamples beside --out.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="The I-th of N parts of these instances; results go to OUT-I-of-N.csv: see "
            "`vnncomp-merge`.",
            rich_help_panel=panels.QUESTION,
        ),
    ] = None,
) -> None:
    """Decide a whole VNN-COMP set: one result for each instance, counterexamples as files.

    Each network is read once, and its properties are decided in batches; with --jobs or --cluster,
    each worker decides one property at a time. If it is interrupted, the same command continues.
    With --proofs, each property that is unsat gets a proof for `check-proofs`, made by one process.
    With --arithmetic, unsat holds for every evaluation of the file in it: see `vnncomp-table`.
    Exits with 2 when a result contradicts the reference.
    """
    from verify_pipeline.atomic_write import check_folder
    from verify_pipeline.certify.shards import Shard
    from verify_pipeline.cli.arguments import named, tell_ignored
    from verify_pipeline.conversions import choose_device
    from verify_pipeline.interop.decide import property_plan
    from verify_pipeline.interop.instance_list import Key, part_of, read_instances, read_reference
    from verify_pipeline.interop.sets import Result, SetJob, compare, run_set

    def tell(key: Key, result: Result) -> None:
        line = f"{key.onnx} {key.vnnlib} {result.answer.value} {result.seconds:.1f}s"
        typer.echo(f"{line} {result.detail}".rstrip(), err=True)

    def plan(seconds: float) -> Plan:
        return property_plan(seconds, tried.search, tried.give_up, tried.arithmetic)

    # report mistakes in these before anything is read or written
    checked = plan(1.0 if tried.timeout is None else tried.timeout)
    workers = by.chosen
    part = None if shard is None else Shard.parse(shard)
    if proved.proofs is not None:
        named("--proofs", proved.proofs)
        check_folder(proved.proofs)
    folder = _folder_beside(out, counterexamples)
    known = {} if reference is None else read_reference(reference)
    results = out if part is None else out.with_stem(f"{out.stem}{part.suffix}")
    job = SetJob(
        results,
        folder,
        plan,
        tried.timeout,
        choose_device(tried.device),
        tried.parity_check,
        tried.retry,
        workers,
    )
    listed = read_instances(instances)
    tell_ignored(checked, tried.search)
    chosen = listed if part is None else part_of(listed, part)
    decided = run_set(chosen, job, tell)
    found = compare(decided, known)
    if proved.proofs is not None:
        from verify_pipeline.proving.properties import record_properties

        def plan_of(instance: SetInstance) -> Plan:
            return plan(job.seconds_of(instance))

        recording = record_properties(
            chosen, decided, plan_of, proved.proofs, lambda line: typer.echo(line, err=True)
        )
        typer.echo(recording.summary)
    _show(found, results, reference is not None)


def _folder_beside(out: Path, counterexamples: Path | None) -> Path:
    """The folder for counterexamples, checked to be writable."""
    from verify_pipeline.atomic_write import check_folder
    from verify_pipeline.cli.arguments import named

    named("--out", out)
    folder = counterexamples or out.with_name("counterexamples")
    check_folder(folder)
    return folder


def _show(found: Comparison, out: Path, compared: bool) -> None:
    """Print the summary of a set, and exit with 2 on a contradiction."""
    from verify_pipeline.interop.instance_list import Answer

    typer.echo(", ".join(f"{answer.value} {found.answers[answer]}" for answer in Answer))
    typer.echo(f"{found.seconds:.1f} seconds; results: {out}")
    if not compared:
        return
    count = len(found.contradictions)
    contradictions = "1 contradiction" if count == 1 else f"{count} contradictions"
    typer.echo(f"decided {found.decided} of {found.known} known; {contradictions}")
    for one in found.contradictions:
        typer.echo(
            f"contradiction: {one.key.onnx} {one.key.vnnlib}, known as {one.known.value}", err=True
        )
    if found.contradictions:
        raise typer.Exit(2)


def vnncomp_merge(
    instances: Annotated[
        Path, typer.Argument(help="The whole set's instances.csv: lines onnx,vnnlib,timeout.")
    ],
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS…", help="Results files of all shards of the set."),
    ],
    out: Annotated[Path, typer.Option(help="The new results file.", rich_help_panel=panels.OUTPUT)],
) -> None:
    """Put results of several machines together, such as `vnncomp --shard` writes.

    Files that have an instance twice, and an instance without a result, are refused; nothing is
    written then.
    """
    from verify_pipeline.cli.arguments import named
    from verify_pipeline.interop.instance_list import read_instances
    from verify_pipeline.interop.set_merging import merge_results

    named("--out", out)
    merged = merge_results(read_instances(instances), results, out)
    typer.echo(f"wrote {out}: results of {len(merged)} instances")


def vnncomp_table(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="Results files that `vnncomp` wrote."),
    ],
    references: Annotated[
        Path,
        typer.Option(
            help="Folder of reference verdicts: a file of the same name for each.",
            rich_help_panel=panels.CHECKS,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Writes OUT.csv and OUT.md.", rich_help_panel=panels.OUTPUT)
    ],
    as_deployed: Annotated[
        Path | None,
        typer.Option(
            help="Folder of results of `vnncomp --arithmetic`, files of the same names: how many "
            "of the unsat instances are unsat as deployed.",
            rich_help_panel=panels.TABLE,
        ),
    ] = None,
) -> None:
    """Tabulate whole sets of VNN-COMP beside known verdicts: one row for each results file."""
    from verify_pipeline.cli.arguments import named, this_command
    from verify_pipeline.interop.table import as_frame, read_rows, write_rows

    named("--out", out)
    rows = read_rows(results, references, as_deployed)
    typer.echo(as_frame(rows).to_string(index=False))
    for path in write_rows(rows, out, this_command()):
        typer.echo(f"wrote {path}")

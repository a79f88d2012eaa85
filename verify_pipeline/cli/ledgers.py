"""Commands about ledgers themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.arguments import named
from verify_pipeline.cli.framework import Command

PROBLEMS = 20
"""Problems of a ledger that are printed, at most."""

ledgers = typer.Typer(no_args_is_help=True, help="Work with ledgers as files: check, merge.")


@ledgers.callback()
def ledger_options() -> None:
    """Work with ledgers as files: check, merge."""


@ledgers.command(cls=Command)
def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="LEDGER…", help="Ledgers of shards, of one network.")
    ],
    out: Annotated[Path, typer.Option(help="The new ledger.", rich_help_panel=panels.OUTPUT)],
) -> None:
    """Put ledgers of several machines together, such as `certify --shard` writes.

    Rows are copied as they are. Of an image that several ledgers have, the first decided row is
    kept, and a note tells how many there are. Opposite verdicts, ledgers of several networks, and
    images that differ are refused; nothing is written then. Images that seem to be missing are
    named.
    """
    from verify_pipeline.certify.merging import merge_ledgers
    from verify_pipeline.reporting.facts import question_line

    named("--out", out)
    merged = merge_ledgers(sources, out)
    runs = "1 run" if len(merged.infos) == 1 else f"{len(merged.infos)} runs"
    typer.echo(f"wrote {out}: {merged.verdicts} verdicts of {runs}")
    if merged.repeated:
        more = ""
        if merged.completed:
            more = f"; {merged.completed} of them are decided in a later one only"
        typer.echo(
            f"note: {merged.repeated} verdicts are in several of these ledgers and agree{more}. "
            "The first decided one was kept.",
            err=True,
        )
    for info, gaps in zip(merged.infos, merged.gaps, strict=True):
        if gaps:
            first = gaps.spans[0][0]
            typer.echo(
                f"note: {len(gaps)} images between the first and the last one are in none of these "
                f"ledgers, such as image {first} ({question_line(info)}). If a shard is missing, "
                "merge again with all of them.",
                err=True,
            )


@ledgers.command(cls=Command)
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="LEDGER…", help="Ledgers, of any networks.")
    ],
) -> None:
    """Check that ledgers are whole: the file, the evidence of each row, and contradictions.

    Nothing is changed. Counterexamples are not replayed: `recheck` does that. Verdicts of the same
    image, box and question that contradict each other are found also between files and between
    runs of other settings. Exits with 2 if anything is wrong.
    """
    from verify_pipeline.certify.checking import check_ledgers

    found = check_ledgers(files)
    for each in found:
        runs = "1 run" if each.runs == 1 else f"{each.runs} runs"
        missing = "unknown how many" if each.missing is None else f"{each.missing:,}"
        state = "1 problem" if len(each.problems) == 1 else f"{len(each.problems)} problems"
        state = state if each.problems else "whole"
        typer.echo(
            f"{each.path}: {state}; {runs}, {each.verdicts:,} verdicts with evidence, "
            f"{missing} images without a verdict"
        )
        for problem in each.problems[:PROBLEMS]:
            typer.echo(f"  {problem}", err=True)
        if len(each.problems) > PROBLEMS:
            typer.echo(f"  … and {len(each.problems) - PROBLEMS} more", err=True)
    if any(each.problems for each in found):
        raise typer.Exit(2)

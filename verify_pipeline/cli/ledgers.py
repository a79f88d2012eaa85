"""Commands about ledgers themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.arguments import named
from verify_pipeline.cli.framework import Command

ledgers = typer.Typer(no_args_is_help=True, help="Work with ledgers as files: merge.")


@ledgers.callback()
def ledger_options() -> None:
    """Work with ledgers as files: merge."""


@ledgers.command(cls=Command)
def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="LEDGER…", help="Ledgers of shards, of one network.")
    ],
    out: Annotated[Path, typer.Option(help="The new ledger.", rich_help_panel=panels.OUTPUT)],
) -> None:
    """Put ledgers of several machines together, such as `certify --shard` writes.

    Rows are copied as they are. Ledgers of several networks, and ledgers that have an image twice,
    are refused; nothing is written then. Images that seem to be missing are named.
    """
    from verify_pipeline.certify.merging import merge_ledgers
    from verify_pipeline.reporting.facts import question_line

    named("--out", out)
    merged = merge_ledgers(sources, out)
    runs = "1 run" if len(merged.infos) == 1 else f"{len(merged.infos)} runs"
    typer.echo(f"wrote {out}: {merged.verdicts} verdicts of {runs}")
    for info, gaps in zip(merged.infos, merged.gaps, strict=True):
        if gaps:
            first = gaps.spans[0][0]
            typer.echo(
                f"note: {len(gaps)} images between the first and the last one are in none of these "
                f"ledgers, such as image {first} ({question_line(info)}). If a shard is missing, "
                "merge again with all of them.",
                err=True,
            )

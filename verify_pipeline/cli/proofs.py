"""The command `check-proofs`, and options about proofs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.workers import Workers
from verify_pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from verify_checker.folder import Result

Proofs = Annotated[
    Path | None,
    typer.Option(
        "--proofs",
        metavar="DIR",
        help="Write a proof of each verified image there, for `check-proofs`. Proofs that are "
        "there already are kept.",
        rich_help_panel=panels.OUTPUT,
    ),
]
CheckedProofs = Annotated[
    Path | None,
    typer.Option(
        "--proofs",
        metavar="DIR",
        help="Also check the proofs of this folder: each by the separate checker, and against the "
        "box and the rows of its image.",
        rich_help_panel=panels.CHECKS,
    ),
]
ResultsOfProofs = Annotated[
    Path | None,
    typer.Option(
        "--proofs",
        metavar="DIR",
        help="Also say how many verdicts the checker has checked: a folder of proofs after "
        "`check-proofs`.",
        rich_help_panel=panels.TABLE,
    ),
]


@dataclass(frozen=True)
class ProofOptions:
    """Whether proofs are written, as typed."""

    proofs: Proofs = None


def check_proofs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of `certify --proofs`.")],
    network: Annotated[
        list[Path] | None,
        typer.Option(
            help="ONNX file that the proofs are of, if it is not in the folder. Repeatable.",
            rich_help_panel=panels.CHECKS,
        ),
    ] = None,
    jobs: Workers = None,
) -> None:
    """Check proofs by separate code, which knows only numpy and the ONNX file.

    A proof is checked, refused (the checker cannot follow it), or rejected (it does not show what
    it claims). Exits with 2 when a proof is rejected. `python -m verify_checker DIR` does the same.
    """
    from verify_checker.folder import check_folder

    if jobs is not None and jobs < 1:
        raise ConfigError("--jobs", expected="at least 1", got=str(jobs))
    networks = network or []
    missing = [path for path in (folder, *networks) if not path.exists()]
    if missing or not folder.is_dir():
        raise ConfigError(
            f"folder {folder}" if not missing else str(missing[0]),
            expected="a folder with proofs, and network files",
            got="nothing there" if missing else "a file",
        )
    finish(folder, list(check_folder(folder, networks, jobs or 1)))


def finish(folder: Path, results: Sequence[Result]) -> None:
    """Keep results beside the proofs, show them, and exit with 2 where a proof is rejected.

    Raises:
        DataError: there is no proof, or the results cannot be written.
    """
    from verify_checker.folder import REJECTED, summary, write_results

    if not results:
        raise DataError(f"folder {folder}", expected="files *.proof", got="none")
    try:
        write_results(folder, results)
    except OSError as error:
        raise DataError(
            f"folder {folder}", expected="a place that can be written", got=str(error)
        ) from None
    typer.echo(summary(results))
    rejected = [result for result in results if result.outcome == REJECTED]
    for result in rejected:
        typer.echo(f"{result.file}: {result.reason}", err=True)
    if rejected:
        raise typer.Exit(2)

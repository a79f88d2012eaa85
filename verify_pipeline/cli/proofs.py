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
    from verify_checker.folder import Instances, Result

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
    instances: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="VNN-COMP's list of instances. Each proof has to be of one of them, and the "
            "proofs of an instance together have to show its VNN-LIB file.",
            rich_help_panel=panels.CHECKS,
        ),
    ] = None,
    jobs: Workers = None,
) -> None:
    """Check proofs by separate code, which knows only numpy and the ONNX file.

    A proof is checked, refused (the checker cannot follow it), or rejected (it does not show what
    it claims). Exits with 2 when a proof is rejected. `python -m verify_checker DIR` does the same.
    With --instances, the checker reads the VNN-LIB files, too, and says how many instances of the
    list are shown.
    """
    from verify_checker.folder import check_folder
    from verify_checker.instances import read_instances

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
    try:
        listed = None if instances is None else read_instances(instances)
    except (OSError, ValueError) as error:
        raise DataError(
            f"--instances {instances}",
            expected="a list onnx,vnnlib,seconds beside the files that it names",
            got=getattr(error, "strerror", None) or str(error),
        ) from None
    finish(folder, list(check_folder(folder, networks, jobs or 1, listed)), listed)


def finish(folder: Path, results: Sequence[Result], listed: Instances | None = None) -> None:
    """Keep results beside the proofs, show them, and exit with 2 where a proof is rejected.

    Args:
        folder: of the proofs.
        results: of the checker.
        listed: the instances that they were compared with; None: they were not.

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
    typer.echo(summary(results, listed))
    rejected = [result for result in results if result.outcome == REJECTED]
    for result in rejected:
        typer.echo(f"{result.file}: {result.reason}", err=True)
    if rejected:
        raise typer.Exit(2)

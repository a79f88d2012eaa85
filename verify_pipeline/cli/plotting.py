"""The command that draws figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.arguments import named, this_command
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.certify.tally import Summary
    from verify_pipeline.figures.drawings import Drawing
    from verify_pipeline.figures.style import Width

KINDS = {
    "accuracy": "standard against verified accuracy, with Pareto fronts and published results",
    "epsilon": "certified accuracy against ε, from ε = 0 through every ε of a ledger",
    "training": "accuracies, losses and ε over the epochs, of run folders",
    "stages": "how many images each stage gets, what it decides, and its seconds",
    "cactus": "images decided against seconds an image",
    "margins": "histogram of lower bounds and of margins at counterexamples",
}
"""Each kind of figure, with one line about it."""


Sources = Annotated[
    list[Path], typer.Argument(metavar="LEDGER|RUN...", help="SQLite files, or folders of runs.")
]
Out = Annotated[
    Path,
    typer.Option(
        metavar="NAME", help="Path of the files, without ending.", rich_help_panel=panels.OUTPUT
    ),
]
Kind = Annotated[
    str,
    typer.Option(
        help="What is drawn.\n\n" + "\n\n".join(f"{k}: {KINDS[k]}." for k in KINDS),
        rich_help_panel=panels.FIGURE,
    ),
]
Formats = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAMES",
        help="pdf, svg and png, comma-separated.",
        rich_help_panel=panels.OUTPUT,
    ),
]
WidthOption = Annotated[
    str,
    typer.Option(
        help="Of a paper's column (3.25 in) or page (6.75 in): column or page.",
        rich_help_panel=panels.OUTPUT,
    ),
]
Epsilon = Annotated[
    str | None,
    typer.Option(
        help="Draw only runs with this ε, as 0.1 or 2/255. Default: all.",
        rich_help_panel=panels.FIGURE,
    ),
]
Literature = Annotated[
    bool,
    typer.Option(
        "--literature/--no-literature",
        help="With --kind accuracy: draw published results for the same data set and ε.",
        rich_help_panel=panels.FIGURE,
    ),
]


def plot(
    sources: Sources,
    out: Out,
    kind: Kind = "accuracy",
    formats: Formats = "pdf",
    width: WidthOption = "column",
    epsilon: Epsilon = None,
    literature: Literature = True,
) -> None:
    """Draw a figure of ledgers or run folders, for a paper.

    The same verdicts give the same files, byte for byte. Their metadata has the command that made
    them.
    """
    from verify_pipeline.figures.files import check_formats, save_figure
    from verify_pipeline.figures.style import checked_width

    if kind not in KINDS:
        raise ConfigError("--kind", expected=f"one of {', '.join(KINDS)}", got=repr(kind))
    named("--out", out)
    names = [name.strip().lower() for name in formats.split(",")]
    check_formats(names)
    size = checked_width(width)
    if kind == "training":
        drawing = _of_metrics(sources, size)
    else:
        drawing = _of_verdicts(sources, kind, size, _Chosen(epsilon, literature))
    for note in drawing.notes:
        typer.echo(f"note: {note}", err=True)
    written = save_figure(drawing.figure, out, names, title=drawing.title, command=this_command())
    for path in written:
        typer.echo(f"wrote {path}")


@dataclass(frozen=True)
class _Chosen:
    """What is drawn of what the ledgers hold, as typed."""

    epsilon: str | None
    literature: bool


def _of_verdicts(sources: list[Path], kind: str, width: Width, chosen: _Chosen) -> Drawing:
    from verify_pipeline import reports
    from verify_pipeline.figures import drawings
    from verify_pipeline.run_folders import LEDGER

    paths = [source / LEDGER if source.is_dir() else source for source in sources]
    results = reports.read_ledgers(paths)
    if chosen.epsilon is not None:
        results = _of_epsilon(results, chosen.epsilon)
    if kind == "accuracy":
        return drawings.accuracy(results, width, None if chosen.literature else ())
    return drawings.KINDS[kind](results, width)


def _of_epsilon(results: list[Summary], text: str) -> list[Summary]:
    """The runs with an ε.

    Raises:
        ConfigError: it is no number, or no run has it.
    """
    from verify_pipeline.reporting.facts import epsilon_text
    from verify_pipeline.settings import number

    try:
        epsilon = number(text)
    except ValueError:
        raise ConfigError(
            "--epsilon", expected="a number such as 0.1 or 2/255", got=repr(text)
        ) from None
    chosen = [result for result in results if result.info.epsilon == epsilon]
    if not chosen:
        known = sorted({r.info.epsilon for r in results if r.info.epsilon is not None})
        raise ConfigError(
            "--epsilon", expected=f"one of {', '.join(map(epsilon_text, known))}", got=text
        )
    return chosen


def _of_metrics(sources: list[Path], width: Width) -> Drawing:
    from verify_pipeline.figures import drawings

    # a file in a run's folder may be named instead of the folder
    folders = [source.parent if source.is_file() else source for source in sources]
    return drawings.training(folders, width)

"""The command that finds the radius of every image of a set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from verify_pipeline.cli import options, panels, questions
from verify_pipeline.cli.arguments import named, own_arrays, this_command
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.cli.jobs import certification_of
from verify_pipeline.cli.watching import reporter
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.data import Split

UpTo = Annotated[
    str,
    typer.Option(
        help="The largest ε: a number or a fraction such as 16/255; pixels are in [0, 1].",
        rich_help_panel=panels.QUESTION,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="How many ε are searched: --up-to in so many equal steps.",
        show_default="16",
        rich_help_panel=panels.QUESTION,
    ),
]
Tolerance = Annotated[
    str | None,
    typer.Option(
        help="The largest step between two ε instead, such as 1/255.",
        rich_help_panel=panels.QUESTION,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        help="Seconds for each image and each ε. Default: as the recipe or --search says, else "
        "360.",
        rich_help_panel=panels.SEARCH,
    ),
]
LedgerFile = Annotated[
    Path | None,
    typer.Option(
        help="SQLite file of verdicts. Default: radius.sqlite beside the network. With the ledger "
        "of `certify`, the two commands use each other's verdicts.",
        rich_help_panel=panels.OUTPUT,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Write OUT.csv (a row for each image), OUT-curve.csv and OUT.md, too.",
        rich_help_panel=panels.OUTPUT,
    ),
]


@dataclass(frozen=True)
class RadiusQuestion:
    """Options about what has to hold, and of which pixels, as typed; ε is what is searched."""

    steps: Steps = None
    tolerance: Tolerance = None
    mean: questions.Mean = None
    std: questions.Std = None
    layout: questions.LayoutOption = None
    target: questions.Target = None
    top_k: questions.TopKOption = None
    rows: questions.Rows = None
    offsets: questions.Offsets = None


@dataclass(frozen=True)
class RadiusSearchOptions(options.TriedOptions):
    """The search's options, with a timeout for each ε, a ledger of its own, and the table."""

    timeout: Timeout = None
    ledger: LedgerFile = None
    out: Out = None


@grouped
def radius(
    network: options.NetworkFile,
    up_to: UpTo,
    pictures: options.Pictures,
    asked: RadiusQuestion,
    tried: RadiusSearchOptions,
    where: options.Where,
    shown: options.Shown,
) -> None:
    """Find each image's radius: the largest ε that is verified, the smallest one falsified.

    All images are bisected together, so that one command gives the certified accuracy at every ε,
    and the average certified radius. Every verdict is written to the ledger at once. If it is
    interrupted, the same command continues.
    """
    from verify_pipeline import radius as composed
    from verify_pipeline.atomic_write import check_folder
    from verify_pipeline.certify.settings import plan
    from verify_pipeline.run_folders import RADII

    told = reporter(shown)
    named("NETWORK", network)
    ledger = network.with_name(RADII) if tried.ledger is None else tried.ledger
    named("--ledger", ledger)
    if tried.out is not None:
        named("--out", tried.out)
        check_folder(tried.out.parent)
    steps = _steps(up_to, asked)
    typed = {key: value for key, value in asdict(asked).items() if key not in STEP_OPTIONS}
    question = questions.question_of(questions.Typed(**typed))
    others = {key: getattr(pictures, key) for key in ("data", "class_order", "split")}
    own = own_arrays(pictures.images, pictures.labels, **others)
    name = pictures.data if own is None else own.name
    job = certification_of(network, (name, pictures.class_order), tried, up_to)
    images = (
        job.load_images(cast("Split", pictures.split or "test"), where.data_root)
        if own is None
        else own.read(job.network.outputs, question)
    )
    told.ignored(plan(job.settings), job.settings.search)
    found = composed.radius(
        job.network,
        images,
        job.settings,
        steps=composed.STEPS if steps is None else steps,
        question=question,
        ledger=ledger,
        observer=told.certification,
        device=where.device,
        progress=told.progress,
    )
    told.radii(found, ledger)
    if tried.out is not None:
        from verify_pipeline.reporting import write_radii

        told.wrote(write_radii(found, tried.out.parent, tried.out.name, this_command()))


STEP_OPTIONS = ("steps", "tolerance")


def _steps(up_to: str, asked: RadiusQuestion) -> int | None:
    """The number of steps that `--steps` or `--tolerance` says; None: neither was given.

    Raises:
        ConfigError: both were given, or a number is not in its range.
    """
    largest = _exact("--up-to", up_to)
    if not 0 < largest <= 1:
        raise ConfigError("--up-to", expected="a number above 0, and at most 1", got=up_to)
    if asked.tolerance is None:
        return asked.steps
    if asked.steps is not None:
        raise ConfigError("--steps and --tolerance", expected="one of them", got="both")
    tolerance = _exact("--tolerance", asked.tolerance)
    if tolerance <= 0:
        raise ConfigError("--tolerance", expected="a number > 0", got=asked.tolerance)
    return max(math.ceil(largest / tolerance), 1)


def _exact(option: str, text: str) -> Fraction:
    """The number that was typed.

    Raises:
        ConfigError: it is none.
    """
    from verify_pipeline.certify.brackets import meant_fraction
    from verify_pipeline.settings import number

    try:
        return meant_fraction(number(text))
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None

"""The command that runs both engines on the same instances and compares them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from verify_pipeline.cli import options, panels, questions
from verify_pipeline.cli.arguments import (
    abcrown_setup,
    certify_fields,
    named,
    own_arrays,
    refuse_beside,
    tell_ignored,
    this_command,
)
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.data import Split
    from verify_pipeline.engines import Setup
    from verify_pipeline.engines.comparison import Pair

Network = Annotated[
    Path | None, typer.Argument(help="ONNX file of pixels in [0, 1] to logits; or --instances.")
]
Instances = Annotated[
    Path | None,
    typer.Option(
        help="A VNN-COMP list instead: lines onnx,vnnlib,timeout.", rich_help_panel=panels.QUESTION
    ),
]
Out = Annotated[
    Path, typer.Option(help="Writes OUT.csv and OUT.md.", rich_help_panel=panels.OUTPUT)
]
Indices = Annotated[
    str | None,
    typer.Option(
        help="Which images, or lines of the list: 0:1000, ::10, 3,7,9, or a count.",
        rich_help_panel=panels.IMAGES,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, help="Compare at most this many open instances.", rich_help_panel=panels.IMAGES
    ),
]
Ledger = Annotated[
    Path | None,
    typer.Option(
        help="SQLite file of both engines' verdicts, continued. Default: OUT.sqlite; of a list: "
        "OUT.builtin.csv and OUT.builtin.abcrown.csv.",
        rich_help_panel=panels.OUTPUT,
    ),
]


@dataclass(frozen=True)
class CrosscheckedOptions:
    """Options about the question, as typed; None where an option was not given."""

    epsilon: questions.Epsilon = None
    mean: questions.Mean = None
    std: questions.Std = None
    layout: questions.LayoutOption = None


@dataclass(frozen=True)
class CrosscheckSearchOptions:
    """Options about the number of instances, the time and the output, as typed."""

    indices: Indices = None
    limit: Limit = None
    timeout: options.Timeout = None
    search: options.Search = None
    ledger: Ledger = None


@grouped
def crosscheck(
    out: Out,
    pictures: options.Pictures,
    asked: CrosscheckedOptions,
    tried: CrosscheckSearchOptions,
    abcrown: options.Abcrown,
    where: options.Where,
    network: Network = None,
    instances: Instances = None,
) -> None:
    """Compare our branch and bound with α,β-CROWN on the images that cheap stages leave open.

    With --instances, both run on a VNN-COMP list. If it is interrupted, the same command continues.
    Exits with 2 when one engine verifies what the other falsifies.
    """
    if (network is None) == (instances is None):
        raise ConfigError(
            "crosscheck", expected="a network, or --instances", got="both or neither of them"
        )
    named("--out", out)
    if tried.ledger is not None:
        named("--ledger", tried.ledger)
    place = tried.ledger or out.with_name(
        f"{out.name}.sqlite" if network is not None else f"{out.name}.builtin.csv"
    )
    setup = abcrown_setup(place.with_suffix(".abcrown"), abcrown)
    common = _Common(place, setup, tried, where)
    if network is None:
        meaningless = {**asdict(pictures), **asdict(asked), "data-root": where.data_root}
        refuse_beside("--instances", "a network and images", meaningless)
        pairs, about = _of_list(cast("Path", instances), common)
    else:
        typed = questions.Typed(**asdict(asked))
        pairs, about = _of_images(network, typed, pictures, common)
    _show(pairs, out, {**common.facts(), **about})


@dataclass(frozen=True)
class _Common:
    """Settings that comparisons of images and of lists share."""

    place: Path
    setup: Setup
    tried: CrosscheckSearchOptions
    where: options.Where

    def facts(self) -> dict[str, str]:
        """For the page that is written."""
        used = f"{self.setup.tool.version}, configuration {self.tried.search or 'default'}"
        seconds = self.tried.timeout or "as the configuration or the list says"
        return {"α,β-CROWN": used, "Seconds for each instance": seconds}


def _of_images(
    network: Path,
    typed: questions.Typed,
    pictures: options.Pictures,
    common: _Common,
) -> tuple[list[Pair], dict[str, str]]:
    """Run both engines on the images that cheap stages leave open."""
    from verify_pipeline import certification
    from verify_pipeline.certify.settings import plan
    from verify_pipeline.conversions import choose_device
    from verify_pipeline.engines.crosscheck import Job, crosscheck_images
    from verify_pipeline.reporting import watched
    from verify_pipeline.reporting.facts import epsilon_text

    own = own_arrays(
        pictures.images,
        pictures.labels,
        data=pictures.data,
        class_order=pictures.class_order,
        split=pictures.split,
    )
    question = questions.question_of(typed)
    fields = certify_fields(
        common.tried.indices,
        None,
        epsilon=questions.single_epsilon(typed),
        timeout=common.tried.timeout,
        search=common.tried.search,
    )
    name = pictures.data if own is None else own.name
    asked = certification.certification(
        network,
        None,
        name,
        fields,
        needs_epsilon=question.perturbation is None,
        class_order=pictures.class_order,
    )
    if own is None:
        chosen = asked.load_images(cast("Split", pictures.split or "test"), common.where.data_root)
    else:
        chosen = own.read(asked.network.outputs, question)
    where = choose_device(common.where.device)
    tell_ignored(plan(asked.settings), asked.settings.search)
    job = Job(asked.network, chosen, asked.settings, common.place, where, question)
    with watched(progress=True) as watching:
        pairs = crosscheck_images(job, common.setup, watching.certification, common.tried.limit)
    width = typed.epsilon or epsilon_text(asked.settings.epsilon)
    about = {"Network": str(network), "ε": width, "Preprocessing": question.preprocessing.name}
    return pairs, {key: value for key, value in about.items() if value}


def _of_list(instances: Path, common: _Common) -> tuple[list[Pair], dict[str, str]]:
    """Both engines on a list; a line for each new result."""
    from verify_pipeline.certify.settings import ABCROWN_DEFAULT, parse_indices, search_text
    from verify_pipeline.conversions import choose_device
    from verify_pipeline.engines.crosscheck import crosscheck_set
    from verify_pipeline.interop.decide import property_plan
    from verify_pipeline.interop.instance_list import Key, read_instances
    from verify_pipeline.interop.sets import Result, SetJob

    def tell(engine: str, key: Key, result: Result) -> None:
        line = f"{engine}: {key.onnx} {key.vnnlib} {result.answer.value} {result.seconds:.1f}s"
        typer.echo(line, err=True)

    search = common.tried.search or ABCROWN_DEFAULT
    seconds = None if common.tried.timeout is None else _seconds(common.tried.timeout)
    tell_ignored(property_plan(1.0, search), search)
    listed = read_instances(instances)
    chosen = [listed[place] for place in parse_indices(common.tried.indices or ":", len(listed))]
    job = SetJob(
        common.place,
        common.place.with_suffix(".counterexamples"),
        lambda allowed: property_plan(allowed, search),
        seconds,
        choose_device(common.where.device),
    )
    config = search_text(search)
    pairs = crosscheck_set(chosen[: common.tried.limit], job, common.setup, config, tell)
    return pairs, {"List": str(instances)}


def _show(pairs: Sequence[Pair], out: Path, about: Mapping[str, str]) -> None:
    """Print the summary, write the files, and exit with 2 on a contradiction."""
    from verify_pipeline.engines import comparison

    for line in comparison.summary_lines(pairs):
        typer.echo(line)
    if not pairs:
        typer.echo("the cheap stages decided everything: nothing to compare")
        return
    for path in comparison.write_comparison(pairs, out, about, this_command()):
        typer.echo(f"wrote {path}")
    contradictions = [p for p in pairs if p.agreement is comparison.Agreement.CONTRADICT]
    for pair in contradictions:
        typer.echo(f"contradiction: {pair.name}", err=True)
    if contradictions:
        raise typer.Exit(2)


def _seconds(text: str) -> float:
    from verify_pipeline.settings import number

    try:
        seconds = number(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise ConfigError("--timeout", expected="seconds > 0", got=text)
    return seconds

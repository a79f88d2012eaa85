"""The command that runs both engines on the same instances; see app.py for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from verify_pipeline.cli import options, questions
from verify_pipeline.cli.arguments import (
    abcrown_setup,
    certify_fields,
    own_arrays,
    this_command,
)
from verify_pipeline.cli.options import DataRoot, Device
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.data import Split
    from verify_pipeline.engines import Setup
    from verify_pipeline.engines.comparison import Pair
    from verify_pipeline.interop.instances import SetInstance

Network = Annotated[
    Path | None, typer.Argument(help="ONNX file of pixels in [0, 1] to logits; or --instances.")
]
Instances = Annotated[
    Path | None, typer.Option(help="A VNN-COMP list instead: lines onnx,vnnlib,timeout.")
]
Out = Annotated[Path, typer.Option(help="Writes OUT.csv and OUT.md.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Compare the first so many open ones only.")]
Ledger = Annotated[
    Path | None,
    typer.Option(
        help="SQLite file of both engines' verdicts, continued. Default: OUT.sqlite; of a list: "
        "OUT.builtin.csv and OUT.builtin.abcrown.csv."
    ),
]


def crosscheck(
    out: Out,
    network: Network = None,
    instances: Instances = None,
    data: options.Data = None,
    split: options.Split = None,
    images: options.Images = None,
    labels: options.Labels = None,
    epsilon: questions.Epsilon = None,
    indices: Annotated[
        str | None,
        typer.Option(help="Which images, or lines of the list: 0:1000, ::10, 3,7,9, or a count."),
    ] = None,
    limit: Limit = None,
    timeout: options.Timeout = None,
    search: options.Search = None,
    ledger: Ledger = None,
    abcrown_home: options.AbcrownHome = None,
    abcrown_python: options.AbcrownPython = None,
    abcrown_memory: options.AbcrownMemory = None,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Run our branch and bound and α,β-CROWN on what the cheap stages leave open, and compare.

    Or both on a VNN-COMP list. Stopped at any moment, the same command continues. Exits with 2 when
    one engine verifies what the other falsifies.
    """
    from verify_pipeline import pipeline
    from verify_pipeline.certify.settings import ABCROWN_DEFAULT, parse_indices
    from verify_pipeline.cli.progress import Progress
    from verify_pipeline.engines import comparison
    from verify_pipeline.engines.crosscheck import Job, crosscheck_images
    from verify_pipeline.interop.instances import read_instances
    from verify_pipeline.reporting.tables import epsilon_text

    if (network is None) == (instances is None):
        raise ConfigError(
            "crosscheck", expected="a network, or --instances", got="both or neither of them"
        )
    place = ledger or out.with_name(
        f"{out.name}.sqlite" if network is not None else f"{out.name}.builtin.csv"
    )
    setup = abcrown_setup(
        place.with_suffix(".abcrown"), abcrown_home, abcrown_python, abcrown_memory
    )
    about = {"α,β-CROWN": f"{setup.tool.version}, configuration {search or 'default'}"}
    if instances is not None:
        listed = read_instances(instances)
        kept = [listed[place] for place in parse_indices(indices or ":", len(listed))][:limit]
        pairs = _of_list(kept, place, timeout, search or ABCROWN_DEFAULT, setup)
        about |= {"List": str(instances)}
    else:
        own = own_arrays(images, labels, data=data, split=split)
        fields = certify_fields(indices, None, epsilon=epsilon, timeout=timeout, search=search)
        name = data if own is None else own.name
        asked = pipeline.certification(cast("Path", network), None, name, fields)
        if own is None:
            chosen = asked.load_images(cast("Split", split or "test"), data_root)
        else:
            chosen = own.read(asked.network.outputs)
        job = Job(asked.network, chosen, asked.settings, place, pipeline.choose_device(device))
        with Progress() as progress:
            pairs = crosscheck_images(job, setup, progress.certification, limit)
        about |= {"Network": str(network), "ε": epsilon_text(asked.settings.epsilon)}
    for line in comparison.summary_lines(pairs):
        typer.echo(line)
    if not pairs:
        typer.echo("the cheap stages decided everything: nothing to compare")
        return
    about |= {"Seconds for each instance": timeout or "as the configuration or the list says"}
    for path in comparison.write_comparison(pairs, out, about, this_command()):
        typer.echo(f"wrote {path}")
    contradictions = [p for p in pairs if p.agreement is comparison.Agreement.CONTRADICT]
    for pair in contradictions:
        typer.echo(f"contradiction: {pair.name}", err=True)
    if contradictions:
        raise typer.Exit(2)


def _of_list(
    chosen: Sequence[SetInstance], results: Path, timeout: str | None, search: str, setup: Setup
) -> list[Pair]:
    """Both engines on a list, on the CPU; a line for each new result."""
    from verify_pipeline.certify.settings import search_text
    from verify_pipeline.engines.crosscheck import crosscheck_set
    from verify_pipeline.interop.decide import property_plan
    from verify_pipeline.interop.instances import Key
    from verify_pipeline.interop.sets import Result, SetJob

    def tell(engine: str, key: Key, result: Result) -> None:
        line = f"{engine}: {key.onnx} {key.vnnlib} {result.answer.value} {result.seconds:.1f}s"
        typer.echo(line, err=True)

    seconds = None if timeout is None else _number(timeout)
    config = search_text(search)
    job = SetJob(
        results,
        results.with_suffix(".counterexamples"),
        lambda allowed: property_plan(allowed, search),
        seconds,
    )
    return crosscheck_set(chosen, job, setup, config, tell)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError("--timeout", expected="seconds > 0", got=text) from None

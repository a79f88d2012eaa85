"""The commands about other people's properties; see app.py for the rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from verify_pipeline.cli.options import Device


def vnnlib(
    onnx: Annotated[Path, typer.Option(help="ONNX file of the network.")],
    prop: Annotated[
        Path, typer.Option("--property", help="VNN-LIB 1.0 file, compressed with gzip or not.")
    ],
    timeout: Annotated[float, typer.Option(help="Seconds, reading the files included.")] = 300.0,
    counterexample: Annotated[
        Path | None,
        typer.Option(
            help="Where a counterexample goes, in VNN-COMP's form. Default: "
            "NETWORK_PROPERTY.counterexample in this folder."
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            help="Settings of α-CROWN and branch and bound: a name in abcrown_configs/, or the "
            "path of a YAML file in α,β-CROWN's schema."
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Decide a VNN-LIB property of a network: prints sat, unsat, timeout or unknown.

    sat: the network has a counterexample, which onnxruntime confirmed and which is written to a
    file. unsat: it has none, by bounds in float64.
    """
    start = time.perf_counter()
    from verify_pipeline import pipeline
    from verify_pipeline.interop.counterexamples import write_counterexample
    from verify_pipeline.interop.decide import Decided, decide, property_plan
    from verify_pipeline.interop.instances import Answer
    from verify_pipeline.interop.vnnlib import read_vnnlib
    from verify_pipeline.onnx import load_network

    place = pipeline.choose_device(device)
    property_plan(timeout, search)  # a mistake there is told before anything is read
    asked, network = read_vnnlib(prop), load_network(onnx)
    left = timeout - (time.perf_counter() - start)
    found = Decided(Answer.TIMEOUT, timeout)
    if left > 0:
        (found,) = decide(network, [asked], property_plan(left, search), device=place)
    if found.point is not None and found.output is not None:
        default = Path(f"{onnx.stem}_{prop.name.split('.vnnlib')[0]}.counterexample")
        written = write_counterexample(counterexample or default, found.point, found.output)
        typer.echo(f"counterexample: {written}", err=True)
    if found.detail:
        typer.echo(found.detail, err=True)
    typer.echo(found.answer.value)

"""The commands that certify a data set and look at the evidence again; see app.py for the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from verify_pipeline.cli import options, questions
from verify_pipeline.cli.arguments import certify_fields, engine_setup, own_arrays, recipe_of
from verify_pipeline.cli.options import DataRoot, Device

if TYPE_CHECKING:
    from verify_pipeline.certify.questions import Question
    from verify_pipeline.certify.records import RunInfo
    from verify_pipeline.data import BoxSet, ImageSet, Split
    from verify_pipeline.engines import Setup
    from verify_pipeline.pipeline import Certification


def certify(
    network: options.NetworkFile,
    recipe: options.RecipeOption = None,
    data: options.Data = None,
    split: options.Split = None,
    images: options.Images = None,
    labels: options.Labels = None,
    epsilon: questions.Epsilon = None,
    epsilon_file: questions.EpsilonFile = None,
    lower: questions.Lower = None,
    upper: questions.Upper = None,
    mean: questions.Mean = None,
    std: questions.Std = None,
    layout: questions.LayoutOption = None,
    target: questions.Target = None,
    top_k: questions.TopKOption = None,
    rows: questions.Rows = None,
    offsets: questions.Offsets = None,
    indices: options.Indices = None,
    timeout: options.Timeout = None,
    stages: options.Stages = None,
    search: options.Search = None,
    give_up: options.GiveUp = None,
    retry: options.Retry = False,
    parity_check: options.Parity = True,
    ledger: options.LedgerFile = None,
    engine: options.Engine = "builtin",
    abcrown_home: options.AbcrownHome = None,
    abcrown_python: options.AbcrownPython = None,
    abcrown_memory: options.AbcrownMemory = None,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Certify a data set: prove each image robust, or find an image in its box that is not.

    Every verdict goes into the ledger as it falls. Stopped at any moment, the same command
    continues and decides nothing twice.
    """
    from verify_pipeline import pipeline
    from verify_pipeline.certify.settings import asking_abcrown

    place = _ledger_of(network, ledger)
    setup = engine_setup(
        engine, stages, place.with_suffix(".abcrown"), abcrown_home, abcrown_python, abcrown_memory
    )
    typed = questions.Typed(epsilon, epsilon_file, mean, std, layout, target, top_k, rows, offsets)
    question = questions.question_of(typed)
    sets = {"data": data, "split": split}
    boxes = questions.own_boxes(
        lower, upper, images, labels, **sets, epsilon=epsilon, epsilon_file=epsilon_file
    )
    own = boxes or own_arrays(images, labels, **sets)
    fields = certify_fields(
        indices,
        stages,
        epsilon=questions.single_epsilon(typed),
        timeout=timeout,
        search=search,
        give_up=give_up,
        retry=retry or None,
    )
    job = pipeline.certification(
        network,
        None if recipe is None else recipe_of(recipe, None),
        data if own is None else own.name,
        fields,
        needs_epsilon=boxes is None and question.perturbation is None,
        check_parity=parity_check,
    )
    chosen = (
        job.load_images(cast("Split", split or "test"), data_root)
        if own is None
        else own.read(job.network.outputs)
    )
    if engine == "abcrown":
        job = replace(job, settings=asking_abcrown(job.settings))
    _certify(job, chosen, question, place, device, setup)


def recheck(
    network: Annotated[Path, typer.Argument(help="ONNX file that the verdicts are of.")],
    ledger: options.LedgerFile = None,
    images: options.Images = None,
    labels: options.Labels = None,
    epsilon_file: questions.EpsilonFile = None,
    lower: questions.Lower = None,
    upper: questions.Upper = None,
    target: questions.Target = None,
    rows: questions.Rows = None,
    offsets: questions.Offsets = None,
    data_root: DataRoot = None,
) -> None:
    """Replay every counterexample of a ledger in onnxruntime, against the images read anew.

    The ledger says what was asked; what was read from files (images, labels, boxes, ε by pixel,
    targets, rows) has to be named again. Exits with 2 when a counterexample does not hold any more.
    """
    from verify_pipeline import onnx, verdicts

    typed = questions.Typed(epsilon_file=epsilon_file, target=target, rows=rows, offsets=offsets)
    question = questions.question_of(typed)
    own = questions.own_boxes(lower, upper, images, labels, epsilon_file=epsilon_file)
    own_set = own or own_arrays(images, labels)
    loaded = onnx.load_network(network)
    given = None if own_set is None else own_set.read(loaded.outputs)
    failed = 0
    for evidence in verdicts.recheck_ledger(
        loaded, _ledger_of(network, ledger), data_root, given, question
    ):
        about = _about(evidence.info)
        if evidence.checked is None:
            typer.echo(f"{about}: not checked; name the files that were certified")
            continue
        wrong = [each for each in evidence.checked if not each.holds]
        failed += len(wrong)
        held, count = len(evidence.checked) - len(wrong), len(evidence.checked)
        typer.echo(f"{about}: {held} of {count} counterexamples hold")
        for each in wrong:
            typer.echo(f"image {each.index}: {each.problem}", err=True)
    if failed:
        raise typer.Exit(2)


def _about(info: RunInfo) -> str:
    """A run's images, and what was asked of them."""
    run = info.run
    box, separator, preprocessing = run.perturbation.partition("; ")
    if info.epsilon is not None:
        box = f"ε = {info.epsilon}"
    words = [f"{run.data_set} {run.split}", box + separator + preprocessing]
    return ", ".join(words if run.specification == "margins" else [*words, run.specification])


def _ledger_of(network: Path, ledger: Path | None) -> Path:
    """The ledger that was named, else the one beside the network."""
    from verify_pipeline import verdicts

    return network.with_name(verdicts.LEDGER) if ledger is None else ledger


def _certify(
    job: Certification,
    images: ImageSet | BoxSet,
    question: Question,
    ledger: Path,
    device: str,
    abcrown: Setup | None,
) -> None:
    from verify_pipeline import pipeline
    from verify_pipeline.cli.progress import Progress
    from verify_pipeline.cli.show import show_summaries

    with Progress() as progress:
        summary = pipeline.certify(
            job.network,
            images,
            job.settings,
            question=question,
            ledger=ledger,
            observer=progress.certification,
            device=device,
            abcrown=abcrown,
        )
    show_summaries([summary])
    typer.echo(f"ledger: {ledger}")

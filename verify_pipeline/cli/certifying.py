"""The commands that certify a data set and recheck its counterexamples."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from verify_pipeline.cli import options, questions
from verify_pipeline.cli.arguments import (
    OwnArrays,
    engine_setup,
    named,
    own_arrays,
)
from verify_pipeline.cli.dry_run import DryRun
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.cli.jobs import certification_of
from verify_pipeline.cli.options import DataRoot
from verify_pipeline.cli.proofs import CheckedProofs, ProofOptions
from verify_pipeline.cli.watching import reporter
from verify_pipeline.cli.workers import WorkerOptions

if TYPE_CHECKING:
    from verify_pipeline.certify.shards import Shard
    from verify_pipeline.data import Split


@dataclass(frozen=True)
class CertifySearchOptions(options.TriedOptions):
    """The search's options, with the engine."""

    engine: options.Engine = "builtin"
    shard: options.ShardText = None
    arithmetic: options.ArithmeticOption = None


@grouped
def certify(
    network: options.NetworkFile,
    pictures: options.Pictures,
    boxes: questions.Boxes,
    asked: questions.Typed,
    tried: CertifySearchOptions,
    abcrown: options.Abcrown,
    where: options.Where,
    by: WorkerOptions,
    proved: ProofOptions,
    dry: DryRun,
    shown: options.Shown,
) -> None:
    """Certify a data set: prove each image robust, or find an image in its box that is not.

    Every verdict is written to the ledger at once. If it is interrupted, the same command continues
    and decides nothing twice.

    With --proofs, each verified image also gets a proof, once all images have their verdicts. The
    same command makes the proofs that are missing. With --jobs, so many processes make them; with
    --cluster, this process alone does.

    With --dry-run, a sample is certified, and the cost of all images is printed.
    """
    from verify_pipeline import pipeline
    from verify_pipeline.certify.settings import asking_abcrown, parse_indices, plan
    from verify_pipeline.certify.shards import Shard

    told = reporter(shown)
    dry.check(tried.engine, tried.stages, by.cluster)
    shard = None if tried.shard is None else Shard.parse(tried.shard)
    place = _ledger_of(network, tried.ledger, shard)
    workers = by.chosen
    setup = engine_setup(tried.engine, tried.stages, place.with_suffix(".abcrown"), abcrown)
    question = questions.question_of(asked)
    own = _own(pictures, boxes, asked)
    needs_epsilon = question.perturbation is None and not isinstance(own, questions.OwnBoxes)
    name = pictures.data if own is None else own.name
    epsilon = questions.single_epsilon(asked)
    named_data = (name, pictures.class_order)
    job = certification_of(network, named_data, tried, epsilon, needs_epsilon, tried.arithmetic)
    if tried.engine == "abcrown":
        job = replace(job, settings=asking_abcrown(job.settings))
    chosen = (
        job.load_images(cast("Split", pictures.split or "test"), where.data_root)
        if own is None
        else own.read(job.network.outputs, question)
    )
    if shard is not None:
        places = shard.of_indices(parse_indices(job.settings.indices, len(chosen)))
        job = replace(job, settings=replace(job.settings, indices=",".join(map(str, places))))
    told.ignored(plan(job.settings), job.settings.search)
    if proved.proofs is not None:
        named("--proofs", proved.proofs)
    if dry.dry_run:
        dry.run(job, chosen, question, place, (where.device, by.jobs), shown)
        return
    summary = pipeline.certify(
        job.network,
        chosen,
        job.settings,
        question=question,
        ledger=place,
        observer=told.certification,
        device=where.device,
        abcrown=setup,
        progress=told.progress,
        jobs=workers if isinstance(workers, int) else 1,
        cluster=None if isinstance(workers, int) else workers,
    )
    told.certified(summary, place)
    if proved.proofs is not None:
        recording = pipeline.record_proofs(
            job.network,
            chosen,
            job.settings,
            summary,
            proved.proofs,
            question=question,
            jobs=workers if isinstance(workers, int) else 1,
        )
        told.recorded(recording)


def _own(
    pictures: options.Pictures, boxes: questions.Boxes, asked: questions.Typed
) -> questions.OwnBoxes | OwnArrays | None:
    """The user's own boxes or images; None if a data set is certified."""
    images, labels = pictures.images, pictures.labels
    sets = {
        "data": pictures.data,
        "class_order": pictures.class_order,
        "split": pictures.split,
    }
    widths = {"epsilon": asked.epsilon, "epsilon_file": asked.epsilon_file}
    own = questions.own_boxes(boxes.lower, boxes.upper, images, labels, **sets, **widths)
    return own or own_arrays(images, labels, **sets)


@dataclass(frozen=True)
class AskedByFiles:
    """Files that the original question was read from, as typed; None where an option is missing."""

    epsilon_file: questions.EpsilonFile = None
    target: questions.Target = None
    rows: questions.Rows = None
    offsets: questions.Offsets = None


@grouped
def recheck(
    network: Annotated[Path, typer.Argument(help="ONNX file that the verdicts are of.")],
    boxes: questions.Boxes,
    asked: AskedByFiles,
    ledger: options.LedgerFile = None,
    images: options.Images = None,
    labels: options.Labels = None,
    data_root: DataRoot = None,
    proofs: CheckedProofs = None,
) -> None:
    """Replay every counterexample of a ledger from its file, inside boxes built from the images.

    The ledger stores the question; files that it was read from (images, labels, boxes, ε by pixel,
    targets, rows) have to be named again. Exits with 2 when a counterexample no longer holds, or
    when the image or label of a row differs from the data set's.
    """
    from verify_pipeline import onnx, reports
    from verify_pipeline.cli.proofs import finish
    from verify_pipeline.proving.results import check_against
    from verify_pipeline.reporting.facts import question_line

    question = questions.question_of(questions.Typed(**asdict(asked)))
    widths = {"epsilon_file": asked.epsilon_file}
    own = questions.own_boxes(boxes.lower, boxes.upper, images, labels, **widths)
    own_set = own or own_arrays(images, labels)
    loaded = onnx.load_network(network)
    given = None if own_set is None else own_set.read(loaded.outputs, question)
    failed = 0
    for evidence in reports.recheck_ledger(
        loaded, _ledger_of(network, ledger), data_root, given, question
    ):
        run = question_line(evidence.info)
        if evidence.checked is None:
            typer.echo(f"{run}: not checked; name the files that were certified")
            continue
        wrong = [each for each in evidence.checked if not each.holds]
        failed += len(wrong)
        replayed = [each for each in evidence.checked if each.falsified]
        held = sum(each.holds for each in replayed)
        others = len(wrong) - (len(replayed) - held)
        besides = f"; other rows that do not fit the data set: {others}" if others else ""
        typer.echo(f"{run}: {held} of {len(replayed)} counterexamples hold{besides}")
        for each in wrong:
            typer.echo(f"image {each.index}: {each.problem}", err=True)
    if proofs is not None:
        questions_asked = reports.questions_of_ledger(
            loaded, _ledger_of(network, ledger), data_root, given, question
        )
        finish(proofs, list(check_against(proofs, network, questions_asked, jobs=1)))
    if failed:
        raise typer.Exit(2)


def _ledger_of(network: Path, ledger: Path | None, shard: Shard | None = None) -> Path:
    """The named ledger, or else the one beside the network; a shard's has the shard in its name.

    Raises:
        ConfigError: one of the two is a path without a file's name.
    """
    from verify_pipeline.run_folders import LEDGER

    named("NETWORK", network)
    if ledger is not None:
        named("--ledger", ledger)
    name = Path(LEDGER)
    if shard is not None:
        name = name.with_stem(f"{name.stem}{shard.suffix}")
    return network.with_name(name.name) if ledger is None else ledger

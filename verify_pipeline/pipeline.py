"""The composition root: train → export → certify → tabulate, and all of it from a recipe.

Everything here takes and returns objects; the command line adds arguments and messages. A call that
was interrupted continues when it is made again with the same arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from verify_pipeline import data, onnx, proving, training
from verify_pipeline.atomic_write import check_folder, write_whole
from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.crews import pool_of
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import CertifySettings, parse_indices
from verify_pipeline.certify.tally import Summary
from verify_pipeline.config import Recipe, dump, load_recipe
from verify_pipeline.conversions import (
    NetworkLike,
    check_given,
    choose_device,
    network_of,
    settings_of,
    training_of,
)
from verify_pipeline.data import (
    BoxSet,
    DataSetInfo,
    DataSettings,
    ImageSet,
    OwnDataSettings,
)
from verify_pipeline.engines import Setup
from verify_pipeline.errors import ConfigError
from verify_pipeline.onnx import ExportReport, Network
from verify_pipeline.process_group import ALONE, ProcessGroup
from verify_pipeline.proving import Recording, RecordingJob
from verify_pipeline.ray_cluster import Cluster
from verify_pipeline.reporting import noted_certification, noted_training, watched
from verify_pipeline.reports import tabulate
from verify_pipeline.run_folders import LEDGER, RECIPE
from verify_pipeline.training import Cascade, Trained, TrainObserver, TrainSettings, Until

REAL_INPUTS = 256
"""Images at which an exported file is compared with the trained network."""


def train(
    settings: TrainSettings | Recipe | Mapping[str, Any],
    folder: Path | str | None = None,
    *,
    images: ImageSet | None = None,
    info: DataSetInfo | None = None,
    data_root: Path | None = None,
    device: str = "auto",
    observer: TrainObserver | None = None,
    until: Until | None = None,
    progress: bool = False,
    group: ProcessGroup = ALONE,
    module: nn.Module | None = None,
) -> Trained:
    """Train a network.

    Args:
        settings: of the training, as an object or as the mapping that a recipe's ``train`` is; or a
            recipe that has them, whose certification is also what ``watch.cascade_images`` go
            through.
        folder: for the checkpoint and metrics (and the recipe); a training begun there is
            continued. None: keep nothing.
        images: to train on; None: the training split of the data set that the settings name.
        info: of the images; None: as the settings' data says, or, where it names no known data set,
            as the images themselves are.
        data_root: where the data set is looked for.
        device: ``auto``, ``cpu``, ``cuda``, …
        observer: is told of steps and epochs.
        until: is asked after each epoch, with the metrics of all epochs so far; at True, the call
            ends, and the same call continues later if there is a folder.
        progress: whether a bar on standard error shows how far it is.
        group: of processes that train together, from ``process_group.joined``.
        module: the network to train, in place of one that the settings name: pixels ``N x *X`` in
            [0, 1] to logits ``N x K``. It is trained itself, no copy of it, from its own weights if
            the settings' ``regulariser.ibp_init`` is False. A call that continues a training gives
            a module of the same structure.

    Raises:
        VerifyPipelineError: a setting, the data or the folder is not as it must be.
    """
    check_given(images, module)
    place = group.in_turn(lambda: choose_device(device))
    folder = None if folder is None else Path(folder)
    if folder is not None:
        group.shared(partial(check_folder, folder))
    recipe = settings if isinstance(settings, Recipe) else None
    settings = training_of(settings, images)
    chosen = settings.data
    if info is None:
        info = group.in_turn(lambda: _information(chosen, images))
    if images is None:
        images = group.in_turn(lambda: chosen.images("train", data_root))
    cascade = None if recipe is None else _cascade(recipe.certify, info, place)
    with (
        watched(progress and group.is_first, observer) as watching,
        noted_training(folder if group.is_first else None, watching.training) as told,
    ):
        trained = training.train(
            settings,
            images,
            info,
            folder,
            observer=told,
            cascade=cascade,
            until=until,
            device=place,
            group=group,
            module=module,
        )
    if recipe is not None and folder is not None and group.is_first:
        write_whole(folder / RECIPE, dump(recipe))
    return trained


def export_onnx(
    trained: Trained | nn.Module,
    path: Path | str,
    *,
    input_shape: tuple[int, ...] | None = None,
    images: ImageSet | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ExportReport:
    """Write a network as the one ONNX file that is certified from then on.

    Args:
        trained: a training's result, whose settings go into the file's notes, or any module of
            pixels in [0, 1] to logits.
        path: of the file.
        input_shape: ``C x H x W``; None: of the images, or of the training's data set.
        images: real ones at which file and network are compared, besides random inputs.
        metadata: more notes for the file.

    Raises:
        NetworkError: the file would not compute what the network does.
        ConfigError: no way to know the input's shape.
    """
    module = trained.module if isinstance(trained, Trained) else trained
    notes = _notes(trained) if isinstance(trained, Trained) else {}
    shape = _shape(trained, images) if input_shape is None else input_shape
    real = None if images is None else images.pixels(slice(0, REAL_INPUTS))
    return onnx.export_onnx(module, path, shape, {**notes, **(metadata or {})}, real)


def export_folder(
    folder: Path,
    path: Path | None = None,
    data_root: Path | None = None,
    epoch: int | Literal["last", "best"] | None = None,
) -> ExportReport:
    """Export the finished training of a folder, compared at test images of its data set.

    Images that were given to :func:`train` are nowhere to be found: such a network is compared at
    random inputs alone.

    Args:
        folder: that :func:`train` wrote.
        path: of the file; None: in the folder, named after the recipe, and the epoch if one is
            given.
        data_root: where the data set is looked for.
        epoch: whose network is exported, as ``training.restore`` has it; None: the run's network.

    Raises:
        VerifyPipelineError: the training is missing or unfinished, or cannot be exported.
    """
    kept = folder / RECIPE
    recipe = load_recipe(kept) if kept.is_file() else None
    file_of_network = None if recipe is None else recipe.train.network.file
    moved = None if file_of_network is None else Path(file_of_network)
    trained = training.restore(folder, epoch=epoch, network_file=moved)
    name = "network" if recipe is None else recipe.name
    chosen = trained.settings.data if recipe is None else recipe.train.data
    images = chosen.images("test", data_root) if _can_be_found(chosen) else None
    file = f"{name}.onnx" if epoch is None else f"{name}-epoch-{trained.epoch}.onnx"
    path = folder / file if path is None else path
    return export_onnx(trained, path, images=images, metadata={"recipe": name})


def certify(
    network: NetworkLike,
    images: ImageSet | BoxSet,
    settings: CertifySettings | float,
    *,
    question: Question | None = None,
    ledger: Path | Ledger | None = None,
    observer: Observer | None = None,
    device: str = "auto",
    abcrown: Setup | None = None,
    progress: bool = False,
    jobs: int = 1,
    cluster: Cluster | None = None,
) -> Summary:
    """Certify images: against every change of their pixels by at most ε, if nothing else is asked.

    Args:
        network: from ``load_network`` or ``network_from_module``, the path of an ONNX file, or a
            torch module.
        images: of which ``settings.indices`` are certified; or boxes.
        settings: all of them, or ε alone.
        question: what is asked of each image; None: that it keeps its class.
        ledger: gets every verdict as it falls, and is continued; None: kept in memory only.
        observer: is told what happens.
        device: ``auto``, ``cpu``, ``cuda``, …
        abcrown: how α,β-CROWN is run, for settings with the stage ``abcrown``.
        progress: whether bars on standard error show how far it is.
        jobs: processes that certify; each takes a share of cores and memory.
        cluster: of Ray, whose workers certify instead; each may take the settings' memory.

    Raises:
        VerifyPipelineError: the file, images, settings or ledger are not as they must be.
    """
    place = choose_device(device)
    network, settings = network_of(network, images.shape), settings_of(settings)
    path = ledger.path if isinstance(ledger, Ledger) else ledger
    question = question or Question()
    pool = None
    if jobs != 1 or cluster is not None:
        pool = pool_of(network, images, settings, question, str(place), cluster or jobs)
    with (
        watched(progress, certification=observer) as watching,
        noted_certification(path, watching.certification) as told,
    ):
        return certify_set(
            network,
            images,
            settings,
            ledger,
            told,
            place,
            question=question,
            abcrown=None if abcrown is None else abcrown.stage,
            pool=pool,
        )


def record_proofs(
    network: Network | Path | str,
    images: ImageSet | BoxSet,
    settings: CertifySettings | float,
    summary: Summary,
    folder: Path,
    *,
    question: Question | None = None,
    jobs: int = 1,
) -> Recording:
    """Write a proof of each image that a certification has verified, for ``verify_checker``.

    Args:
        network: the ONNX file that was certified.
        images: as they were given to :func:`certify`.
        settings: as they were given to it.
        summary: its result.
        folder: for the proofs; those that are there are kept.
        question: as it was given to :func:`certify`.
        jobs: processes.

    Raises:
        ConfigError: proofs cannot be about this question or network.
        DataError: the folder cannot be written.
    """
    check_folder(folder)
    loaded, settings = network_of(network, images.shape), settings_of(settings)
    return proving.record_proofs(
        RecordingJob(loaded, images, settings, question or Question(), summary, folder), jobs
    )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What :func:`run` made.

    Attributes:
        export: of the network.
        summary: of the certification.
        tables: the files of the table.
    """

    export: ExportReport
    summary: Summary
    tables: tuple[Path, ...]


def run(
    recipe: Recipe,
    folder: Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    train_observer: TrainObserver | None = None,
    certify_observer: Observer | None = None,
    command: str = "verify_pipeline.api.run",
    progress: bool = False,
) -> Outcome:
    """Everything that a recipe says: train, export, certify the test images, tabulate.

    Args:
        recipe: what to do.
        folder: for everything; whatever is there already is continued.
        data_root: where the data set is looked for.
        device: ``auto``, ``cpu``, ``cuda``, …
        train_observer: is told of the training.
        certify_observer: is told of the certification.
        command: what makes the tables, as they tell their reader.
        progress: whether bars on standard error show how far it is.

    Raises:
        VerifyPipelineError: something in the recipe, the data or the folder is not as it must be.
    """
    test = recipe.train.data.images("test", data_root)
    check_certification(recipe.certify, len(test))
    path = folder / f"{recipe.name}.onnx"
    with watched(progress, train_observer, certify_observer) as watching:
        trained = train(
            recipe, folder, data_root=data_root, device=device, observer=watching.training
        )
        exported = export_onnx(trained, path, images=test, metadata={"recipe": recipe.name})
        summary = certify(
            path,
            test,
            recipe.certify,
            ledger=folder / LEDGER,
            observer=watching.certification,
            device=device,
        )
    return Outcome(exported, summary, tabulate([summary], folder, "table", command))


def _cascade(settings: CertifySettings, info: DataSetInfo, device: torch.device) -> Cascade:
    """Certification of a network that is still in training."""
    settings = replace(settings, indices=":")

    def cascade(module: nn.Module, images: ImageSet) -> dict[str, float]:
        network = onnx.network_from_module(module, info.shape)
        tally = certify_set(network, images, settings, device=device).tally
        return {
            "cascade_standard": tally.right / tally.images,
            "cascade_verified": tally.proved / tally.images,
        }

    return cascade


def _information(chosen: DataSettings | OwnDataSettings, images: ImageSet | None) -> DataSetInfo:
    """What is known of the images of a training."""
    if images is None or _can_be_found(chosen):
        return chosen.information()
    return DataSetInfo.of(images)


def _can_be_found(chosen: DataSettings | OwnDataSettings) -> bool:
    """Whether settings lead to images; the name of images that a caller gave does not."""
    return data.is_own(chosen) or data.knows(chosen.full_name)


def _notes(trained: Trained) -> dict[str, str]:
    settings = trained.settings
    training = {**asdict(_without_path(trained)), "data": data.without_places(settings.data)}
    training["network"]["file"] = settings.network.file and Path(settings.network.file).name
    notes = {
        "data": settings.data.full_name,
        "network": settings.network.label,
        "loss": settings.loss.name,
        "alpha": repr(settings.loss.alpha),
        "epsilon": repr(settings.epsilon.target),
        "seed": str(settings.seed),
        "training": json.dumps(training, ensure_ascii=False),
    }
    if trained.epoch is not None and trained.epoch != settings.optimiser.epochs:
        notes["epoch"] = str(trained.epoch)
    if settings.keep.network != "last":
        notes["epoch_is"] = f"{settings.keep.network} by {settings.keep.best}"
    if trained.lineage:
        notes["lineage"] = json.dumps([asdict(each) for each in trained.lineage])
    return notes


def _without_path(trained: Trained) -> TrainSettings:
    """The settings with the SHA-256 of what the training started from in place of its path."""
    settings = trained.settings
    if not trained.lineage:
        return settings
    start = replace(settings.start, weights=f"sha256:{trained.lineage[0].sha256}")
    return replace(settings, start=start)


def _shape(trained: Trained | nn.Module, images: ImageSet | None) -> tuple[int, ...]:
    if images is not None:
        return tuple(images.images.shape[1:])
    if isinstance(trained, Trained):
        return trained.info.shape
    raise ConfigError("export", expected="input_shape or images", got="neither")


def check_certification(settings: CertifySettings, images: int) -> None:
    """Refuse, before hours of training, what :func:`run` could not certify afterwards.

    Args:
        settings: of the certification.
        images: number of test images.

    Raises:
        ConfigError: the settings name images that are not there, or another tool.
    """
    parse_indices(settings.indices, images)
    if "abcrown" in settings.stages:
        raise ConfigError(
            "stage abcrown",
            expected="stages of this package",
            got="one that needs another tool",
            remedy="Certify the exported file with it: verify-pipeline certify … --engine abcrown.",
        )

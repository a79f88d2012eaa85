"""Certification of a network on a set of images: the entry point of the pipeline and the API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from verify_pipeline.certify.certifier import Certifier, RunPart, StageMaker
from verify_pipeline.certify.chance import remarks_on
from verify_pipeline.certify.contract import Certifiable, Clock, Observer
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.pool import Pool
from verify_pipeline.certify.questions import AskedQuestion, Question, ask
from verify_pipeline.certify.settings import CertifySettings, parse_indices
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import DataError


def certify_set(
    network: Certifiable,
    images: ImageSet | BoxSet,
    settings: CertifySettings,
    ledger: Ledger | Path | None = None,
    observer: Observer | None = None,
    device: torch.device | str = "cpu",
    clock: Clock = time.perf_counter,
    question: Question | None = None,
    abcrown: StageMaker | None = None,
    pool: Pool | None = None,
) -> Summary:
    """Certify images of a set; each verdict is written to the ledger at once.

    Args:
        network: as ``load_network`` or ``network_from_module`` gives it.
        images: the whole data set, or boxes; ``settings.indices`` says which of them.
        settings: ε, stages, time, memory.
        ledger: continued where it has verdicts of the same run already; a file that is not there
            is created once everything else is known to fit; None: kept in memory only.
        observer: is told what happens.
        device: where bounds and attacks are computed.
        clock: seconds from some origin.
        question: what is asked of each image; None: that the settings' ε leaves its class as it is.
        abcrown: makes the stage that asks α,β-CROWN, where the settings have it.
        pool: of workers that decide; None: this process does.

    Raises:
        ConfigError: settings that do not fit the data set.
        DataError: the network and the data set do not belong together.
        NetworkError: a weight is NaN or infinite, or onnxruntime computes something else in some
            box than the graph that is to be bounded.
        LedgerError: the ledger cannot be written, or holds an opposite verdict.
    """
    question = question or Question()
    asked = ask_settings(network, images, settings, question)
    certifier = Certifier.of(network, images, asked, settings, torch.device(device), clock, abcrown)
    indices = asked.instances.indices
    part = RunPart(certifier.info, indices, Extent.of(indices))
    with borrowed(ledger) as book:
        told = observer or Observer()
        (summary,) = certifier.certify(asked.instances, [part], book, told, pool)
    remarks = _remarks(summary, images, question, certifier.info.outputs or 0)
    return replace(summary, remarks=remarks)


def ask_settings(
    network: Certifiable,
    images: ImageSet | BoxSet,
    settings: CertifySettings,
    question: Question,
) -> AskedQuestion:
    """A question about the images that settings name, with their ε if it leaves that open.

    Raises:
        ConfigError: settings that do not fit the data set.
        DataError: the network, the data set and the question do not belong together.
    """
    chosen = parse_indices(settings.indices, len(images))
    if not chosen:
        raise DataError(f"indices {settings.indices}", expected="some images", got="none")
    return ask(network, images, chosen, question, settings.epsilon)


@contextmanager
def borrowed(ledger: Ledger | Path | None) -> Iterator[Ledger]:
    """An open ledger: a given one stays open; one from a file or in memory is closed."""
    if isinstance(ledger, Ledger):
        yield ledger
        return
    with Ledger.in_memory() if ledger is None else Ledger.open(ledger) as own:
        yield own


def _remarks(
    summary: Summary, images: ImageSet | BoxSet, question: Question, classes: int
) -> tuple[str, ...]:
    """Remarks on what to check first, if images have to keep their classes."""
    if isinstance(images, BoxSet) or summary.info.run.specification != MARGINS.name:
        return ()
    tally = summary.tally
    return remarks_on(tally.right, tally.images, classes, images.name, question.preprocessing)

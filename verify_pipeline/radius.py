"""The composition root of robustness radii: of every image of a set, and their table."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from verify_pipeline.certify.brackets import epsilon_grid
from verify_pipeline.certify.certifier import Certifier
from verify_pipeline.certify.chance import remarks_on
from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.radii import RobustnessDistribution
from verify_pipeline.certify.radius_search import search_radii
from verify_pipeline.certify.run import ask_settings, borrowed
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.conversions import NetworkLike, choose_device, network_of, settings_of
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.reporting import watched_radius

STEPS = 16
"""Steps of ε where nothing else is said; up to 16/255, each is 1/255."""


def radius(
    network: NetworkLike,
    images: ImageSet,
    settings: CertifySettings | float,
    *,
    steps: int = STEPS,
    question: Question | None = None,
    ledger: Path | Ledger | None = None,
    observer: Observer | None = None,
    device: str = "auto",
    progress: bool = False,
) -> RobustnessDistribution:
    """For each image, the largest ε that is verified and the least one that is falsified.

    All images are bisected together over a grid of ε: each round certifies those whose interval is
    open as one batch, each at its own ε. Every verdict is in the ledger's run of its ε, so that the
    same call continues after an interruption, and uses what ``certify`` decided.

    Args:
        network: from ``load_network`` or ``network_from_module``, the path of an ONNX file, or a
            torch module.
        images: of which ``settings.indices`` are searched.
        settings: all of them, with the largest ε as theirs, or that ε alone. The timeout is for
            each image and each ε.
        steps: how many ε are between 0 and the largest one, with that; from 1 to 10,000.
        question: what has to hold, of which pixels; None: that each image keeps its class.
        ledger: is read, and gets every verdict as it falls; None: kept in memory only.
        observer: is told what happens; each round is a certification.
        device: ``auto``, ``cpu``, ``cuda``, …
        progress: whether bars on standard error show how far it is.

    Raises:
        VerifyPipelineError: the file, images, settings or ledger are not as they must be.
    """
    place, settings = choose_device(device), settings_of(settings)
    question = question or Question()
    grid = epsilon_grid(settings.epsilon, steps)
    _check(settings, question)
    network = network_of(network, images.shape)
    asked = ask_settings(network, images, settings, question)
    if not isinstance(asked.instances, RobustImages):
        raise ConfigError("radius", expected="images", got="boxes, which have no ε")
    certifier = Certifier.of(network, images, asked, settings, place, time.perf_counter)
    with borrowed(ledger) as book, watched_radius(progress, observer) as watching:
        radii = search_radii(certifier, asked.instances, grid, book, watching)
    return replace(radii, remarks=(*radii.remarks, *_like_guessing(radii, question)))


def _check(settings: CertifySettings, question: Question) -> None:
    """Refuse what has no single ε, and what is no proof of this package."""
    if question.perturbation is not None:
        raise ConfigError(
            "radius",
            expected="a question that leaves ε open",
            got=question.perturbation.name,
            remedy="The largest ε is the settings'.",
        )
    if "abcrown" in settings.stages:
        raise ConfigError("radius", expected="stages of this package", got="abcrown")


def _like_guessing(radii: RobustnessDistribution, question: Question) -> tuple[str, ...]:
    """A remark on a network that is right no more often than by guessing."""
    info = radii.info
    if info.run.specification != MARGINS.name:
        return ()
    count, classes = len(radii.images), info.outputs or 0
    return remarks_on(radii.right, count, classes, info.run.data_set, question.preprocessing)

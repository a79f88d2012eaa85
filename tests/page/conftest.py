"""A run that has every kind of verdict, and a browser without a window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.onnx_networks import node, onnx_file, singles
from verify_pipeline import api

SIDE, CLASSES = 4, 3
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><b>bold</b>", "R&D \"quoted\" 'name'")
"""Names of classes that would change the page if they were markup."""

LONG = ("name_of_a_class_" * 5, "the name of a class " * 5, "\u05d0\u05d1\u05d2 (\u05d3)")
"""Names without a place to break, with many, and one that is read from the right."""


@dataclass(frozen=True)
class CertifiedRun:
    """A folder with a network, its images and its ledger.

    Attributes:
        folder: of ``net.onnx``, ``images.npy``, ``labels.npy`` and ``ledger.sqlite``.
        images: as the run names them.
        summary: of the run.
    """

    folder: Path
    images: api.ImageSet
    summary: api.Summary


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> CertifiedRun:
    """80 images of 4 x 4 pixels, of which some are wrong, falsified, verified and open."""
    folder = tmp_path_factory.mktemp("certified")
    random = np.random.default_rng(0)
    size, hidden = SIDE * SIDE, 12
    weights = singles(
        a=random.normal(size=(size, hidden)) / 2, b=random.normal(size=(hidden, CLASSES)) / 2
    )
    nodes = [
        node("Flatten", "x", "flat"),
        node("MatMul", "flat", "a", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r", "b", "y"),
    ]
    (folder / "net.onnx").write_bytes(onnx_file(nodes, ("n", 1, SIDE, SIDE), weights))
    pixels = random.random((80, 1, SIDE, SIDE)).astype(np.float32)
    network = api.load_network(folder / "net.onnx")
    labels = network.replay(torch.from_numpy(pixels)).argmax(1).numpy()
    labels[::10] = (labels[::10] + 1) % CLASSES
    np.save(folder / "images.npy", pixels)
    np.save(folder / "labels.npy", labels)
    images = api.ImageSet(
        "images", "arrays", torch.from_numpy(pixels), torch.from_numpy(labels), CLASSES
    )
    settings = api.CertifySettings(epsilon=0.06, stages=("clean", "ibp", "attack"))
    summary = api.certify(network, images, settings, ledger=folder / "ledger.sqlite")
    return CertifiedRun(folder, images, summary)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window, driven by selenium."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="NOT TESTED IN A BROWSER: selenium is not installed"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("NOT TESTED IN A BROWSER: chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    arguments = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage")
    # without motion, what is scrolled to stands still when it is clicked
    for argument in (*arguments, "--force-prefers-reduced-motion"):
        options.add_argument(argument)
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # chromium refuses its sandbox to root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as opened:
        yield opened


@pytest.fixture(scope="session")
def page(certified: CertifiedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return api.report(
        [certified.folder], path, images=certified.images, class_names=HOSTILE, gallery=4
    )


@pytest.fixture(scope="session")
def two_runs(certified: CertifiedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that folds its runs, of which the second has one image."""
    first = replace(certified.summary, records=certified.summary.records[:1], asked=None)
    path = tmp_path_factory.mktemp("two") / "report.html"
    return api.report([certified.folder, first], path, images=certified.images, gallery=2)

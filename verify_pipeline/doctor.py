"""What is installed here and what would be used: the facts behind `verify-pipeline doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from verify_pipeline import lirpa
from verify_pipeline._version import __version__
from verify_pipeline.data.files import ROOT_VARIABLE, open_store
from verify_pipeline.engines.tool import HOME_VARIABLE, PYTHON_VARIABLE, find_tool
from verify_pipeline.errors import DependencyError, VerifyPipelineError

_LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "pydantic", "highspy", "safetensors")
_OPTIONAL = {
    "scikit-learn": "demo",
    "tensorboard": "tensorboard",
    "matplotlib": "plots",
    "optuna": "tune",
}


@dataclass(frozen=True)
class Finding:
    """One fact about the machine.

    Attributes:
        subject: what it is about.
        fact: what was found.
        missing: whether something that the main commands need is not there.
        remedy: what to do about that, or how to get an optional part.
    """

    subject: str
    fact: str
    missing: bool = False
    remedy: str = ""


def examine(data_root: Path | None = None) -> Iterator[Finding]:
    """Look at everything that a run depends on.

    Args:
        data_root: as given to the other commands.
    """
    yield Finding("verify_pipeline", __version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    yield from (_library(name) for name in _LIBRARIES)
    yield from (_library(name, extra) for name, extra in _OPTIONAL.items())
    yield _device()
    yield _auto_lirpa()
    yield _abcrown()
    yield _data(data_root)


def _library(name: str, extra: str | None = None) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        if extra is None:
            return Finding(name, "not installed", True, f"pip install {name}")
        return Finding(
            name, "not installed (optional)", remedy=f"pip install 'verify_pipeline[{extra}]'"
        )


def _device() -> Finding:
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores"
    if not torch.cuda.is_available():
        return Finding("device", f"cpu, {threads}")
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / 2**30
    return Finding("device", f"cuda, {properties.name}, {memory:.0f} GiB; {threads}")


def _auto_lirpa() -> Finding:
    try:
        found = lirpa.load()
    except VerifyPipelineError as error:
        return Finding("auto_LiRPA", error.what, True, error.remedy or "")
    shims = f"shims: {', '.join(found.shims)}" if found.shims else "no shims needed"
    return Finding("auto_LiRPA", f"{found.version} ({found.module.__file__}); {shims}")


def _abcrown() -> Finding:
    """The second engine, which is optional."""
    try:
        tool = find_tool()
    except DependencyError as error:
        if error.expected is None:
            variables = f"{HOME_VARIABLE} would name a checkout, {PYTHON_VARIABLE} its Python"
            return Finding("α,β-CROWN", f"none found (optional; {variables})")
        fact = f"expected {error.expected}, got {error.got}"
        return Finding(error.what, fact, remedy=error.remedy or "")
    return Finding(
        "α,β-CROWN", f"{tool.script} ({tool.origin}), {tool.version}, run by {tool.python}"
    )


def _data(root: Path | None) -> Finding:
    try:
        store = open_store(root)
    except VerifyPipelineError as error:
        return Finding("data root", str(error), True, "Name a folder that exists")
    if store.root is None:
        return Finding(
            "data root",
            f"none ({ROOT_VARIABLE} and --data-root would name one); downloads go to {store.cache}",
        )
    return Finding("data root", f"{store.root}; downloads go to {store.cache}")

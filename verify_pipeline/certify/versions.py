"""Versions of the packages that decide: they stand in a ledger's rows, and workers share them."""

from __future__ import annotations

import platform
from importlib import metadata

from verify_pipeline._version import __version__
from verify_pipeline.errors import ProcessError

VERSIONED = ("torch", "onnx", "onnxruntime", "numpy", "highspy")


def versions() -> str:
    """Versions of this package and of those that decide, for a ledger's rows."""
    found = [f"verify_pipeline {__version__}", f"python {platform.python_version()}"]
    for name in VERSIONED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def refuse_others(expected: str) -> None:
    """Refuse to work where other versions would decide than the driver writes down.

    Args:
        expected: :func:`versions` of the driver.

    Raises:
        ProcessError: they are others here.
    """
    here = versions()
    if here != expected:
        ours, its = expected.split(", "), here.split(", ")
        raise ProcessError(
            f"worker on {platform.node()}",
            expected=", ".join(each for each in ours if each not in its) or "no more packages",
            got=", ".join(each for each in its if each not in ours) or "none of it",
            remedy="Install the same versions on all machines: a ledger names those that decide.",
        )

"""Commands as they are typed, and a network that is small enough to be written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.onnx_networks import two_pixel_file
from verify_pipeline.cli.app import app


def write_network(path: Path, weight: NDArray[Any], operators: Sequence[str] = ()) -> Path:
    """A linear classifier of 2 pixels, with more operators before its weights."""
    path.write_bytes(two_pixel_file(weight, operators))
    return path


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command; a traceback is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr

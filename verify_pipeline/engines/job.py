"""Input files of one run of α,β-CROWN: properties, their list, and a configuration."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.engines.inside_tool import (
    LOADER,
    LOADER_FILE,
    MODULES_FILE,
    SAVER,
    SAVER_FILE,
)
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.interop.counterexamples import read_counterexample
from verify_pipeline.problem import Specification
from verify_pipeline.strict_yaml import parse

CONFIG, INSTANCES, RESULTS, LOG = "config.yaml", "instances.csv", "results.pkl", "abcrown.log"
POINTS = "counterexamples"

FOR_RELUS = ("babsr", "fsb", "kfsb")
"""Methods of the built-in search that the tool refuses when it splits inputs."""

_OURS = ("start", "end", "select_instance", "dataset", "pkl_path", "data_idx_file")


@dataclass(frozen=True)
class ToolQuestion:
    """One property of one network.

    Attributes:
        onnx: the network's file.
        vnnlib: the property's text, VNN-LIB 1.0.
        seconds: for it, > 0.
        module: the network as Python, see :func:`write_module`, for the case that the tool
            misreads the file; None: there is none.
    """

    onnx: Path
    vnnlib: str
    seconds: float
    module: Path | None = None


def write_job(folder: Path, questions: Sequence[ToolQuestion], config: str, device: str) -> Path:
    """Write all files that one process needs to answer some questions in order.

    Args:
        folder: is made; its files are this run's alone.
        questions: at least one.
        config: YAML text in α,β-CROWN's schema, see :func:`configuration`.
        device: ``cpu`` or ``cuda``.

    Returns:
        The configuration's path.

    Raises:
        ConfigError: the configuration is not as it must be.
        DataError: a file cannot be written.
    """
    place = folder.absolute()
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for number, question in enumerate(questions):
        write_whole(place / f"{number}.vnnlib", question.vnnlib)
        name = f"{number}.vnnlib"
        writer.writerow((question.onnx.absolute(), name, f"{question.seconds:.3f}"))
    write_whole(place / INSTANCES, rows.getvalue())
    for file, content in ((SAVER_FILE, SAVER), (LOADER_FILE, LOADER)):
        write_whole(place / file, content)
    modules = {str(q.onnx.absolute()): str(q.module.absolute()) for q in questions if q.module}
    write_whole(place / MODULES_FILE, json.dumps(modules))
    text = yaml.safe_dump(configuration(config, place, device), sort_keys=False)
    return write_whole(place / CONFIG, text)


def configuration(text: str, folder: Path, device: str) -> dict[str, Any]:
    """The configuration with this run's additions: list, device, and paths of results.

    ``complete_verifier`` stays as the file says unless that is ``auto``, which may choose Gurobi.
    Where inputs are split, a ``branching.method`` that is meant for ReLUs becomes ``sb``.

    Raises:
        ConfigError: the text is no YAML of sections.
    """
    document = parse(text)
    if document.problems or not isinstance(document.value, dict):
        raise ConfigError("α,β-CROWN's configuration", expected="YAML sections", got="other text")
    found = copy.deepcopy(document.value)
    for name in ("general", "model", "data", "specification", "bab", "attack"):
        section = found.setdefault(name, {})
        if not isinstance(section, dict):
            raise ConfigError(name, expected="a section", got=repr(section))
    general = found["general"]
    if general.get("complete_verifier", "auto") == "auto":
        general["complete_verifier"] = "bab"
    general |= {
        "device": device,
        "root_path": str(folder),
        "csv_name": INSTANCES,
        "results_file": str(folder / RESULTS),
        "save_adv_example": True,
    }
    for section, keys in (("data", _OURS), ("specification", ("vnnlib_path",))):
        for key in keys:
            found[section].pop(key, None)
    for key in ("name", "path", "onnx_path"):
        found["model"].pop(key, None)
    for key in ("timeout", "override_timeout"):  # each instance's stands in the list
        found["bab"].pop(key, None)
    branching = found["bab"].get("branching") or {}
    splits_inputs = (branching.get("input_split") or {}).get("enable", False)
    if splits_inputs and branching.get("method") in FOR_RELUS:
        branching["method"] = "sb"
    found["attack"] |= {
        "cex_path": str(folder / "counterexample.txt"),
        "adv_saver": f'Customized("{SAVER_FILE}", "save")',
    }
    found["model"].setdefault("onnx_loader", f'Customized("{LOADER_FILE}", "load")')
    return found


def read_point(folder: Path, place: int) -> Tensor | None:
    """The counterexample that the tool saved, flat float64; None if there is no readable one."""
    try:
        return read_counterexample(folder / POINTS / f"{place}.txt").inputs
    except DataError:
        return None


def discard_bulk(folder: Path) -> None:
    """Delete the properties of a run that is over; log, list, configuration and results stay."""
    for pattern in ("*.vnnlib", "*.vnnlib.compiled"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def can_be_asked(spec: Specification) -> bool:
    """Whether the tool's reader supports every row of a single specification.

    It reads ``f_i - f_j > 0`` and ``f_i + d > 0``; all of them have to hold.
    """
    if spec.spare:
        return False
    for row, offset in zip(spec.rows[0].tolist(), spec.offsets[0].tolist(), strict=True):
        terms = sorted(value for value in row if value != 0)
        if terms != [1.0] and not (terms == [-1.0, 1.0] and offset == 0):
            return False
    return True

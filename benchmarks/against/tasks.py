"""Tasks: which instances, of which networks, for how many seconds, with which configurations."""

from __future__ import annotations

import hashlib
import re
import shlex
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from verify_pipeline.certify.settings import parse_indices, search_file
from verify_pipeline.config import read_settings
from verify_pipeline.data import ImageSet, load
from verify_pipeline.errors import ConfigError, VerifyPipelineError
from verify_pipeline.interop.instance_list import SetInstance, read_instances
from verify_pipeline.onnx import load_network
from verify_pipeline.settings import STRICT, Positive, Text

COMMAND = "benchmarks/against_abcrown.py"

EngineName = Literal["cascade", "cascade-giving-up", "abcrown-default", "abcrown-tuned"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
OURS, THEIRS = ENGINES[:2], ENGINES[2:]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Job:
    """A task: images of a data set, or lines of a list (then ``data`` is empty).

    Attributes:
        source: path of the network, or of the list.
        data: the set's name; its test split.
        epsilon: as typed, ``2/255``.
        indices: which images or lines.
        timeout: seconds for each, > 0.
        tuned: α,β-CROWN's configuration: a name in abcrown_configs/, or a path.
        search: our settings, likewise; empty: this package's defaults.
        device: ``cpu`` or ``cuda``.
        skip: engines that a run of all tasks leaves out here.
    """

    source: Text
    data: str = ""
    epsilon: Annotated[str, BeforeValidator(str)] = ""
    indices: Text = ":"
    timeout: Positive = 60.0
    tuned: Text = "default"
    search: str = ""
    device: Text = "cpu"
    skip: tuple[EngineName, ...] = ()

    @property
    def name(self) -> str:
        """What a table calls it; tasks of one name have the same answers."""
        path = Path(self.source)
        named = " ".join(path.parts[-3:-1]) or path.stem
        about = f"{path.stem}, ε {self.epsilon}" if self.data else named
        ours = f", ours {self.search}" if self.search else ""
        where = f", on {self.device}" if self.device != "cpu" else ""
        return f"{about}, {self.indices}, {self.timeout:g} s, tuned {self.tuned}{ours}{where}"

    @property
    def folder(self) -> str:
        """The name as a folder's; the digits keep apart what looks alike without its signs."""
        digits = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return re.sub(r"[^\w.]+", "-", self.name) + f"-{digits}"

    @property
    def command(self) -> str:
        """What runs it alone."""
        parts = ["python", COMMAND, "images" if self.data else "list", self.source]
        parts += ["--data", self.data, "--epsilon", self.epsilon] if self.data else []
        parts += ["--indices", self.indices, "--timeout", f"{self.timeout:g}"]
        parts += ["--tuned", self.tuned]
        parts += ["--search", self.search] if self.search else []
        parts += ["--device", self.device] if self.device != "cpu" else []
        return shlex.join(parts)

    def lines(self) -> list[SetInstance]:
        """The instances of a list that are asked for.

        Raises:
            ConfigError: the indices are not as they must be.
            DataError: the list is not as it must be.
        """
        instances = read_instances(Path(self.source))
        return [instances[place] for place in parse_indices(self.indices, len(instances))]

    def images(self) -> tuple[ImageSet, list[int]]:
        """The test split, and the places of the images that are asked for.

        Raises:
            ConfigError: the set's name or the indices are not as they must be.
            DataError: the set cannot be read.
        """
        images = load(self.data, "test")
        return images, parse_indices(self.indices, len(images))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Tasks:
    """A file of tasks."""

    tasks: tuple[Job, ...]


def read_tasks(path: Path) -> tuple[Job, ...]:
    """The tasks of a YAML file: a list ``tasks`` of what :class:`Job` has.

    Raises:
        ConfigError: the file is not as it must be; all mistakes are listed.
    """
    jobs = read_settings(_Tasks, path).tasks
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not jobs:
        raise ConfigError(str(path), expected="tasks, each once", got="; ".join(twice) or "none")
    return jobs


def check(job: Job) -> None:
    """Look for everything that a task needs, before anything runs.

    Raises:
        ConfigError: something is missing or is not as it must be.
    """
    try:
        search_file(job.tuned)
        if job.search:
            search_file(job.search)
        if job.data:
            load_network(job.source)
            if _fraction(job.epsilon) <= 0:
                raise ConfigError("epsilon", expected="a number > 0", got=repr(job.epsilon))
        if not (job.images()[1] if job.data else job.lines()):
            raise ConfigError("indices", expected="at least one instance", got=job.indices)
    except VerifyPipelineError as error:
        raise ConfigError(f"task {job.name!r}: {error}") from None


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return Fraction(0)

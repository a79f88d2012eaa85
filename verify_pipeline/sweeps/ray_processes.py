"""Runs as processes on the nodes of a cluster of Ray.

A node's worker starts the run's process as :mod:`verify_pipeline.sweeps.processes` does on this
machine, in the folder in which the command was typed. All nodes share the folders, so that logs,
checkpoints and ledgers are where one machine would have them. A process ends when its worker does.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from verify_pipeline._version import __version__
from verify_pipeline.errors import DataError, ProcessError
from verify_pipeline.ray_cluster import Cluster, connected, why
from verify_pipeline.sweeps.processes import (
    LOG,
    WORKER,
    Ended,
    Launcher,
    LocalLauncher,
    RunJob,
    run_all,
)

ATTEMPTS = 3
"""Workers that may be lost with a run before it counts as failed."""

LOOK = 1.0
"""Seconds that are waited for a run to end before Ctrl-C is looked for."""

PATIENCE = 120.0
"""Seconds that a node may take to start a worker, or to end it."""


class RayLauncher(Launcher):
    """Processes on the nodes of a cluster; each is started by a task of Ray.

    Args:
        ray: the package, connected.
        jobs: at once.
        options: of the tasks: what they get of the cluster.
        program: that does a job; None: this package's, by the node's own Python.
    """

    def __init__(
        self, ray: Any, jobs: int, options: dict[str, Any], program: Sequence[str] | None = None
    ) -> None:
        self._ray, self._jobs, self._program = ray, jobs, program
        self._task = ray.remote(_do).options(max_retries=0, **options)
        self._threads = int(options["num_cpus"])
        self._running: dict[Any, RunJob] = {}
        self._lost: Counter[str] = Counter()

    @property
    def jobs(self) -> int:
        """How many run at once."""
        return self._jobs

    def start(self, job: RunJob) -> None:
        """Start a job on a node that has room."""
        task = self._task.remote(job, str(Path.cwd()), self._threads, self._program)
        self._running[task] = job

    def ended(self) -> Sequence[Ended]:
        """The jobs that have ended; those of lost workers are started again."""
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=LOOK)
        ended = (self._end(task, self._running.pop(task)) for task in done)
        return [each for each in ended if each is not None]

    def _end(self, task: Any, job: RunJob) -> Ended | None:
        exceptions = self._ray.exceptions
        try:
            ended: Ended = self._ray.get(task)
        except exceptions.RayTaskError as error:  # the process could not be started
            return Ended(job, why(error), 0.0)
        except exceptions.RayError as error:
            return self._again(job, why(error))
        return ended

    def _again(self, job: RunJob, lost: str) -> Ended | None:
        self._lost[job.name] += 1
        if self._lost[job.name] == ATTEMPTS:
            return Ended(job, f"{ATTEMPTS} workers were lost with it, the last one: {lost}", 0.0)
        with suppress(OSError), (job.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"a worker was lost, the run is started again: {lost}\n")
        self.start(job)
        return None

    def stop(self) -> None:
        """End all tasks, and their processes with them."""
        running = list(self._running)
        for task in running:
            self._ray.cancel(task, force=True)
        if running:
            self._ray.wait(running, num_returns=len(running), timeout=PATIENCE)
        self._running = {}


@contextmanager
def launching_by_ray(
    cluster: Cluster, folder: Path, device: str, program: Sequence[str] | None = None
) -> Iterator[RayLauncher]:
    """A launcher on a cluster, once all of its nodes see the folder; it ends with the block.

    Args:
        cluster: that jobs run on.
        folder: that they write into.
        device: ``auto``: each run gets a GPU if the cluster has any; ``cpu``, ``cuda``, …
        program: see :class:`RayLauncher`.

    Raises:
        DependencyError: Ray is not installed.
        ProcessError: the cluster does not answer, has no room, or does not see the folder.
        DataError: the folder cannot be written.
    """
    with connected(cluster) as ray:
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        gpu = device.startswith("cuda") or (device == "auto" and has_gpus)
        jobs = cluster.room(ray, gpu)
        _refuse_unshared(ray, folder, cluster.nodes(ray, gpu))
        yield RayLauncher(ray, jobs, cluster.options(gpu), program)


def _do(job: RunJob, place: str, threads: int, program: Sequence[str] | None) -> Ended:
    """On a node: do a job in a process."""
    os.chdir(place)
    jobs = iter([job])
    (ended,) = run_all(lambda: next(jobs, None), LocalLauncher(1, threads, program or WORKER))
    return ended


def _refuse_unshared(ray: Any, folder: Path, nodes: Sequence[dict[str, Any]]) -> None:
    """Refuse a node that does not read here what this process writes, or has another version."""
    where = folder.absolute()
    nearest = next(path for path in (where, *where.parents) if path.is_dir())
    token = uuid.uuid4().hex
    path = nearest / f".{token}.shared"
    try:
        path.write_text(token, encoding="utf-8")
        for node in nodes:
            name = f"node {node['NodeManagerAddress']} of the cluster"
            version, text = _seen(ray, node["NodeID"], name, path)
            if version != __version__:
                raise ProcessError(name, expected=f"verify_pipeline {__version__}", got=version)
            if text != token:
                raise ProcessError(
                    f"folder {folder} at {name}",
                    expected="what is written there on this machine",
                    got=text,
                    remedy="All nodes have to share --out, and the folder the command is typed in.",
                )
    except OSError as error:
        expected = "a folder that can be written"
        raise DataError(f"folder {nearest}", expected=expected, got=str(error)) from error
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _seen(ray: Any, node: str, name: str, path: Path) -> tuple[str, str]:
    """The version of this package on a node, and what a file has there."""
    there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    look = ray.remote(_look).options(num_cpus=0, scheduling_strategy=there)
    try:
        version, text = ray.get(look.remote(str(Path.cwd()), path), timeout=PATIENCE)
    except ray.exceptions.RayError as error:
        expected = f"a Python that has verify_pipeline {__version__}"
        raise ProcessError(name, expected=expected, got=why(error)) from error
    return version, text


def _look(place: str, path: Path) -> tuple[str, str]:
    """On a node: this package's version, and a file's text, or why it cannot be read."""
    try:
        os.chdir(place)
        return __version__, path.read_text(encoding="utf-8")
    except OSError as error:
        return __version__, f"{error.strerror}: {error.filename}"

"""Workers that are actors of Ray, on this machine or on all machines of a cluster.

Moritz et al. 2018 (arXiv:1712.05889). Each worker is an actor of its own, with a GPU or some cores;
the network and the images are put into Ray's store once.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from verify_pipeline.certify.local_workers import THREADS
from verify_pipeline.certify.pool import Crew, Event, Failed, ImageDecided, Lost, Ready
from verify_pipeline.certify.worker import WorkerJob, serve
from verify_pipeline.errors import (
    ConfigError,
    DependencyError,
    ProcessError,
    VerifyPipelineError,
)

PATIENCE = 20.0
"""Seconds that a cluster may take to answer."""


@dataclass(frozen=True)
class Cluster:
    """Ray's cluster, and what a worker gets of it.

    Attributes:
        address: of a running cluster, such as ``auto`` or ``ray://head:10001``; None: one that is
            started on this machine and ends with the certification.
        workers: how many; None: as many as there are GPUs or cores for.
        cores: of each worker.
    """

    address: str | None = None
    workers: int | None = None
    cores: int = 1

    def __post_init__(self) -> None:
        for name, value in (("--jobs", self.workers), ("--cores", self.cores)):
            if value is not None and value < 1:
                raise ConfigError(name, expected="at least 1", got=str(value))


class _Actor:
    """A worker; its first task gives its job, each later one images."""

    def __init__(self, job: WorkerJob) -> None:
        self._given: SimpleQueue[tuple[int, ...]] = SimpleQueue()
        self._told: SimpleQueue[Event] = SimpleQueue()
        threading.Thread(target=self._work, args=(job,), daemon=True).start()

    def _work(self, job: WorkerJob) -> None:
        try:
            serve(job, self._given.get, self._told.put)
        except VerifyPipelineError as error:
            self._told.put(Failed(error))
        except Exception as error:  # as if the process had ended: others get its images
            self._told.put(Lost(f"{type(error).__name__}: {error}"))

    def tell(self) -> Iterator[Event]:
        """What happens until the worker is ready for images."""
        while True:
            event = self._told.get()
            yield event
            if not isinstance(event, ImageDecided):
                return

    def take(self, indices: tuple[int, ...]) -> Iterator[Event]:
        """The same, with images to certify."""
        self._given.put(indices)
        yield from self.tell()


class RayCrew(Crew):
    """Actors of a cluster.

    Args:
        ray: the package.
        job: of every worker.
        workers: how many there are going to be.
        options: of the actors: what they get of the cluster.
    """

    def __init__(self, ray: Any, job: WorkerJob, workers: int, options: dict[str, Any]) -> None:
        self._ray, self._count, self._options = ray, workers, options
        self._job = ray.put(job)
        self._actors: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    @property
    def workers(self) -> int:
        """How many there are at most."""
        return self._count

    def start(self, worker: int) -> None:
        """Start an actor; Ray places it where there is room."""
        actor = self._ray.remote(_Actor).options(**self._options).remote(self._job)
        self._actors[worker] = actor
        self._streams[worker] = actor.tell.options(num_returns="streaming").remote()

    def give(self, worker: int, indices: Sequence[int]) -> None:
        """Send images."""
        actor = self._actors[worker]
        self._streams[worker] = actor.take.options(num_returns="streaming").remote(tuple(indices))

    def events(self) -> Iterator[tuple[int, Event]]:
        """What has come from some workers."""
        by_stream = {stream: worker for worker, stream in self._streams.items()}
        ready, _ = self._ray.wait(list(by_stream), num_returns=1)
        for stream in ready:
            worker = by_stream[stream]
            event = self._next(stream)
            if not isinstance(event, ImageDecided):
                del self._streams[worker]
            if isinstance(event, Lost):
                self._ray.kill(self._actors.pop(worker))
            yield worker, event

    def _next(self, stream: Any) -> Event:
        try:
            event: Event = self._ray.get(next(stream))
        except StopIteration:
            return Ready()
        except self._ray.exceptions.RayError as error:
            return Lost(str(error).splitlines()[0])
        return event

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors.values():
            self._ray.kill(actor)


@contextmanager
def hired_by_ray(job: WorkerJob, cluster: Cluster) -> Iterator[RayCrew]:
    """A crew whose actors end with the block; so does a cluster that was started for it.

    Args:
        job: of every worker.
        cluster: that they run on.

    Raises:
        DependencyError: Ray is not installed.
        ProcessError: the cluster does not answer, or has not what the workers need.
    """
    ray = _package()
    _connect(ray, cluster)
    try:
        workers = _workers(ray.cluster_resources(), job, cluster)
        crew = RayCrew(ray, job, workers, _options(job, cluster))
        try:
            yield crew
        finally:
            crew.close()
    finally:
        ray.shutdown()


def _connect(ray: Any, cluster: Cluster) -> None:
    _reach(cluster.address)
    try:
        ray.init(
            address=cluster.address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _no_answer(cluster.address, error) from error


def _reach(address: str | None) -> None:
    """Refuse an address where nothing answers: Ray would try for minutes, then end the process."""
    found = re.fullmatch(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d{1,5})", address or "")
    if found is None:
        return
    try:
        socket.create_connection((found["host"], int(found["port"])), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str | None, error: Exception) -> ProcessError:
    return ProcessError(
        f"Ray's cluster at {address or 'this machine'}",
        expected="one that answers",
        got=(str(error).splitlines() or [type(error).__name__])[0],
        remedy="`ray status` shows a running cluster, `ray start --head` starts one.",
    )


def _workers(has: dict[str, float], job: WorkerJob, cluster: Cluster) -> int:
    """As many workers as were asked for, or as fit."""
    room = int(has.get("GPU", 0)) if _takes_gpu(job) else int(has.get("CPU", 0)) // cluster.cores
    wanted = room if cluster.workers is None else cluster.workers
    if not 1 <= wanted <= room:
        needs = "a GPU" if _takes_gpu(job) else f"{cluster.cores} cores"
        raise ProcessError(
            "Ray's cluster",
            expected=f"room for {max(wanted, 1)} workers of {needs}",
            got=f"room for {room}",
            remedy="Ask for fewer with --jobs, or for fewer --cores each.",
        )
    return wanted


def _options(job: WorkerJob, cluster: Cluster) -> dict[str, Any]:
    threads = dict.fromkeys(THREADS, str(cluster.cores))
    return {
        "num_cpus": cluster.cores,
        "num_gpus": 1 if _takes_gpu(job) else 0,
        "runtime_env": {"env_vars": threads},
    }


def _takes_gpu(job: WorkerJob) -> bool:
    return job.device.startswith("cuda")


def _package() -> Any:
    try:
        import ray
    except ImportError:
        raise DependencyError(
            "Ray is not installed",
            remedy="Install it with: pip install 'verify_pipeline[cluster]'",
        ) from None
    return ray

"""Workers that are actors of Ray, on this machine or on all machines of a cluster.

Each worker is an actor of its own, with a GPU or some cores; the job, with the network and the
images, is put into Ray's store once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from verify_pipeline.certify.hand_out import (
    Crew,
    CrewJob,
    Event,
    Failed,
    Finished,
    Lost,
    StageBegun,
)
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.ray_cluster import THREADS, Cluster, connected, why


class _Actor:
    """A worker; its first task gives its job, each later one units."""

    def __init__(self, job: CrewJob) -> None:
        self._given: SimpleQueue[tuple[int, ...]] = SimpleQueue()
        self._told: SimpleQueue[Event] = SimpleQueue()
        threading.Thread(target=self._work, args=(job,), daemon=True).start()

    def _work(self, job: CrewJob) -> None:
        try:
            job.serve(self._given.get, self._told.put)
        except VerifyPipelineError as error:
            self._told.put(Failed(error))
        except Exception as error:  # as if the process had ended: others get its units
            self._told.put(Lost(f"{type(error).__name__}: {error}"))

    def tell(self) -> list[Event]:
        """What has happened since this was asked last; waits for at least one event."""
        events = [self._told.get()]
        while not self._told.empty():
            events.append(self._told.get())
        return events

    def take(self, indices: tuple[int, ...]) -> list[Event]:
        """The same, with units to do."""
        self._given.put(indices)
        return self.tell()


class RayCrew(Crew):
    """Actors of a cluster.

    Args:
        ray: the package.
        job: of every worker.
        workers: how many there are going to be.
        options: of the actors: what they get of the cluster.
    """

    def __init__(self, ray: Any, job: CrewJob, workers: int, options: dict[str, Any]) -> None:
        self._ray, self._count, self._options = ray, workers, options
        self._job = ray.put(job)
        self._actors: dict[int, Any] = {}
        self._asked: dict[int, Any] = {}

    @property
    def workers(self) -> int:
        """How many there are at most."""
        return self._count

    def start(self, worker: int) -> None:
        """Start an actor; Ray places it where there is room."""
        actor = self._ray.remote(_Actor).options(**self._options).remote(self._job)
        self._actors[worker], self._asked[worker] = actor, actor.tell.remote()

    def give(self, worker: int, indices: Sequence[int]) -> None:
        """Send units."""
        self._asked[worker] = self._actors[worker].take.remote(tuple(indices))

    def events(self) -> Iterator[tuple[int, Event]]:
        """What has come from some workers."""
        by_answer = {answer: worker for worker, answer in self._asked.items()}
        ready, _ = self._ray.wait(list(by_answer), num_returns=1)
        for answer in ready:
            worker = by_answer[answer]
            events = self._told(answer)
            if isinstance(events[-1], StageBegun | Finished):
                self._asked[worker] = self._actors[worker].tell.remote()
            else:
                del self._asked[worker]
            if isinstance(events[-1], Lost):
                self._ray.kill(self._actors.pop(worker))
            for event in events:
                yield worker, event

    def _told(self, answer: Any) -> list[Event]:
        try:
            events: list[Event] = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            return [Lost(why(error))]
        return events

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors.values():
            self._ray.kill(actor)


@contextmanager
def hired_by_ray(job: CrewJob, cluster: Cluster) -> Iterator[RayCrew]:
    """A crew whose actors end with the block; so does a cluster that was started for it.

    Args:
        job: of every worker.
        cluster: that they run on.

    Raises:
        DependencyError: Ray is not installed.
        ProcessError: the cluster does not answer, or has not what the workers need.
    """
    gpu = job.device.startswith("cuda")
    with connected(cluster) as ray:
        threads = {"env_vars": dict.fromkeys(THREADS, str(cluster.cores))}
        options = {**cluster.options(gpu), "runtime_env": threads}
        crew = RayCrew(ray, job, cluster.room(ray, gpu), options)
        try:
            yield crew
        finally:
            crew.close()

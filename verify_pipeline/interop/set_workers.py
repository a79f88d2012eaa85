"""Several workers decide the instances of one set: each gets one instance at a time.

The driver alone writes results and counterexamples. A worker keeps the network that it read last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from verify_pipeline.certify.hand_out import Crew, Event, Finished, Ready, WorkQueue, hand_out
from verify_pipeline.certify.local_workers import hired
from verify_pipeline.certify.ray_workers import hired_by_ray
from verify_pipeline.certify.settings import Plan
from verify_pipeline.certify.versions import refuse_others
from verify_pipeline.errors import DataError
from verify_pipeline.interop.answers import Decided
from verify_pipeline.interop.instance_list import SetInstance
from verify_pipeline.interop.set_decisions import Keep, decide_instances, unknown
from verify_pipeline.interop.text_files import read_network
from verify_pipeline.onnx import Network
from verify_pipeline.ray_cluster import Cluster


@dataclass(frozen=True, eq=False)
class SetWorkerJob:
    """Everything that a worker needs to know of a set.

    Attributes:
        instances: those that are open; their files are read where the worker runs.
        plans: of each number of seconds; memory is the worker's share.
        seconds: for each instance; None: as the set's list says.
        device: where bounds and attacks are computed.
        check_parity: whether each network that is read is compared with onnxruntime.
        versions: of the packages of the driver.
    """

    instances: tuple[SetInstance, ...]
    plans: Mapping[float, Plan]
    seconds: float | None
    device: str
    check_parity: bool
    versions: str

    def serve(self, receive: Callable[[], Sequence[int]], send: Callable[[Event], None]) -> None:
        """Decide instances until ``receive`` raises.

        Args:
            receive: the next instances.
            send: tells the driver.

        Raises:
            ProcessError: other versions would decide here.
            DataError: a file of the set is not there where the worker runs.
        """
        refuse_others(self.versions)
        self._refuse_missing()
        read = lru_cache(maxsize=1)(self._read)
        send(Ready())
        while True:
            for place in receive():
                instance = self.instances[place]
                plan = self.plans[self.seconds or instance.timeout]
                keep = partial(_send, send, place)
                decide_instances([instance], plan, self.device, read, keep)
            send(Ready())

    def _read(self, path: Path) -> Network:
        return read_network(path, self.check_parity)

    def _refuse_missing(self) -> None:
        for instance in self.instances:
            for path in (instance.onnx, instance.vnnlib):
                if not path.is_file():
                    raise DataError(
                        f"file {path} at a worker",
                        expected="the file that the list names",
                        got="no file",
                        remedy="All nodes of a cluster have to share the folder of the list.",
                    )


def _send(send: Callable[[Event], None], place: int, instance: SetInstance, one: Decided) -> None:
    send(Finished(place, one))


def decide_by_workers(
    instances: Sequence[SetInstance], job: SetWorkerJob, workers: int | Cluster, keep: Keep
) -> None:
    """Hand instances out to workers until each has an answer.

    An instance with which two workers were lost is unknown, with the reason.

    Args:
        instances: that are open, as they are kept.
        job: of every worker, with the same instances.
        workers: processes of this machine, which share its memory; or a cluster.
        keep: is told each answer, in this process.

    Raises:
        ProcessError: workers cannot be started.
        DataError: a worker does not find the files.
    """
    if not instances:
        return
    with _hire(job, workers) as crew:
        queue = WorkQueue(deque(range(len(instances))), crew.workers, largest=1)
        hand_out(crew, queue, _Answers(instances, keep))


def _hire(job: SetWorkerJob, workers: int | Cluster) -> AbstractContextManager[Crew]:
    if isinstance(workers, Cluster):
        return hired_by_ray(job, workers)
    shares = {
        seconds: replace(plan, memory=max(1, plan.memory // workers))
        for seconds, plan in job.plans.items()
    }
    return hired(replace(job, plans=shares), workers)


class _Answers:
    """Keeps the answers of workers."""

    def __init__(self, instances: Sequence[SetInstance], keep: Keep) -> None:
        self._instances, self._keep = instances, keep

    def begun(self, stage: str, indices: Sequence[int]) -> None:
        """Workers on sets tell no stages."""

    def raised(self, index: int, stage: str, trace: str) -> None:
        """Nothing: the outcome says it."""

    def finished(self, index: int, outcome: Decided) -> None:
        """Keep an answer."""
        self._keep(self._instances[index], outcome)

    def lost(self, indices: Sequence[int], why: str) -> None:
        """Nothing: other workers decide its instances."""

    def given_up(self, index: int, why: str) -> None:
        """Leave an instance unknown."""
        self._keep(self._instances[index], unknown(why))

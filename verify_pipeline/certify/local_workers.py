"""Workers that are processes of this machine: ``python -m verify_pipeline.certify.local_workers``.

Driver and worker talk through a pair of sockets that nobody else can reach, so that what they send
each other is trusted. A worker ends when its driver is gone, also in the middle of a search.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO, Any

import torch

from verify_pipeline.certify.hand_out import Crew, CrewJob, Event, Failed, Lost
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.ray_cluster import THREADS

PATIENCE = 5.0
"""Seconds that a worker may take to end when it is told to."""


@dataclass(frozen=True, eq=False)
class _Local:
    """A worker's process, the driver's end of its connection, and what it writes."""

    process: subprocess.Popen[bytes]
    connection: Connection
    written: IO[bytes]


class LocalCrew(Crew):
    """Processes of this machine, each with a share of its cores.

    Args:
        job: of every worker.
        workers: how many there are going to be.
    """

    def __init__(self, job: CrewJob, workers: int) -> None:
        self._job, self._count = job, workers
        self._threads = max(1, torch.get_num_threads() // workers)
        self._crew: dict[int, _Local] = {}

    @property
    def workers(self) -> int:
        """How many there are at most."""
        return self._count

    def start(self, worker: int) -> None:
        """Start a process and send it the job."""
        mine, its = Pipe()
        written = tempfile.TemporaryFile()  # noqa: SIM115 (closed where the worker ends)
        with its:
            process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                env={**os.environ, **dict.fromkeys(THREADS, str(self._threads))},
                start_new_session=True,  # Ctrl-C reaches the driver alone, which ends its workers
            )
        self._crew[worker] = _Local(process, mine, written)
        with suppress(OSError):  # a worker that is gone already is noticed as an event
            _send(mine, self._job)

    def give(self, worker: int, indices: Sequence[int]) -> None:
        """Send units."""
        with suppress(OSError):
            _send(self._crew[worker].connection, tuple(indices))

    def events(self) -> Iterator[tuple[int, Event]]:
        """What has come from some workers."""
        by_connection = {each.connection: worker for worker, each in self._crew.items()}
        for ready in wait(list(by_connection)):
            assert isinstance(ready, Connection)
            worker = by_connection[ready]
            try:
                event: Event = _receive(ready)
            except (EOFError, OSError):
                event = self._lost(worker)
            yield worker, event

    def close(self) -> None:
        """End all processes."""
        for each in self._crew.values():
            each.connection.close()
            each.process.terminate()
        for each in self._crew.values():
            try:
                each.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            each.written.close()
        self._crew = {}

    def _lost(self, worker: int) -> Lost:
        gone = self._crew.pop(worker)
        gone.connection.close()
        code = gone.process.wait()
        gone.written.seek(0)
        lines = gone.written.read().decode("utf-8", "replace").split("\n")
        gone.written.close()
        if code < 0:
            return Lost(f"ended by signal {-code}")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return Lost(said or f"exit code {code}")


def _send(connection: Connection, message: object) -> None:
    """Send a message; torch's own way of pickling would share memory between the processes."""
    connection.send_bytes(pickle.dumps(message))


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())


@contextmanager
def hired(job: CrewJob, workers: int) -> Iterator[LocalCrew]:
    """A crew whose processes end with the block."""
    crew = LocalCrew(job, workers)
    try:
        yield crew
    finally:
        crew.close()


def _end_with_driver(descriptor: int) -> None:
    """End this process when the other end of the connection is closed, whatever it does then."""
    poller = select.poll()
    poller.register(descriptor, 0)  # a hang-up is always told, and nothing else is asked for
    poller.poll()
    os._exit(0)


def main(descriptor: int) -> None:
    """The process of one worker, until the driver closes the connection."""
    watching = threading.Thread(target=_end_with_driver, args=(descriptor,), daemon=True)
    watching.start()
    with Connection(descriptor) as connection:
        try:
            job: CrewJob = _receive(connection)
            job.serve(partial(_receive, connection), partial(_send, connection))
        except VerifyPipelineError as error:
            _send(connection, Failed(error))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))

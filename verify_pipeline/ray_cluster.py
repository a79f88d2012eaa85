"""A cluster that Ray runs, on this machine or on many: reached, measured, and left.

Moritz et al. 2018 (arXiv:1712.05889).
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from verify_pipeline.errors import ConfigError, DependencyError, ProcessError

PATIENCE = 20.0
"""Seconds that a cluster may take to answer."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that say how many threads a process has."""

_ADDRESS = r"auto|(?:ray://)?(?P<host>[^/]+):(?P<port>\d{1,5})"


@dataclass(frozen=True)
class Cluster:
    """Ray's cluster, and what a worker gets of it.

    Attributes:
        address: of a running cluster, such as ``auto`` or ``ray://head:10001``; None: one that is
            started on this machine and ends with the work.
        workers: how many; None: as many as there are GPUs or cores for.
        cores: of each worker.

    Raises:
        ConfigError: no worker, no core, or an address that names none.
    """

    address: str | None = None
    workers: int | None = None
    cores: int = 1

    def __post_init__(self) -> None:
        for name, value in (("--jobs", self.workers), ("--cores", self.cores)):
            if value is not None and value < 1:
                raise ConfigError(name, expected="at least 1", got=str(value))
        if self.address is not None and not re.fullmatch(_ADDRESS, self.address):
            raise ConfigError(
                "--address",
                expected="auto, HOST:PORT or ray://HOST:PORT, such as ray://head:10001",
                got=self.address or "nothing",
            )

    def room(self, ray: Any, gpu: bool) -> int:
        """As many workers as were asked for, or as fit on the nodes.

        Args:
            ray: the package, connected.
            gpu: whether each takes a GPU.

        Raises:
            ProcessError: there is no room for them.
        """
        room = sum(self._fit(node["Resources"], gpu) for node in self.nodes(ray, gpu))
        wanted = room if self.workers is None else self.workers
        if not 1 <= wanted <= room:
            needs = f"{self.cores} cores{' and a GPU' if gpu else ''}"
            raise ProcessError(
                "Ray's cluster",
                expected=f"room for {max(wanted, 1)} workers of {needs}",
                got=f"room for {room}",
                remedy="Ask for fewer with --jobs, or for fewer --cores each.",
            )
        return wanted

    def nodes(self, ray: Any, gpu: bool) -> list[dict[str, Any]]:
        """The nodes that have room for a worker, as Ray describes them."""
        alive = (node for node in ray.nodes() if node["Alive"])
        return [node for node in alive if self._fit(node["Resources"], gpu)]

    def _fit(self, node: dict[str, float], gpu: bool) -> int:
        by_cores = int(node.get("CPU", 0)) // self.cores
        return min(by_cores, int(node.get("GPU", 0))) if gpu else by_cores

    def reach(self) -> None:
        """Refuse a cluster that does not answer, before anything is written.

        Raises:
            DependencyError: Ray is not installed.
            ProcessError: nothing answers at the address.
        """
        _package()
        _reach(self.address)

    def options(self, gpu: bool) -> dict[str, Any]:
        """What Ray gives a worker."""
        return {"num_cpus": self.cores, "num_gpus": 1 if gpu else 0}


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Ray's package, connected to a cluster; one that was started for it ends with the block.

    Within the block, ``sys.stdout`` is standard error: Ray prints there what it thinks of lost
    workers, and standard output is for results.

    Raises:
        DependencyError: Ray is not installed.
        ProcessError: the cluster does not answer.
    """
    ray = _package()
    _reach(cluster.address)
    with redirect_stdout(sys.stderr):
        try:
            ray.init(
                address=cluster.address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _no_answer(cluster.address, error) from error
        try:
            yield ray
        finally:
            ray.shutdown()


def why(error: Exception) -> str:
    """What an error of Ray says in one line: the last one of a traceback, else the first one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if lines[0].startswith("ray::") else lines[0]


def _reach(address: str | None) -> None:
    """Refuse an address where nothing answers: Ray would try for minutes, then end the process."""
    found = re.fullmatch(_ADDRESS, address or "")
    if found is None or found["host"] is None:
        return
    host = found["host"].removeprefix("[").removesuffix("]")
    try:
        socket.create_connection((host, int(found["port"])), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str | None, error: Exception) -> ProcessError:
    return ProcessError(
        f"Ray's cluster at {address or 'this machine'}",
        expected="one that answers",
        got=why(error).rstrip(".:"),
        remedy="`ray status` shows a running cluster, `ray start --head` starts one.",
    )


def _package() -> Any:
    try:
        import ray
    except ImportError:
        raise DependencyError(
            "Ray is not installed",
            remedy="Install it with: pip install 'verify_pipeline[cluster]'",
        ) from None
    return ray

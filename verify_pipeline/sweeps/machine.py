"""Where the runs of a sweep or a tuning are done, and how many at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from verify_pipeline.errors import ConfigError
from verify_pipeline.ray_cluster import Cluster
from verify_pipeline.sweeps.processes import Launcher, LocalLauncher
from verify_pipeline.sweeps.ray_processes import launching_by_ray


@dataclass(frozen=True)
class Machine:
    """Where runs are done.

    Attributes:
        workers: processes of this machine at once; if more than one, each gets one thread. Or a
            cluster, whose nodes do the runs.
        data_root: where the data sets are looked for.
        device: ``auto``, ``cpu``, ``cuda``, …

    Raises:
        ConfigError: no job at once.
    """

    workers: int | Cluster = 1
    data_root: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.workers, int) and self.workers < 1:
            raise ConfigError("--jobs", expected="at least 1", got=str(self.workers))

    @property
    def options(self) -> dict[str, str | None]:
        """What a job has to know of it."""
        root = None if self.data_root is None else str(self.data_root)
        return {"data_root": root, "device": self.device}

    @contextmanager
    def launcher(self, folder: Path) -> Iterator[Launcher]:
        """What starts the runs.

        Args:
            folder: that they write into.

        Raises:
            DependencyError: Ray is not installed.
            ProcessError: the cluster does not answer, has no room, or does not see the folder.
        """
        if isinstance(self.workers, Cluster):
            with launching_by_ray(self.workers, folder, self.device) as launcher:
                yield launcher
        else:
            yield LocalLauncher(self.workers, 1 if self.workers > 1 else None)

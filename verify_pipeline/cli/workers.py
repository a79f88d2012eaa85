"""Options about who does the work: processes of this machine, or workers of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from verify_pipeline.cli import panels
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.ray_cluster import Cluster

Workers = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        help="Processes at once; cores and memory are divided among them. With --cluster: workers.",
        show_default="1; with --cluster, as many as fit",
        rich_help_panel=panels.MACHINE,
    ),
]
ClusterName = Annotated[
    Literal["ray"] | None,
    typer.Option(
        "--cluster",
        help="Work by workers of Ray, on this machine or on several (extra `cluster`).",
        rich_help_panel=panels.MACHINE,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Of a cluster that runs, such as auto or ray://head:10001.",
        show_default="start one on this machine",
        rich_help_panel=panels.MACHINE,
    ),
]
Cores = Annotated[
    int | None,
    typer.Option(
        help="Cores of each of the cluster's workers.",
        show_default="1",
        rich_help_panel=panels.MACHINE,
    ),
]
Runs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        help="Processes at once. If more than one, each gets one thread; with --cluster, --cores.",
        show_default="1; with --cluster, as many as fit",
        rich_help_panel=panels.MACHINE,
    ),
]


@dataclass(frozen=True)
class ClusterOptions:
    """Options about a cluster, as typed."""

    cluster: ClusterName = None
    address: Address = None
    cores: Cores = None

    def or_jobs(self, jobs: int | None) -> int | Cluster:
        """The cluster; or so many processes of this machine, if none was asked for.

        Args:
            jobs: as typed; None: one, or as many as fit on the cluster.

        Raises:
            ConfigError: something about a cluster, and none was asked for.
        """
        from verify_pipeline.ray_cluster import Cluster

        if self.cluster is not None:
            return Cluster(self.address, jobs, 1 if self.cores is None else self.cores)
        for name, value in (("--address", self.address), ("--cores", self.cores)):
            if value is not None:
                raise ConfigError(name, expected="--cluster ray with it", got=str(value))
        return 1 if jobs is None else jobs


@dataclass(frozen=True)
class WorkerOptions(ClusterOptions):
    """Options about the workers that decide, as typed."""

    jobs: Workers = None

    @property
    def chosen(self) -> int | Cluster:
        """Processes of this machine, or a cluster."""
        return self.or_jobs(self.jobs)


@dataclass(frozen=True)
class RunOptions(ClusterOptions):
    """Options about the processes of whole runs, as typed."""

    jobs: Runs = None

    @property
    def chosen(self) -> int | Cluster:
        """Processes of this machine, or a cluster."""
        return self.or_jobs(self.jobs)

"""Which workers certify a set: processes of this machine, or a cluster's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.certify.local_workers import hired
from verify_pipeline.certify.pool import Pool
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.ray_workers import hired_by_ray
from verify_pipeline.certify.settings import CertifySettings, plan
from verify_pipeline.certify.worker import WorkerJob
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.ray_cluster import Cluster


def pool_of(
    network: Certifiable,
    images: ImageSet | BoxSet,
    settings: CertifySettings,
    question: Question,
    device: str,
    workers: int | Cluster,
) -> Pool:
    """Processes of this machine, each with a share of its memory, or workers of a cluster.

    Args:
        network: as it was read from a file.
        images: the whole set.
        settings: of the certification.
        question: what is asked.
        device: where bounds and attacks are computed, by name.
        workers: how many processes of this machine; or a cluster.

    Raises:
        ConfigError: no number of processes, or something that workers cannot do.
        DependencyError: the cluster's package is not installed.
        ProcessError: the cluster does not answer.
    """
    if isinstance(workers, int) and workers < 1:
        raise ConfigError("--jobs", expected="at least 1", got=str(workers))
    chosen = plan(settings)
    if "abcrown" in chosen.stages:
        raise ConfigError(
            "stages",
            expected="one process for the stage abcrown, which starts processes of its own",
            got="several workers",
        )
    if isinstance(workers, Cluster):
        workers.reach()
        job = WorkerJob.of(network, images, settings, question, device)
        return Pool(partial(hired_by_ray, job, workers), chosen.stages[0])
    share = replace(settings, memory=max(1, settings.memory // workers))
    job = WorkerJob.of(network, images, share, question, device)
    return Pool(partial(hired, job, workers), chosen.stages[0])

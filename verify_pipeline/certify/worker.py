"""What a worker does, wherever it runs: it takes batches of images through the cascade."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from verify_pipeline import onnx
from verify_pipeline.certify.certifier import Certifier
from verify_pipeline.certify.contract import Certifiable, Observer
from verify_pipeline.certify.pool import Event, ImageDecided, Ready
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.run import ask_settings
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError, NetworkError


@dataclass(frozen=True, eq=False)
class WorkerJob:
    """Everything that a worker needs to know.

    Attributes:
        path: of the network's file.
        digest: of that file as the driver read it.
        compares: whether the file is compared with its graph.
        images: the whole set.
        settings: of the certification; memory is the worker's share.
        question: what is asked.
        device: where bounds and attacks are computed.
    """

    path: Path
    digest: str
    compares: bool
    images: ImageSet | BoxSet
    settings: CertifySettings
    question: Question
    device: str

    @staticmethod
    def of(
        network: Certifiable,
        images: ImageSet | BoxSet,
        settings: CertifySettings,
        question: Question,
        device: str,
    ) -> WorkerJob:
        """The job of certifying a network's file.

        Raises:
            ConfigError: the network has no file.
        """
        if network.path is None:
            raise ConfigError(
                "--jobs",
                expected="a network in an ONNX file, which each worker reads",
                got="a network in memory",
                remedy="Write it with export_onnx, or certify in one process.",
            )
        path = network.path.resolve()
        return WorkerJob(path, network.digest, network.compared, images, settings, question, device)

    def network(self) -> Certifiable:
        """The network, read from its file.

        Raises:
            NetworkError: the file is not the one that the driver read.
        """
        read = onnx.load_network(self.path, self.compares)
        if read.digest != self.digest:
            raise NetworkError(
                f"network {self.path}",
                expected=f"the file that the certification began with, {self.digest[:12]}…",
                got=f"{read.digest[:12]}…",
                remedy="Do not replace the file while it is certified.",
            )
        return read


def serve(
    job: WorkerJob, receive: Callable[[], Sequence[int]], send: Callable[[Event], None]
) -> None:
    """Take images through the cascade until ``receive`` raises.

    Args:
        job: what is certified.
        receive: the next images.
        send: tells the driver.

    Raises:
        VerifyPipelineError: the job cannot be done here.
    """
    network = job.network()
    asked = ask_settings(network, job.images, job.settings, job.question)
    device = torch.device(job.device)
    certifier = Certifier.of(network, job.images, asked, job.settings, device, time.perf_counter)
    send(Ready())
    while True:
        certifier.cascade(
            asked.instances, lambda index, verdict: send(ImageDecided(index, verdict)), Observer()
        ).run(tuple(receive()), set)
        send(Ready())

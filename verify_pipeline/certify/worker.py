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
from verify_pipeline.certify.hand_out import Event, Finished, Raised, Ready, StageBegun
from verify_pipeline.certify.instances import Instances
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.run import ask_settings
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.certify.versions import refuse_others, versions
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError, NetworkError


@dataclass(frozen=True, eq=False)
class WorkerJob:
    """Everything that a worker needs to know.

    Attributes:
        path: of the network's file; weights in other files are looked for beside it.
        content: of that file, which may not be there where the worker runs.
        digest: of the network as the driver read it.
        compares: whether the file is compared with its graph.
        images: the whole set.
        settings: of the certification; memory is the worker's share.
        question: what is asked.
        device: where bounds and attacks are computed.
        versions: of the packages that the driver names in the ledger.
    """

    path: Path
    content: bytes
    digest: str
    compares: bool
    images: ImageSet | BoxSet
    settings: CertifySettings
    question: Question
    device: str
    versions: str

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
            NetworkError: the file is gone.
        """
        if network.path is None:
            raise ConfigError(
                "workers",
                expected="a network in an ONNX file, which each worker reads",
                got="a network in memory",
                remedy="Write it with export_onnx, or certify in one process.",
            )
        path = network.path.resolve()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NetworkError(f"network {path}", expected="a file", got=str(error)) from error
        known = (path, content, network.digest, network.compared)
        return WorkerJob(*known, images, settings, question, device, versions())

    def certifier(self) -> tuple[Certifier, Instances]:
        """The network, ready to be certified, and the instances.

        Raises:
            NetworkError: the file is not the one that the driver read.
            VerifyPipelineError: the job cannot be done here.
        """
        network = onnx.network_from_bytes(self.content, self.path, self.compares)
        if network.digest != self.digest:
            raise NetworkError(
                f"network {self.path}",
                expected=f"the file that the certification began with, {self.digest[:12]}…",
                got=f"{network.digest[:12]}…",
                remedy="Do not replace the file while it is certified.",
            )
        asked = ask_settings(network, self.images, self.settings, self.question)
        device = torch.device(self.device)
        made = Certifier.of(network, self.images, asked, self.settings, device, time.perf_counter)
        return made, asked.instances

    def serve(self, receive: Callable[[], Sequence[int]], send: Callable[[Event], None]) -> None:
        """Take images through the cascade until ``receive`` raises.

        Args:
            receive: the next images.
            send: tells the driver.

        Raises:
            ProcessError: other versions would decide here.
            VerifyPipelineError: the job cannot be done here.
        """
        refuse_others(self.versions)
        certifier, instances = self.certifier()
        cascade = certifier.cascade(
            instances, lambda index, verdict: send(Finished(index, verdict)), _TellsStages(send)
        )
        send(Ready())
        while True:
            cascade.run(receive())
            send(Ready())


class _TellsStages(Observer):
    """Tells the driver which stage a batch comes to, and exceptions; verdicts tell the rest."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send

    def stage_started(self, stage: str, images: int) -> None:
        """Tell its name."""
        self._send(StageBegun(stage))

    def raised(self, index: int, stage: str, trace: str) -> None:
        """Tell the traceback."""
        self._send(Raised(index, stage, trace))

"""α,β-CROWN as the last stage of certification, on images that cheap stages leave open."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.boxes import outer_box
from verify_pipeline.certify.contract import Stage, Subject, Task
from verify_pipeline.certify.preprocessing import Prepared
from verify_pipeline.certify.replay import confirm
from verify_pipeline.certify.settings import Plan
from verify_pipeline.engines.abcrown import Engine, ToolAnswer
from verify_pipeline.engines.job import ToolQuestion, can_be_asked
from verify_pipeline.engines.module_file import write_module
from verify_pipeline.engines.process import Limits
from verify_pipeline.engines.statuses import ToolClaim
from verify_pipeline.engines.tool import Tool
from verify_pipeline.errors import ConfigError
from verify_pipeline.interop.writer import vnnlib_text
from verify_pipeline.onnx import file_with_front
from verify_pipeline.problem import Box, Decision, Reason, Specification, Status

MODULES, NETWORKS = "modules", "networks"
"""Subfolders of a setup's folder: networks as Python, and ONNX files that take pixels."""


@dataclass(frozen=True)
class Setup:
    """The tool, the folder of its files, and its limits.

    Attributes:
        tool: as :func:`find_tool` gives it.
        folder: for the files and logs of its processes.
        limits: of a process.
    """

    tool: Tool
    folder: Path
    limits: Limits = field(default_factory=Limits)

    def stage(self, plan: Plan, subject: Subject, network: Prepared) -> Stage:
        """The stage that asks it about a network, on the subject's kind of device.

        Raises:
            ConfigError: the network is in no file.
            NetworkError: its preprocessing cannot be written into one.
            DataError: the folder cannot be written.
        """
        onnx = self._file_of_pixels(network)
        engine = Engine(
            self.tool, plan.abcrown, self.folder, self.limits, device=subject.device.type
        )
        # not the subject's graph, which may lack a final softmax: the tool compares all outputs
        module = write_module(network.graph, self.folder / MODULES / onnx.stem)
        return AbcrownStage(subject, onnx, engine, module)

    def _file_of_pixels(self, network: Prepared) -> Path:
        """The network's own file, or a file with the preprocessing in front."""
        if network.path is None:
            raise ConfigError("engine abcrown", expected="a network in a file", got="one in memory")
        if network.front is None:
            return network.path
        content = file_with_front(network.path, network.front)
        name = f"{network.path.stem}-{hashlib.sha256(content).hexdigest()[:16]}.onnx"
        return write_whole(self.folder / NETWORKS / name, content)


class AbcrownStage:
    """Runs the tool on all open instances in one process, and replays its counterexamples.

    The tool computes in float32. It gets each box with limits rounded outward to float32, which it
    does not round again, so its proofs cover the whole box.

    Args:
        subject: the network.
        onnx: its file, which the tool reads.
        engine: the tool.
        module: the network as Python, for the case that the tool misreads the file.
    """

    name = "abcrown"
    largest_task = 256
    bytes_per_instance = 1 << 20

    def __init__(
        self, subject: Subject, onnx: Path, engine: Engine, module: Path | None = None
    ) -> None:
        self._subject = subject
        self._onnx = onnx
        self._engine = engine
        self._module = module

    def run(self, task: Task) -> Iterator[Decision]:
        """Yield a decision for each instance, in order, as soon as the tool has answered."""
        box, spec = task.box.to("cpu"), task.spec.to("cpu")
        asked: list[int] = []
        for place in range(len(task)):
            if can_be_asked(spec[place : place + 1]):
                asked.append(place)
            else:
                yield Decision(
                    place,
                    Status.UNKNOWN,
                    reason=Reason.UNSUPPORTED,
                    detail="α,β-CROWN's VNN-LIB reader knows no such specification",
                )
        questions = [
            ToolQuestion(
                self._onnx,
                vnnlib_text(
                    outer_box(box[place : place + 1]).to(torch.float64), spec[place : place + 1]
                ),
                float(task.seconds[place]),
                self._module,
            )
            for place in asked
        ]
        for answer in self._engine.ask(questions):
            place = asked[answer.place]
            one = slice(place, place + 1)
            yield self._decision(place, answer, box[one], spec[one])

    def _decision(self, place: int, answer: ToolAnswer, box: Box, spec: Specification) -> Decision:
        decided = partial(Decision, place, detail=answer.detail, seconds=answer.seconds)
        if answer.claim is ToolClaim.SAFE:
            return decided(Status.VERIFIED, claimed_by=self._engine.tool.title)
        if answer.claim is ToolClaim.OPEN:
            return decided(Status.UNKNOWN, reason=answer.reason)
        counterexample = None
        if answer.point is not None and answer.point.numel() == box.lower.numel():
            nearest = answer.point.reshape(box.lower.shape).clamp(box.lower, box.upper)
            dtype = self._subject.input_dtype
            (counterexample,) = confirm(self._subject.replay, box, spec, nearest, dtype)
        if counterexample is None:
            return decided(Status.UNKNOWN, reason=Reason.NOT_REPLAYED)
        return decided(Status.FALSIFIED, counterexample=counterexample)

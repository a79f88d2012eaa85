"""α,β-CROWN's side of a task: one process, each counterexample replayed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from against.answers import WORDS, Given, name_of
from against.tasks import Job
from verify_pipeline import onnx
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.knowledge import Knowledge
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.engines import (
    AbcrownStage,
    Engine,
    Limits,
    ToolAnswer,
    ToolQuestion,
    find_tool,
)
from verify_pipeline.engines.module_file import write_module
from verify_pipeline.engines.sets import questions_of, result_of
from verify_pipeline.engines.stage import MODULES
from verify_pipeline.interop.text_files import read_network

DEFAULTS = "general: {}\n"
PATIENT = Limits(overrun=3600.0)


class Counting(Engine):
    """Notes the domains that each question took."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.domains: dict[int, int] = {}

    def ask(self, questions: Sequence[ToolQuestion]) -> Iterator[ToolAnswer]:
        """As the engine answers."""
        for answer in super().ask(questions):
            self.domains[answer.place] = answer.domains or 0
            yield answer


def of_images(job: Job, work: Path, config: str) -> Iterator[Given]:
    """What it says of images.

    Args:
        job: of images.
        work: a folder for its files, which stay there.
        config: YAML text in its schema.

    Raises:
        DependencyError: it is not installed.
    """
    engine = _engine(job, work, config)
    network = onnx.load_network(job.source)
    images, indices = job.images()
    batch = RobustImages(images, indices, LinfBall(float(Fraction(job.epsilon)))).batch(indices)
    cpu = torch.device("cpu")
    task = Task(
        tuple(indices),
        batch.box,
        batch.spec,
        batch.points,
        torch.full((len(indices),), job.timeout, dtype=torch.float64),
        Knowledge(1 << 20, cpu),
        has_time=lambda: True,
    )
    module = write_module(network.graph, work / MODULES)
    subject = Subject.of(network.graph, network.replay, cpu)
    stage = AbcrownStage(subject, Path(job.source), engine, module)
    for decision in stage.run(task):
        index = indices[decision.place]
        domains = engine.domains.get(decision.place, 0)
        yield Given(str(index), decision.status.value, decision.seconds or 0.0, domains)


def of_list(job: Job, work: Path, config: str) -> Iterator[Given]:
    """What it says of a list's lines; arguments and errors as above."""
    engine = _engine(job, work, config)
    chosen = job.lines()
    for answer in engine.ask(questions_of(chosen, job.timeout, work)):
        one = chosen[answer.place]
        result, _ = result_of(one, answer, read_network)
        yield Given(name_of(one), WORDS[result.answer], answer.seconds, answer.domains or 0)


def _engine(job: Job, work: Path, config: str) -> Counting:
    return Counting(find_tool(), config, work, PATIENT, device=job.device)

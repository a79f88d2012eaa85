"""The interfaces of stages and observers; stages import this module, never each other.

A stage gets some open instances as one :class:`Task` and yields at most one :class:`Decision` for
each. The cascade around it (``cascade.py``) cuts the open instances into tasks, charges time,
catches what goes wrong, and writes the ledger. Shape letters: ``N`` instances of a task, ``*X`` the
input's shape, ``K`` outputs, ``S`` rows of the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from verify_pipeline.bounds.interval.maxima_as_relus import with_splittable_maxima
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.certify.evaluation_errors import Hardening
from verify_pipeline.certify.job_plan import JobPlan
from verify_pipeline.certify.knowledge import Knowledge
from verify_pipeline.network.differences import with_score_differences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast
from verify_pipeline.network.written import Written
from verify_pipeline.onnx.simplify import simplify
from verify_pipeline.problem import Box, Decision, Specification, Verdict

Replay = Callable[[Tensor], Tensor]
"""Outputs ``N x K`` of the network's own file at inputs ``N x *X`` of its type, by onnxruntime; in
float32 or float64, as the file gives them."""

Clock = Callable[[], float]
"""Seconds from some origin; never goes back."""


class Certifiable(Protocol):
    """A network as certification uses it, such as ``verify_pipeline.onnx.Network``."""

    @property
    def graph(self) -> Graph:
        """The network as it is bounded."""
        ...

    @property
    def path(self) -> Path | None:
        """Its file; None for one that was made in memory."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of its file, in hexadecimal."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What its exporter noted in the file."""
        ...

    @property
    def replay(self) -> Replay:
        """Its file in onnxruntime: ``N x *X`` to ``N x K``."""
        ...

    @property
    def input_dtype(self) -> torch.dtype:
        """The type that it takes: points that are replayed are numbers of it, in their boxes."""
        ...

    @property
    def compared(self) -> bool:
        """Whether its graph is compared with its file before anything is certified."""
        ...

    @property
    def written(self) -> Written | None:
        """Its file's own operations, before any are merged; None: they are not known."""
        ...


def _any() -> Box | None:
    """The default: inputs may be anything."""
    return None


@dataclass(frozen=True, eq=False)
class Subject:
    """The network under certification.

    Attributes:
        graph: ``exact`` rounded to float32; for searching, no verdict rests on it.
        exact: in float64, as the file was read; its bounds decide.
        replay: the network's own file in onnxruntime; its outputs falsify.
        device: of both graphs.
        input_dtype: that the file takes; of a half precision, points are its numbers in float32.
    """

    graph: Graph
    exact: Graph
    replay: Replay
    device: torch.device
    input_dtype: torch.dtype = torch.float32

    @staticmethod
    def of(
        graph: Graph,
        replay: Replay,
        device: torch.device,
        reach: Callable[[], Box | None] = _any,
        input_dtype: torch.dtype = torch.float32,
    ) -> Subject:
        """A float64 graph, as ``Network.graph`` is, and its replay, on ``device``.

        Maxima and limits are rewritten with ReLUs, which can be split, if rounding stays negligible
        over the box of all inputs. Short softmaxes are rewritten with differences of scores, which
        have tighter bounds.

        Args:
            graph: in float64.
            replay: of its file.
            device: of both graphs.
            reach: one box that contains the boxes of all instances; None: any input.
            input_dtype: that the file takes.
        """
        written = with_splittable_maxima(graph, reach)
        if any(isinstance(node.op, AtLeast) for node in graph.nodes):
            written = simplify(written)  # what limits add joins the layers beside them
        written = with_score_differences(written)
        exact = written.to(torch.float64).to(device)
        return Subject(exact.to(torch.float32), exact, replay, device, input_dtype)

    @property
    def searched(self) -> Graph:
        """The graph that is searched for points to be replayed, in their dtype."""
        return self.exact if self.input_dtype == torch.float64 else self.graph


@dataclass(frozen=True, eq=False)
class Task:
    """Open instances that a stage looks at together.

    Attributes:
        indices: the images' places in the data set, ``N``.
        box: float64, on the subject's device; see ``boxes.py``.
        spec: float64, on the subject's device.
        points: ``N x *X`` of the network's input dtype, one input of each box (the image itself),
            on the CPU.
        seconds: that the stage may charge each instance, ``N`` float64, > 0: all remaining seconds,
            or a share of them if other stages follow.
        knowledge: bounds and multipliers that stages store for later stages.
        has_time: whether no instance has used up its seconds since the task began. A slow stage
            asks regularly, and returns its results so far once the answer is no.
        group: ``N`` integers, equal for instances that share their seconds; None: none does.
        harden: makes the specifications that bounds have to prove; None: those of ``spec``.
    """

    indices: tuple[int, ...]
    box: Box
    spec: Specification
    points: Tensor
    seconds: Tensor
    knowledge: Knowledge
    has_time: Callable[[], bool]
    group: Tensor | None = None
    harden: Hardening | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def picked(self, places: Tensor) -> Task:
        """The task of some of its instances, each of which has its seconds alone.

        Args:
            places: of these instances in the task, ``M``.
        """
        return replace(
            self,
            indices=tuple(self.indices[place] for place in places.tolist()),
            box=self.box[places],
            spec=self.spec[places],
            points=self.points[places.cpu()],
            seconds=self.seconds[places.cpu()],
            group=None,
        )

    @cached_property
    def required(self) -> Specification:
        """What bounds have to prove: ``spec``, or harder specifications that imply it."""
        if self.harden is None:
            return self.spec
        return self.harden(self.indices, self.box, self.spec, self.has_time)

    def required_at_least(self, places: Tensor) -> Specification:
        """What bounds have to prove of some instances, as easy as can be made for more time.

        Args:
            places: of these instances in the task, ``M``.
        """
        if self.harden is None:
            return self.spec[places]
        indices = [self.indices[place] for place in places.tolist()]
        self.harden.sharpen(indices)
        return self.harden(indices, self.box[places], self.spec[places], self.has_time)

    @property
    def deadlines(self) -> Deadlines:
        """The seconds left, and who shares them."""
        if self.group is None:
            return Deadlines.alone(self.seconds)
        return Deadlines(self.seconds, self.group)


class Stage(Protocol):
    """A way to decide instances.

    Attributes:
        name: as in the settings, the ledger and the table.
        bytes_per_instance: how much memory a task takes for each of its instances, about.
        largest_task: how many instances it is best given at once, at most; None: all of them.
    """

    @property
    def name(self) -> str:
        """As in the settings, the ledger and the table."""
        ...

    @property
    def bytes_per_instance(self) -> int:
        """How much memory a task takes for each of its instances, about."""
        ...

    @property
    def largest_task(self) -> int | None:
        """How many instances it is best given at once, at most; None: all of them."""
        ...

    def run(self, task: Task) -> Iterator[Decision]:
        """Yield decisions as soon as they are made, at most one per instance.

        It may raise any exception: instances without a decision stay open.
        """
        ...


class Sharing:
    """How the images of a certification are shared with other processes; here there are none."""

    @property
    def others(self) -> bool:
        """Whether other processes may take over images that no task has begun."""
        return False

    def gone(self) -> set[int]:
        """The images that need no work here: another process has decided them, or has them now."""
        return set()

    def begin(self, indices: Sequence[int]) -> Sequence[int]:
        """Begin a task with images, and end the one before.

        Returns:
            The images that are still this process's; nobody takes these until the next task.
        """
        return indices


class Observer:
    """Watches a certification; every hook does nothing here. Override those of interest.

    One process takes all images through one stage after the other. If the plan says that stages
    overlap, images come to a stage batch by batch, while others are at other stages. An image then
    counts once at each stage, also if a lost worker's batch goes through it again.
    """

    def planned(self, plan: JobPlan) -> None:
        """What is certified, and how; told once, before :meth:`started`."""

    def started(self, images: int, decided: int) -> None:
        """Certification of ``images`` images starts; ``decided`` of them are decided already."""

    def stage_started(self, stage: str, images: int) -> None:
        """So many open images come to a stage: all at once, or more of them if stages overlap."""

    def decided(self, index: int, verdict: Verdict) -> None:
        """The verdict of image ``index`` is in the ledger."""

    def looked_at(self, stage: str, images: int) -> None:
        """A stage has finished ``images`` more of its images, decided or not."""

    def raised(self, index: int, stage: str, trace: str) -> None:
        """A stage raised an exception on image ``index`` alone; ``trace`` is its traceback."""

    def waits_for(self, images: int, owners: Sequence[str]) -> None:
        """All that is left are ``images`` images that other processes certify: it waits for them.

        ``owners`` name these processes, such as ``process 4711``.
        """

    def took_over(self, images: int, owners: Sequence[str]) -> None:
        """``images`` images that other processes had are certified here: these have ended."""

    def lost_worker(self, images: int, why: str) -> None:
        """A worker of this command has ended; others get its ``images`` images.

        ``why`` is such as the signal that ended it.
        """

    def finished(self) -> None:
        """Every image has its verdict."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def planned(self, plan: JobPlan) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.planned(plan)

    def started(self, images: int, decided: int) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.started(images, decided)

    def stage_started(self, stage: str, images: int) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.stage_started(stage, images)

    def decided(self, index: int, verdict: Verdict) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.decided(index, verdict)

    def looked_at(self, stage: str, images: int) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.looked_at(stage, images)

    def raised(self, index: int, stage: str, trace: str) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.raised(index, stage, trace)

    def waits_for(self, images: int, owners: Sequence[str]) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.waits_for(images, owners)

    def took_over(self, images: int, owners: Sequence[str]) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.took_over(images, owners)

    def lost_worker(self, images: int, why: str) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.lost_worker(images, why)

    def finished(self) -> None:
        """Each of them is told."""
        for observer in self._observers:
            observer.finished()

"""Bounds of the neurons over whole boxes, from which CROWN, α-CROWN and the search start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    needed_places,
)
from verify_pipeline.bounds.intermediate.tighten import Wanted
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.knowledge import Learned
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


def root_budget(memory: int) -> MemoryBudget:
    """The part of a task's bytes for functionals that are bounded at once.

    It is small because time is checked between such batches.
    """
    return MemoryBudget(bytes=max(1, memory // 32))


def within_caches(budget: MemoryBudget, device: torch.device) -> MemoryBudget:
    """The budget for functionals that are walked back once: a quarter on a CPU, for its caches.

    ResNet-4B in float64: 16 MiB take 0.6 of the time of 64 MiB, 4 MiB more again.
    """
    return MemoryBudget(bytes=max(1, budget.bytes // 4)) if device.type == "cpu" else budget


def learned(subject: Subject, task: Task, budget: MemoryBudget) -> Learned:
    """Results of earlier stages for the task's instances; without them, new root bounds."""
    known = task.knowledge.recall(task.indices)
    return Learned(root_bounds(subject, task, budget)) if known is None else known


def root_bounds(
    subject: Subject, task: Task, budget: MemoryBudget, wanted: Wanted | None = None
) -> NodeBounds:
    """CROWN bounds of the neurons that matter, from interval bounds, in float64.

    It works layer by layer, on the instances that are still ``wanted``; None: on all of them.

    Float64 straight away, at 2.3 times the cost of float32 (MNIST, conv-small): where an image
    stays open every later stage needs these bounds in float64, and elsewhere they decide it.
    """
    start = interval_bounds(subject.exact, task.box)
    small = within_caches(budget, subject.device)
    tightened = crown_intermediate(
        subject.exact, task.box, start, small, task.has_time, wanted=wanted
    )
    return tightened.only(needed_places(subject.exact))


def margins_in_time(
    graph: Graph,
    box: Box,
    spec: Specification,
    bounds: NodeBounds,
    functionals: int,
    has_time: Callable[[], bool],
) -> Tensor:
    """CROWN bounds of the margins, ``N x S``; -inf where the time was up before.

    Args:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N`` specifications.
        bounds: of the nodes of ``needed_places``.
        functionals: how many are bounded at once. Where each instance has more rows than that, they
            are bounded part by part, the first part in any case.
        has_time: called before each further part of an instance's rows.
    """
    lower = torch.full_like(spec.offsets, -torch.inf)
    places, rows = (torch.arange(n, device=lower.device) for n in lower.shape)
    for some in places.split(max(1, functionals // len(rows))):
        for number, part in enumerate(rows.split(functionals)):
            if number > 0 and not has_time():
                break
            of_rows = Specification(spec.rows[some][:, part], spec.offsets[some][:, part])
            found = crown_margins(graph, box[some], of_rows, bounds[some])
            lower[some.unsqueeze(1), part] = found.lower
    return lower


def sufficient(subject: Subject, task: Task, bounds: NodeBounds) -> Specification:
    """The task's specifications as a search needs them, in which every row has to hold.

    If some rows may fail, those with the least CROWN bounds are left out. A proof of the others
    proves the specification; a point that breaks one of them may not break it.
    """
    required = task.required
    if required.spare == 0:
        return required
    lower = crown_margins(subject.exact, task.box, required, bounds).lower
    return required.without_spare(lower)


def single_rows(spec: Specification, instance: Tensor, row: Tensor) -> Specification:
    """Some rows of some instances, a specification for each."""
    return Specification(
        spec.rows[instance, row].unsqueeze(1), spec.offsets[instance, row].unsqueeze(1)
    )

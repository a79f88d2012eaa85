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
    functionals_that_fit,
    interval_bounds,
    interval_margins,
    late_margins,
    needed_places,
)
from verify_pipeline.bounds.intermediate.tighten import Wanted
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.knowledge import Learned
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification

MANY_ROWS = 32
"""From so many rows on, most are far from zero, and short walks spare most of the whole ones."""


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
    """Results of earlier stages for the task's instances; new root bounds of those without any."""
    known = task.knowledge.recall(task.indices)
    if known is not None:
        return known
    there = torch.tensor([index in task.knowledge for index in task.indices], dtype=torch.bool)
    old, new = (places.nonzero().flatten() for places in (there, ~there))
    found = Learned(root_bounds(subject, task.picked(new), budget))
    known = task.knowledge.recall([task.indices[place] for place in old.tolist()])
    if known is None:
        return found
    both = Learned.cat([Learned(known.bounds), found])
    return both[torch.cat([old, new]).argsort()]


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

    Where an instance has :data:`MANY_ROWS`, those that short walks bound above zero need no others.

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
        left = rows
        if len(rows) >= MANY_ROWS:
            at_once = max(1, functionals // len(some))
            lower[some] = late_margins(
                graph, box[some], spec[some], bounds[some], at_once, has_time
            )
            left = rows[~(lower[some] > 0).all(0)]
        for number, part in enumerate(left.split(functionals) if len(left) else ()):
            if number > 0 and not has_time():
                break
            of_rows = Specification(spec.rows[some][:, part], spec.offsets[some][:, part])
            found = crown_margins(graph, box[some], of_rows, bounds[some])
            known = lower[some.unsqueeze(1), part]
            lower[some.unsqueeze(1), part] = torch.maximum(known, found.lower)
    return lower


def rows_in_time(subject: Subject, task: Task, known: Learned, budget: MemoryBudget) -> Tensor:
    """Bounds of the rows of ``task.required``, ``N x S``: known ones, or the better of two bounds.

    These are interval bounds and, as far as time allows, CROWN's.
    """
    if known.rows is not None:
        return known.rows.of(task.required)
    graph = subject.exact
    fit = functionals_that_fit(graph, len(graph.nodes) - 1, budget, torch.float64)
    found = margins_in_time(graph, task.box, task.required, known.bounds, fit, task.has_time)
    return torch.maximum(interval_margins(graph, task.box, task.required), found)


def single_rows(spec: Specification, instance: Tensor, row: Tensor) -> Specification:
    """Some rows of some instances, a specification for each."""
    return Specification(
        spec.rows[instance, row].unsqueeze(1), spec.offsets[instance, row].unsqueeze(1)
    )

"""Bounds of the neurons of whole boxes: what CROWN, α-CROWN and the search all start from."""

from __future__ import annotations

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
from verify_pipeline.problem import Specification


def root_budget(memory: int) -> MemoryBudget:
    """Of a task's bytes, what the functionals bounded at once may take.

    A small part, since time is looked at between two such batches.
    """
    return MemoryBudget(bytes=max(1, memory // 32))


def within_caches(budget: MemoryBudget, device: torch.device) -> MemoryBudget:
    """A quarter for functionals that are walked back once, on a processor, whose caches are small.

    ResNet-4B in float64: 16 MiB take 0.6 of the time of 64 MiB, 4 MiB more again.
    """
    return MemoryBudget(bytes=max(1, budget.bytes // 4)) if device.type == "cpu" else budget


def learned(subject: Subject, task: Task, budget: MemoryBudget) -> Learned:
    """What earlier stages left of the task's instances, or else their bounds computed anew."""
    known = task.knowledge.recall(task.indices)
    return Learned(root_bounds(subject, task, budget)) if known is None else known


def root_bounds(
    subject: Subject, task: Task, budget: MemoryBudget, wanted: Wanted | None = None
) -> NodeBounds:
    """CROWN bounds of the neurons that matter, from interval bounds, in float64.

    Layer by layer, of the instances that are ``wanted`` still; None: of all of them.

    Float64 straight away, at 2.3 times the cost of float32 (MNIST, conv-small): where an image
    stays open every later stage needs these bounds in float64, and elsewhere they decide it.
    """
    start = interval_bounds(subject.exact, task.box)
    small = within_caches(budget, subject.device)
    tightened = crown_intermediate(
        subject.exact, task.box, start, small, task.has_time, wanted=wanted
    )
    return tightened.only(needed_places(subject.exact))


def sufficient(subject: Subject, task: Task, bounds: NodeBounds) -> Specification:
    """The task's specifications as a search takes them, in which every row has to hold.

    Where rows may fail, those with the least CROWN bounds are left out: what is proved of the
    others proves the specification, and what breaks one of them may not break it.
    """
    if task.spec.spare == 0:
        return task.spec
    lower = crown_margins(subject.exact, task.box, task.spec, bounds).lower
    return task.spec.without_spare(lower)


def single_rows(spec: Specification, instance: Tensor, row: Tensor) -> Specification:
    """Some rows of some instances, a specification for each."""
    return Specification(
        spec.rows[instance, row].unsqueeze(1), spec.offsets[instance, row].unsqueeze(1)
    )

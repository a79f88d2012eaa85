"""Several processes that train one network: who is who, and what they add up.

Data-parallel training with an exact global batch: every process knows the whole batch, passes its
own part of it through the network, and gathers what the loss is a function of. The loss is then
computed on the whole batch by each process, so that no formula knows of processes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist

from verify_pipeline.errors import FirstProcessError, ProcessError, VerifyPipelineError

PATIENCE = timedelta(hours=24)
"""How long a process waits for another, such as for the first one's look at validation images.

A process that died is noticed at once, by its closed connection or by torchrun.
"""

T = TypeVar("T")


class _Sum(torch.autograd.Function):
    """The sum of each process's tensor; gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _added(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _added(gradients[0])


@dataclass(frozen=True)
class ProcessGroup:
    """One process among those that train together.

    Attributes:
        rank: of this process, from 0; the first one writes files and reports.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Which of ``count`` images of a batch are this process's: parts differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def total(self, x: Tensor) -> Tensor:
        """The sum of all processes' tensors of one shape.

        A loss that every process computes from totals is to be divided by ``size`` before
        ``backward``: gradients of all processes then add up to its gradient.

        Raises:
            ProcessError: another process has ended.
        """
        return x if self.size == 1 else cast(Tensor, _Sum.apply(x))  # type: ignore[no-untyped-call]

    def gathered(self, own: Tensor, count: int) -> Tensor:
        """The rows of all processes, ``N x …``, of this one's; differentiable.

        Args:
            own: rows of the images of :meth:`part`.
            count: N, of the whole batch.

        Raises:
            ProcessError: another process has ended.
        """
        if self.size == 1:
            return own
        part = self.part(count)
        before = own.new_zeros(part.start, *own.shape[1:])
        behind = own.new_zeros(count - part.stop, *own.shape[1:])
        return self.total(torch.cat([before, own, behind]))

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the elements of all processes' tensors, a scalar; differentiable."""
        if self.size == 1:
            return x.mean()
        total, count = self.total(torch.stack([x.sum(), x.new_tensor(x.numel())])).unbind()
        return total / count

    def rand(self, count: int) -> Callable[..., Tensor]:
        """``torch.rand`` for this process's rows of N; the generator moves as if for all of them.

        Args:
            count: N, of the whole batch.
        """

        if self.size == 1:
            return torch.rand

        def draw(shape: torch.Size, **options: Any) -> Tensor:
            return torch.rand((count, *shape[1:]), **options)[self.part(count)]

        return draw

    def add_gradients(self, module: nn.Module) -> None:
        """Put the sum of all processes' gradients into each parameter's ``grad``."""
        if self.size == 1:
            return
        held = [each for each in module.parameters() if each.requires_grad]
        flat = [(p.new_zeros(p.shape) if p.grad is None else p.grad).flatten() for p in held]
        parts = _added(torch.cat(flat)).split([each.numel() for each in held])
        for parameter, part in zip(held, parts, strict=True):
            # in the weights' order in memory, which fused steps need
            parameter.grad = torch.empty_like(parameter).copy_(part.view_as(parameter))

    def shared(self, compute: Callable[[], T]) -> T:
        """What ``compute`` gives in the first process.

        Raises:
            VerifyPipelineError: in the first process, what it raises there.
            FirstProcessError: in the others, that it has.
            ProcessError: another process has ended.
        """
        if self.size == 1:
            return compute()
        if not self.is_first:
            found: list[Any] = [None]
            with _naming_loss():
                dist.broadcast_object_list(found)
            if isinstance(found[0], FirstProcessError):
                raise found[0]
            return cast(T, found[0])
        try:
            computed = compute()
        except VerifyPipelineError as error:
            dist.broadcast_object_list([FirstProcessError("process 0", got=str(error))])
            raise
        with _naming_loss():
            dist.broadcast_object_list([computed])
        return computed

    def in_turn(self, compute: Callable[[], T]) -> T:
        """What ``compute`` gives in each process, in the first one before the others begin.

        What the first one downloads is there for the others, and a mistake is told once.

        Raises:
            As :meth:`shared`; and what ``compute`` raises in this process.
        """
        if not self.is_first:
            self.shared(_nothing)
            return compute()
        computed: list[T] = []
        self.shared(lambda: computed.append(compute()))
        return computed[0]


ALONE = ProcessGroup()
"""A training of one process."""


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The group that torchrun started this process for; :data:`ALONE` without torchrun.

    Processes talk by gloo, and by NCCL where each has a CUDA device of its own, which then is the
    current device.

    Raises:
        ProcessError: the other processes cannot be reached.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        yield ALONE
        return
    local = _local_rank()
    has_own_device = torch.cuda.device_count() > local
    if has_own_device:
        torch.cuda.set_device(local)
    try:
        dist.init_process_group(
            "cuda:nccl,cpu:gloo" if has_own_device else "gloo", timeout=PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        raise ProcessError(
            "processes of this training",
            expected="the others, at MASTER_ADDR and MASTER_PORT",
            got=_first_line(error),
            remedy="torchrun sets these variables; --master-port names a port that is free.",
        ) from error
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _local_rank() -> int:
    text = os.environ.get("LOCAL_RANK", "0")
    if not text.isdecimal():
        raise ProcessError("LOCAL_RANK", expected="a number from 0", got=text)
    return int(text)


def _nothing() -> None:
    """What the other processes do while the first one works."""


def _added(x: Tensor) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    with _naming_loss():
        dist.all_reduce(total)
    return total


@contextmanager
def _naming_loss() -> Iterator[None]:
    """A lost connection as this package's error."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessError(
            "processes of this training",
            expected="all of them to the end",
            got=f"one that has ended ({_first_line(error)})",
            remedy="The same command continues the training from its last epoch.",
        ) from error


def _first_line(error: BaseException) -> str:
    """Its first sentence, without the place in gloo's own source that it begins with."""
    line = (str(error).splitlines() or [""])[0]
    return re.sub(r"^\[[^]]*\]\s*", "", line).split(". ")[0] or type(error).__name__

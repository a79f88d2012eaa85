"""The adapter to auto_LiRPA: differentiable IBP and CROWN bounds of a torch module's margins."""

from __future__ import annotations

import logging
import re
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from verify_pipeline.errors import NetworkError
from verify_pipeline.lirpa import shims
from verify_pipeline.lirpa.backward import BackwardPass, backward_rules
from verify_pipeline.lirpa.more_activations import more_activations
from verify_pipeline.lirpa.quick_ops import fold_batch_norms, quick_ops
from verify_pipeline.lirpa.resetting import reset_quickly
from verify_pipeline.lirpa.shrinking import shrink_relus
from verify_pipeline.problem import Box

# Release 0.3 needs these options to be correct on current torch (see ARCHITECTURE.md). Later
# releases accept them.
BOUND_OPTIONS = {
    "conv_mode": "matrix",
    "sparse_features_alpha": False,
    "sparse_spec_alpha": False,
    "sparse_intermediate_bounds": False,
}


_UNABLE = (NotImplementedError, LookupError, AttributeError, AssertionError)
"""What auto_LiRPA raises where it cannot bound an operation."""


class AutoLirpaBounder:
    """Bounds a torch module, and shares its parameters and running statistics.

    Args:
        module: maps ``N x *X`` to ``N x K``. Its last layer must be linear so that the margin
            matrix can be merged into it.
        input_shape: ``*X``.
        options: auto_LiRPA's ``bound_opts``.
        relu_shrinkage: c of SABR's shrunk ReLU, in (0, 1]. Below 1, the results are no bounds: only
            for training. See ``shrinking.py``.

    Raises:
        DependencyError: auto_LiRPA is missing.
        NetworkError: auto_LiRPA cannot bound an operation of the module.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, ...],
        options: dict[str, Any] | None = None,
        relu_shrinkage: float = 1.0,
    ) -> None:
        lirpa = shims.load()
        self._module = module
        self._perturbation = lirpa.module.perturbations.PerturbationLpNorm
        self._bounded_tensor = lirpa.module.BoundedTensor
        parameters = list(module.parameters())
        gradients = [each.requires_grad for each in parameters]
        example = torch.zeros(
            2, *input_shape, device=parameters[0].device, dtype=parameters[0].dtype
        )
        training = module.training
        complaints: list[str] = []
        custom_ops: dict[str, Any] = {}
        if lirpa.version.startswith("0.3"):
            custom_ops = {**quick_ops(), **more_activations()}
        try:
            # it writes each weight into itself; a backward pass that goes on may use them
            unchanged = torch.autograd._unsafe_preserve_version_counter(  # type: ignore[attr-defined]
                tuple(parameters)
            )
            with warnings.catch_warnings(), _complaints() as complaints, unchanged:
                # tracing warns about deprecated parts of torch's exporter
                warnings.simplefilter("ignore")
                module.eval()
                self._bounded = lirpa.module.BoundedModule(
                    module,
                    example,
                    bound_opts={**BOUND_OPTIONS, **(options or {})},
                    custom_ops=custom_ops,
                )
        except (*_UNABLE, RuntimeError) as error:
            raise NetworkError(
                f"auto_LiRPA {lirpa.version} cannot bound this network",
                got=_operations(complaints) or _reason(error),
            ) from error
        finally:
            module.train(training)
            for each, wanted in zip(parameters, gradients, strict=True):
                each.requires_grad_(wanted)
        self._share_buffers()
        self._backward: BackwardPass | None = None
        if custom_ops:
            fold_batch_norms(self._bounded._modules.values())
            reset_quickly(self._bounded)
            own = BackwardPass(self._bounded, backward_rules(lirpa.module.bound_ops))
            self._backward = own if own.is_complete else None
        if relu_shrinkage < 1:
            shrink_relus(self._bounded, relu_shrinkage)
        self.train(training)

    def _share_buffers(self) -> None:
        """Share the module's running statistics, because auto_LiRPA copies buffers."""
        buffers = dict(self._module.named_buffers())
        for node in self._bounded._modules.values():
            if type(node).__name__ == "BoundBuffers" and node.ori_name in buffers:
                node.buffer = buffers[node.ori_name]

    def train(self, mode: bool) -> None:
        """Set train mode (batch statistics) or eval mode (running statistics), also of the module.

        Args:
            mode: True for train mode.
        """
        self._module.train(mode)
        self._bounded.train(mode)
        for node in self._bounded._modules.values():
            if type(node).__name__ == "BoundParams":
                # its pass lets the shared parameter have gradients in train mode, and only there
                node.train(node.param.requires_grad)

    def hold_module_weakly(self) -> None:
        """Let the module be freed while this object lives, as in a cache by module."""
        self._module = cast("nn.Module", weakref.proxy(self._module))

    def use_statistics(self, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Use these means and variances for bounds in train mode, until the next :meth:`forward`.

        Args:
            statistics: name of a batch-norm layer in the module -> mean and variance, ``C`` each.
                Gradients flow through them.
        """
        for layer, node in self._batch_norms():
            node.current_mean, node.current_var = statistics[layer]

    def statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name of each batch-norm layer -> mean and variance that bounds use, ``C`` each.

        In train mode they are those of the last :meth:`forward` or :meth:`use_statistics`, with
        their gradients; in eval mode the running ones.
        """
        return {
            layer: (node.current_mean, node.current_var)
            if node.training
            else (node.inputs[3].buffer, node.inputs[4].buffer)
            for layer, node in self._batch_norms()
        }

    def _batch_norms(self) -> Iterator[tuple[str, Any]]:
        for node in self._bounded._modules.values():
            if type(node).__name__.endswith("BatchNormalization"):
                yield node.inputs[3].ori_name.removesuffix(".running_mean"), node

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``N x K``; in train mode, later bounds use the batch statistics of ``x``."""
        out: Tensor = self._bounded(x)
        return out

    def ibp(self, box: Box, rows: Tensor) -> Tensor:
        """IBP lower bounds of ``rows · f`` over the box, ``N x S``.

        In train mode, batch normalisation uses the statistics of the last :meth:`forward` or of
        :meth:`use_statistics`. Gradients flow through them.

        Args:
            box: ``N`` boxes.
            rows: ``N x S x K``.
        """
        return self.ibp_interval(box, rows)[0]

    def ibp_interval(self, box: Box, rows: Tensor) -> tuple[Tensor, Tensor]:
        """IBP lower and upper bounds of ``rows · f``, ``N x S`` each. Arguments as for :meth:`ibp`.

        The bounds of all nodes stay for :meth:`crown_of_last_ibp` and :meth:`relu_inputs`.

        Raises:
            NetworkError: auto_LiRPA has no interval of an operation.
        """
        try:
            lower, upper = self._bounded.compute_bounds(
                x=(self._input(box),), C=rows, method="IBP", bound_upper=False
            )
        except _UNABLE as error:
            raise NetworkError("IBP bounds of this network", got=_reason(error)) from error
        return lower, upper

    def crown_ibp(self, box: Box, rows: Tensor) -> Tensor:
        """CROWN lower bounds ``N x S`` with intermediate bounds by IBP.

        CROWN-IBP: Zhang et al. 2020 (arXiv:1906.06316). Arguments as for :meth:`ibp`.

        Raises:
            NetworkError: auto_LiRPA cannot bound an operation backward.
        """
        if self._backward is None:
            return self._by_lirpa((self._input(box),), rows, "CROWN-IBP")
        self.ibp(box, rows)
        return self._backward.lower(rows)

    def crown_of_last_ibp(self, rows: Tensor) -> Tensor:
        """:meth:`crown_ibp` over the boxes of the last :meth:`ibp`, whose bounds are used again.

        Args:
            rows: ``N x S x K``; other rows than those of the last :meth:`ibp` are possible.

        Raises:
            NetworkError: auto_LiRPA cannot bound an operation backward.
        """
        if self._backward is None:
            return self._by_lirpa(None, rows, "CROWN-IBP")
        return self._backward.lower(rows)

    def crown(self, box: Box, rows: Tensor) -> Tensor:
        """CROWN lower bounds ``N x S`` with intermediate bounds by CROWN.

        Zhang et al. 2018 (arXiv:1811.00866). Arguments as for :meth:`ibp`.

        Raises:
            NetworkError: auto_LiRPA cannot bound an operation backward.
        """
        return self._by_lirpa((self._input(box),), rows, "CROWN")

    def relu_inputs(self) -> list[tuple[Tensor, Tensor]]:
        """Lower and upper bounds ``N x *V`` of each ReLU's input, from the last computation."""
        return [(node.inputs[0].lower, node.inputs[0].upper) for node in self._relus()]

    def relu_outputs(self) -> list[tuple[Tensor, Tensor]]:
        """Lower and upper bounds ``N x *V`` of each ReLU's output, from the last :meth:`ibp`.

        Gradients flow through them. ReLUs are in the order in which the module computes them.
        """
        return [(node.lower, node.upper) for node in self._relus()]

    def _relus(self) -> list[Any]:
        nodes = self._bounded._modules.values()
        return [node for node in nodes if type(node).__name__ == "BoundRelu"]

    def _by_lirpa(self, inputs: tuple[Any] | None, rows: Tensor, method: str) -> Tensor:
        """By auto_LiRPA's own backward pass; without inputs, over the last ones."""
        try:
            lower, _ = self._bounded.compute_bounds(
                x=inputs, C=rows, method=method, bound_upper=False
            )
        except NotImplementedError as error:
            raise NetworkError(
                f"{method} of this network",
                got=f"an operation that auto_LiRPA cannot bound backward ({error})",
                remedy="Train with a loss of IBP bounds.",
            ) from error
        bound: Tensor = lower
        return bound

    def _input(self, box: Box) -> Any:
        perturbation = self._perturbation(norm=float("inf"), x_L=box.lower, x_U=box.upper)
        return self._bounded_tensor(box.center, perturbation)


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collects what auto_LiRPA logs as an error, instead of printing it."""
    told: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("auto_LiRPA.utils")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


def _reason(error: Exception) -> str:
    """The kind of an error, and what it says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())


def _operations(complaints: list[str]) -> str:
    """The operations that auto_LiRPA lists as unsupported: ``Erf, TopK``; empty: it lists none."""
    found = (re.match(r"Name: \w+::(\w+)", told) for told in complaints)
    return ", ".join(dict.fromkeys(each[1] for each in found if each))

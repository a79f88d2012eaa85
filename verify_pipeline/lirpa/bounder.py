"""The adapter to auto_LiRPA: differentiable IBP and CROWN bounds of a torch module's margins."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from verify_pipeline.errors import NetworkError
from verify_pipeline.lirpa import shims
from verify_pipeline.lirpa.backward import BackwardPass, backward_rules
from verify_pipeline.lirpa.quick_ops import fold_batch_norms, quick_ops
from verify_pipeline.lirpa.resetting import reset_quickly
from verify_pipeline.problem import Box

# Release 0.3 needs these options to be correct on current torch (see ARCHITECTURE.md). Later
# releases accept them.
BOUND_OPTIONS = {
    "conv_mode": "matrix",
    "sparse_features_alpha": False,
    "sparse_spec_alpha": False,
    "sparse_intermediate_bounds": False,
}


class AutoLirpaBounder:
    """Bounds a torch module, and shares its parameters and running statistics.

    Args:
        module: maps ``N x *X`` to ``N x K``. Its last layer must be linear so that the margin
            matrix can be merged into it.
        input_shape: ``*X``.
        options: auto_LiRPA's ``bound_opts``.

    Raises:
        DependencyError: auto_LiRPA is missing.
        NetworkError: auto_LiRPA cannot bound an operation of the module.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, ...],
        options: dict[str, Any] | None = None,
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
        custom_ops = quick_ops() if lirpa.version.startswith("0.3") else {}
        try:
            with warnings.catch_warnings():
                # tracing warns about deprecated parts of torch's exporter
                warnings.simplefilter("ignore")
                module.eval()
                self._bounded = lirpa.module.BoundedModule(
                    module,
                    example,
                    bound_opts={**BOUND_OPTIONS, **(options or {})},
                    custom_ops=custom_ops,
                )
        except (NotImplementedError, KeyError, RuntimeError) as error:
            raise NetworkError(
                f"auto_LiRPA {lirpa.version} cannot bound this network", got=str(error)
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
                # in eval mode, it would disable the gradients of the shared parameters
                node.train(True)

    def use_statistics(self, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Use these means and variances for bounds in train mode, until the next :meth:`forward`.

        Args:
            statistics: name of a batch-norm layer in the module -> mean and variance, ``C`` each.
                Gradients flow through them.
        """
        for node in self._bounded._modules.values():
            if type(node).__name__.endswith("BatchNormalization"):
                layer = node.inputs[3].ori_name.removesuffix(".running_mean")
                node.current_mean, node.current_var = statistics[layer]

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
        """
        lower, upper = self._bounded.compute_bounds(
            x=(self._input(box),), C=rows, method="IBP", bound_upper=False
        )
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
        return [
            (node.inputs[0].lower, node.inputs[0].upper)
            for node in self._bounded._modules.values()
            if type(node).__name__ == "BoundRelu"
        ]

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

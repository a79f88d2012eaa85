"""The convolutions and linear layers of a training step, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline.losses import Loss
from verify_pipeline.losses.consistency import divergence_attack
from verify_pipeline.network.cutting import ModuleCuts
from verify_pipeline.training.initialise import weight_layers
from verify_pipeline.training.settings import TapsSettings


@dataclass(frozen=True)
class Work:
    """How often a step passes each layer.

    Attributes:
        forwards: without gradient.
        to_inputs: forward, and backward to the input: steps of the attack.
        trained: forward, and backward to weights and input.
        radii: as many with ``|W|`` and without bias.
        rows: of CROWN-IBP: each image has so many coefficients, which go from the outputs to the
            inputs through the transposed layer, and backward to weights and coefficients.
    """

    forwards: int
    to_inputs: int
    trained: int
    radii: int
    rows: int = 0

    @staticmethod
    def of(loss: Loss, attack_steps: int, classes: int) -> Work:
        """The passes of one step after the ramp, of a network with batch normalisation.

        The last pass of points is trained: the loss is of it, or bounds use its statistics.

        Args:
            loss: whose step it is.
            attack_steps: of each attack.
            classes: K.
        """
        attacks, bounds = int(loss.needs_attack), int(loss.needs_bounds)
        clean = int(loss.needs_clean)
        looks = 1 - clean + (attack_steps > 1) + (loss.attack_objective is divergence_attack)
        return Work(
            # the clean pass, the last iterate, what the attack compares with
            forwards=attacks * looks,
            to_inputs=attacks * attack_steps,
            trained=1 + clean + bounds,
            radii=bounds,
            rows=loss.needs_crown * (classes - 1 if loss.combination is None else 1),
        )


class PlainWork:
    """The convolutions and linear layers of a network, each on the shape it meets there.

    Args:
        module: the network.
        images: ``N x C x H x W``.
        work: how often each layer is passed.
    """

    def __init__(self, module: nn.Module, images: Tensor, work: Work) -> None:
        self._work = work
        self._layers: list[tuple[nn.Conv2d | nn.Linear, Tensor]] = []
        hooks = [layer.register_forward_hook(self._note) for layer in weight_layers(module)]
        with torch.no_grad():
            module.eval()(images)
        for hook in hooks:
            hook.remove()

    def _note(self, layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
        self._layers.append((layer, inputs[0].detach().clone()))

    @staticmethod
    def _apply(
        layer: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(x, weight, bias, layer.stride, layer.padding)
        return F.linear(x, weight, bias)

    @staticmethod
    def _transposed(layer: nn.Conv2d | nn.Linear, like: Tensor, coefficient: Tensor) -> Tensor:
        """Coefficients of the layer's inputs, which are shaped like these, from its outputs'."""
        weight = layer.weight
        if isinstance(layer, nn.Linear):
            return coefficient @ weight
        stride, padding = layer.stride, (int(layer.padding[0]), int(layer.padding[1]))
        rest = [
            (size + 2 * padding[axis] - layer.kernel_size[axis]) % stride[axis]
            for axis, size in enumerate(like.shape[2:])
        ]
        return F.conv_transpose2d(coefficient, weight, None, stride, padding, rest)

    def __call__(self) -> None:
        """All passes of all layers, once."""
        for place, (layer, x) in enumerate(self._layers):
            weight, bias = layer.weight, layer.bias
            with torch.no_grad():
                for _ in range(self._work.forwards):
                    self._apply(layer, x, weight, bias)
            for _ in range(self._work.to_inputs):
                point = x.clone().requires_grad_()
                out = self._apply(layer, point, weight, bias)
                torch.autograd.grad(out, point, torch.ones_like(out))
            # the first layer's input asks for no gradient in the backward pass
            passes = [(weight, bias)] * self._work.trained + [
                (weight.abs(), None) for _ in range(self._work.radii)
            ]
            inputs = [x.clone().requires_grad_(place > 0) for _ in passes]
            outs = [
                self._apply(layer, each, *parameters)
                for each, parameters in zip(inputs, passes, strict=True)
            ]
            if self._work.rows:
                of_output = outs[0].detach().repeat_interleave(self._work.rows, 0)
                outs.append(self._transposed(layer, x, of_output.requires_grad_()))
            torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
            layer.zero_grad(set_to_none=True)


def latent_work(module: nn.Module, images: Tensor, taps: TapsSettings, classes: int) -> PlainWork:
    """The passes of TAPS's attack and margins through the classifier part alone.

    Args:
        module: a sequence of layers with as many ReLUs as the attack needs.
        images: ``N x C x H x W``.
        taps: where the network is cut, and how many steps the attack has.
        classes: K; each image has a latent point for each wrong class.
    """
    seen: list[Tensor] = []
    relus = [layer for layer in module.modules() if isinstance(layer, nn.ReLU)]
    cut = relus[-1 - taps.classifier_relus]
    hook = cut.register_forward_hook(lambda _, inputs, output: seen.append(output.detach()))
    with torch.no_grad():
        module.eval()(images)
    hook.remove()
    points = seen[0].repeat_interleave(classes - 1, 0)
    steps = taps.attack.steps
    # the last iterate is looked at, and the margins at the points are trained
    work = Work(forwards=int(steps > 1), to_inputs=steps, trained=1, radii=0)
    return PlainWork(ModuleCuts(module).behind(taps.classifier_relus), points, work)

"""What a module of anybody's must be so that it can be trained, exported and certified.

All of it is tried before training begins, so that nobody trains for hours what nothing can bound.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from verify_pipeline.errors import NetworkError, VerifyPipelineError
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import Loss
from verify_pipeline.onnx import network_from_module
from verify_pipeline.problem import Box, margin_matrix
from verify_pipeline.training.batch_norm import batch_norms

EXAMPLES = 2
"""Inputs at which a module is tried."""

HALF_WIDTH = 1e-3
"""Of the boxes at which bounds are tried."""

ROUNDING = 1e3
"""By which an output may be outside of its bounds: in units of its type's precision (of float32 in
float64), relative to the greatest one (at least 1)."""


def check_weights(module: nn.Module) -> None:
    """Refuse a module whose weights cannot be drawn, trained and copied.

    Raises:
        NetworkError: it is compiled, has none to train, some without a shape, or some that torch
            cannot copy.
    """
    name = type(module).__name__
    if any(isinstance(each, torch.jit.ScriptModule) for each in module.modules()):
        raise NetworkError(
            f"network {name}",
            expected="Python's layers",
            got="TorchScript",
            remedy="Give the module that it was compiled from.",
        )
    if not any(each.requires_grad for each in module.parameters()):
        raise NetworkError(f"network {name}", expected="weights to train", got="none")
    lazy = [k for k, v in module.named_parameters() if isinstance(v, UninitializedParameter)]
    if lazy:
        raise NetworkError(
            f"network {name}",
            expected="weights that have a shape",
            got=f"none yet in {', '.join(lazy)}",
            remedy="Pass one image through it first, or write layers with all of their sizes.",
        )
    try:
        copy.deepcopy(module)
    except Exception as error:  # whatever parts of a module do when they are copied
        raise NetworkError(
            f"network {name}",
            expected="a module that copy.deepcopy copies",
            got=" ".join(str(error).split()),
        ) from error


def check_module(
    module: nn.Module,
    shape: tuple[int, ...],
    classes: int,
    loss: Loss,
    *,
    is_watched: bool = False,
) -> None:
    """Refuse a module that cannot be trained with a loss, or not be certified afterwards.

    :func:`check_weights` has to have passed it.

    Args:
        module: of pixels ``N x *X`` in [0, 1] to logits ``N x K``; it stays as it is.
        shape: ``*X``.
        classes: K.
        loss: that it is to be trained with.
        is_watched: whether bounds of held-out images are measured, whatever the loss.

    Raises:
        NetworkError: it has another number of outputs, draws random numbers, or has a layer that
            cannot be bounded or exported; layers are named as the module names them.
    """
    name = type(module).__name__
    module = copy.deepcopy(module).cpu()
    inputs = _examples(module, shape)
    _check_statistics(module, name)
    _check_outputs(module, inputs, classes, name)
    _check_passed_once(module, inputs, name)
    _check_repeatable(module, inputs, name)
    if loss.needs_bounds or is_watched:
        _check_bounds(module, inputs, classes, loss, name)
    _check_certifiable(module, shape, name)


def _examples(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    dtype = next(module.parameters()).dtype
    return torch.rand(EXAMPLES, *shape, generator=generator, dtype=dtype)


def _check_statistics(module: nn.Module, name: str) -> None:
    """Batch normalisation has to keep running statistics: a verified network uses no batch."""
    without = [key for key, layer in batch_norms(module).items() if layer.running_mean is None]
    if without:
        raise NetworkError(
            f"network {name}",
            expected="batch normalisation with running statistics",
            got=f"none in {_named(without, module)}",
            remedy="Leave track_running_stats at True.",
        )


@torch.no_grad()
def _check_outputs(module: nn.Module, inputs: Tensor, classes: int, name: str) -> None:
    expected = f"logits N x {classes} of pixels {tuple(inputs.shape)}"
    try:
        outputs = module.eval()(inputs)
    except Exception as error:
        told = " ".join(str(error).split())
        raise NetworkError(
            f"network {name}",
            expected=expected,
            got=f"{type(error).__name__}: {told}{_in_layer(module, inputs)}",
        ) from error
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if shape != (EXAMPLES, classes):
        raise NetworkError(f"network {name}", expected=expected, got=f"{shape}")


@torch.no_grad()
def _check_passed_once(module: nn.Module, inputs: Tensor, name: str) -> None:
    """A layer of batch normalisation has one mean and variance, which bounds and attacks share."""
    passes: Counter[str] = Counter()
    with _watched(module, lambda key, *_: passes.update([key])):
        module(inputs)
    several = [key for key in batch_norms(module) if passes[key] > 1]
    if several:
        raise NetworkError(
            f"network {name}",
            expected="each batch normalisation to be passed once",
            got=f"{passes[several[0]]} passes through {_named(several[:1], module)}",
            remedy="Write a layer of its own for each place.",
        )


@torch.no_grad()
def _check_repeatable(module: nn.Module, inputs: Tensor, name: str) -> None:
    """In train mode too: random numbers of a layer's own are in no checkpoint."""
    first, second = (_outputs_by_layer(copy.deepcopy(module).train(), inputs) for _ in range(2))
    other = [key for key, value in first.items() if not _same(value, second.get(key))]
    if other:
        parts = dict(module.named_modules())
        leaves = [key for key in other if not list(parts[key].children())]
        got = _named(leaves[:1], module) if leaves else "its forward pass"
        raise NetworkError(
            f"network {name}",
            expected="the same outputs whenever it gets the same inputs, also in train mode",
            got=f"others from {got}",
            remedy="Leave out dropout and other noise: the bounds would not have it, and a "
            "continued training would draw other numbers.",
        )


def _check_bounds(module: nn.Module, inputs: Tensor, classes: int, loss: Loss, name: str) -> None:
    labels = torch.zeros(EXAMPLES, dtype=torch.int64)
    try:
        _bound(module, inputs, margin_matrix(labels, classes, inputs.dtype), loss.needs_crown)
    except Exception as error:
        wrong = _unbounded(module, inputs, loss.needs_crown)
        got = _named(wrong, module) if wrong else "operations outside of its layers"
        told = error.got if isinstance(error, VerifyPipelineError) else str(error)
        purpose, otherwise = loss.name, "train with a loss without bounds: adversarial, natural"
        if not loss.needs_bounds:
            purpose, otherwise = "held-out images", "set watch.every to 0"
        raise NetworkError(
            f"network {name}",
            expected=f"layers that auto_LiRPA can bound, for {purpose}",
            got=f"{got}: {told}" if told else got,
            remedy=f"Replace them (docs/own-network.md lists what works), or {otherwise}.",
        ) from error


def _bound(module: nn.Module, inputs: Tensor, rows: Tensor, crown: bool) -> None:
    """Bounds over small boxes, as a training step computes them; raises whatever goes wrong."""
    bounder = AutoLirpaBounder(module, tuple(inputs.shape[1:]))
    box = Box(inputs - HALF_WIDTH, inputs + HALF_WIDTH)
    for training in (False, True):
        bounder.train(training)
        if training and batch_norms(module):
            bounder.forward(inputs)  # bounds use its statistics
        lower, upper = bounder.ibp_interval(box, rows)
        lowers = [lower, bounder.crown_ibp(box, rows)] if crown else [lower]
        if not all(bool(torch.isfinite(each).all()) for each in (*lowers, upper)):
            raise NetworkError("bounds", expected="finite numbers", got="bounds that are not")
        with torch.no_grad():
            margins = torch.einsum("nsk,nk->ns", rows, module(inputs))
            outside = torch.stack([margins - upper, *(each - margins for each in lowers)]).max()
        precision = max(torch.finfo(each).eps for each in (margins.dtype, torch.float32))
        if float(outside) > ROUNDING * precision * max(1.0, float(margins.abs().max())):
            mode = "train" if training else "eval"
            raise NetworkError(
                "bounds", expected="the outputs in them", got=f"other outputs in {mode} mode"
            )


def _unbounded(module: nn.Module, inputs: Tensor, crown: bool) -> list[str]:
    """The layers that cannot be bounded alone, by name."""
    parts = dict(module.named_modules())
    seen = _inputs_by_layer(module.eval(), inputs)
    return [name for name, given in seen.items() if not _can_bound(parts[name], given, crown)]


def _can_bound(layer: nn.Module, inputs: Tensor, crown: bool) -> bool:
    """Whether a network of this layer and a linear one can be bounded."""
    try:
        outputs = layer(inputs)
        head = nn.Linear(outputs[0].numel(), 2, dtype=inputs.dtype)
        rows = torch.ones(len(inputs), 1, 2, dtype=inputs.dtype)
        _bound(nn.Sequential(layer, nn.Flatten(), head), inputs, rows, crown)
    except Exception:
        return False
    return True


def _check_certifiable(module: nn.Module, shape: tuple[int, ...], name: str) -> None:
    try:
        network_from_module(module, shape)
    except NetworkError as error:
        raise NetworkError(
            f"network {name}, as certification would read it ({error.what})",
            expected=error.expected,
            got=error.got,
            remedy=error.remedy,
        ) from error


Seen = Callable[[str, tuple[Tensor, ...], Tensor], None]


@contextmanager
def _watched(module: nn.Module, seen: Seen) -> Iterator[None]:
    """Tells of each call of a layer: its name, what it got, what it gave."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _, inputs, output: seen(name, inputs, output)

    handles = [part.register_forward_hook(hook(name)) for name, part in module.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _outputs_by_layer(module: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """What each layer gave, in the order of calls; of several calls the last."""
    found: dict[str, Tensor] = {}
    with _watched(module, lambda name, _, output: found.update({name: output})):
        module(inputs)
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def _inputs_by_layer(module: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """What each layer without parts got, in the order of calls."""
    leaves = {name for name, part in module.named_modules() if not list(part.children())}
    found: dict[str, Tensor] = {}

    def seen(name: str, given: tuple[Tensor, ...], _: Tensor) -> None:
        if name in leaves and len(given) == 1 and isinstance(given[0], Tensor):
            found.setdefault(name, given[0].detach())

    with _watched(module, seen), torch.no_grad():
        module(inputs)
    return found


def _in_layer(module: nn.Module, inputs: Tensor) -> str:
    """Where a forward pass fails: behind which layer."""
    called: list[str] = []
    leaves = {name for name, part in module.named_modules() if not list(part.children())}
    with _watched(module, lambda name, *_: called.append(name) if name in leaves else None):
        try:
            module(inputs)
        except Exception:
            return f", after layer {_named(called[-1:], module)}" if called else ""
    return ""


def _same(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and a.shape == b.shape and bool(torch.equal(a, b))


def _named(names: list[str], module: nn.Module) -> str:
    """``features.3 (GELU), head.1 (Dropout)``."""
    parts = dict(module.named_modules())
    return ", ".join(f"{name or 'it'} ({type(parts[name]).__name__})" for name in names)

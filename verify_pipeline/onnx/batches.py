"""Refuse files whose outputs for one input depend on the others of a batch.

The file is read once more, at a batch of :data:`BATCH` inputs, with the batch as an axis like any
other, and every number's owner is followed (``owners.py``). This detects effects that samples may
miss, such as a maximum over the batch that matters only beside a bright image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor

from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx.half import is_real
from verify_pipeline.onnx.model_file import Array, Signature, initializers, signature
from verify_pipeline.onnx.operators.registry import node_name
from verify_pipeline.onnx.owners import MixingError, OwnerBuilder
from verify_pipeline.onnx.reader import OfShapes, Reading
from verify_pipeline.onnx.trace import Activation, Trace

BATCH = 3
"""Inputs in a batch at which the file is read."""

LARGEST_KEPT = 1 << 12
"""Numbers of a floating-point weight above which only its shape is kept: sizes and places, which
the shapes of values depend on, are few."""


MOVES = frozenset(
    {
        *(
            "Cast",
            "Concat",
            "ConstantOfShape",
            "Expand",
            "Flatten",
            "Gather",
            "GatherND",
            "Identity",
        ),
        *(
            "Reshape",
            "Shape",
            "Size",
            "Slice",
            "Split",
            "Squeeze",
            "Tile",
            "Transpose",
            "Unsqueeze",
        ),
    }
)
"""Operators that move and repeat numbers."""


def refuse_mixing(
    model: ModelProto, source: str, of_shapes: Mapping[str, OfShapes], takes_batches: bool
) -> None:
    """Follow the batch axis through a file.

    Args:
        model: with its functions inlined and all weights in it.
        source: how messages name the file.
        of_shapes: constants made of shapes, at a batch of one.
        takes_batches: whether onnxruntime runs it on several inputs at once. If it does not, they
            are run one by one, and a file that cannot be read at a batch is none of batches.

    Raises:
        NetworkError: an operation over the batch axis, or one behind which it cannot be followed.
    """
    what = signature(model, source)
    if not what.free:
        return
    owners = torch.cat([_owners(item.size) for item in what.inputs])
    batch = _at_batch(what)
    builder = OwnerBuilder(owners.reshape(batch.input_shape), batch.inputs[0].name)
    trace = Trace(batch.input_shape, batch.inputs[0].name, builder, BATCH)
    weights = initializers(model, source)
    large = {name for name, value in weights.items() if _is_large(value)}
    weights |= {name: _shape_of(weights[name]) for name in large}
    try:
        with np.errstate(all="ignore"):
            reading = Reading(model, source, batch, trace, weights, large)
            reading.read()
    except MixingError:
        where = "outputs" if reading.node is None else node_name(reading.node)
        raise _error(source, where, "an operation over the batch axis") from None
    except NetworkError as error:
        if takes_batches:
            raise NetworkError(
                f"{source}, read at a batch of {BATCH} inputs",
                expected="operations that keep them apart",
                got=str(error),
                remedy="Export it with a fixed batch of one.",
            ) from error
        return
    for name in sorted(reading.numbers & _varying(of_shapes, reading.of_shapes)):
        raise _error(source, f"value {name!r}", "the size of a batch as a number")
    for name, value in zip(what.outputs, reading.outputs(), strict=True):
        if isinstance(value, Activation) and not _in_order(builder.owners(value.place)):
            raise _error(source, f"output {name!r}", "the inputs of a batch in another order")


def _at_batch(what: Signature) -> Signature:
    """The signature with the batch as an axis like any other."""
    inputs = [
        replace(item, shape=(BATCH, *item.inner), batch_axis=False, free=False)
        for item in what.inputs
    ]
    return Signature(tuple(inputs), what.outputs)


def _owners(size: int) -> Tensor:
    """Of one input's numbers: a batch of flat vectors of that size, one after another."""
    return torch.arange(float(BATCH)).repeat_interleave(size)


def _in_order(owners: Tensor) -> bool:
    """Whether an output has as many numbers of each input, in the batch's order."""
    flat = owners.flatten()
    if len(flat) % BATCH:
        return False
    return bool(((flat == _owners(len(flat) // BATCH)) | torch.isneginf(flat)).all())


def _is_large(weight: Array) -> bool:
    return is_real(weight) and weight.size > LARGEST_KEPT


def _shape_of(weight: Array) -> Array:
    """A single number with the value's shape."""
    return np.broadcast_to(np.ones((), weight.dtype), weight.shape)


def _varying(one: Mapping[str, OfShapes], batch: Mapping[str, OfShapes]) -> set[str]:
    """Names of constants that depend on the size of the batch, seen or not at these two sizes.

    Operators that move numbers may pick one that does not vary; others mix what they are given.
    """
    varying: set[str] = set()
    for name, found in batch.items():
        mixes = found.operator not in MOVES and not varying.isdisjoint(found.inputs)
        if mixes or (name in one and not _same_numbers(one[name].value, found.value)):
            varying.add(name)
    return varying


def _same_numbers(one: Array, other: Array) -> bool:
    """Whether two constants are the same, repeated or not."""
    if one.shape == other.shape:
        return np.array_equal(one, other)
    return np.array_equal(np.unique(one), np.unique(other))


def _error(source: str, where: str, got: str) -> NetworkError:
    return NetworkError(
        f"{source}: {where}",
        expected="outputs of each input alone, whatever else is in a batch",
        got=got,
        remedy="Let it work within each input (axis 1 and later), or export the file with a fixed "
        "batch of one.",
    )

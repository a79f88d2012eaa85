"""Refuse files whose outputs for one input depend on the others of a batch.

The file is read once more, at a batch of :data:`BATCH` inputs, with the batch as an axis like any
other, and every number's owner is followed (``owners.py``). That sees what no sample need show: a
maximum over the batch, say, that counts only beside a bright image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor

from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx.model_file import Array, Signature, initializers, signature
from verify_pipeline.onnx.operators.registry import node_name
from verify_pipeline.onnx.owners import MixingError, OwnerBuilder
from verify_pipeline.onnx.reader import Reading
from verify_pipeline.onnx.trace import Activation, Trace

BATCH = 3
"""Inputs in a batch at which the file is read."""

LARGEST_KEPT = 1 << 12
"""Numbers of a floating-point weight above which only its shape is kept: sizes and places, which
the shapes of values depend on, are few."""


def refuse_mixing(model: ModelProto, source: str, takes_batches: bool) -> None:
    """Follow the batch axis through a file.

    Args:
        model: with its functions inlined and all weights in it.
        source: how messages name the file.
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
    trace = Trace(batch.input_shape, batch.inputs[0].name, builder)
    weights = _shapes(initializers(model, source))
    try:
        with np.errstate(all="ignore"):
            reading = Reading(model, source, batch, trace, weights)
            reading.read()
    except MixingError:
        raise _error(source, reading) from None
    except NetworkError as error:
        if takes_batches:
            raise NetworkError(
                f"{source}, read at a batch of {BATCH} inputs",
                expected="operations that keep them apart",
                got=str(error),
                remedy="Export it with a fixed batch of one.",
            ) from error
        return
    for name, value in zip(what.outputs, reading.outputs(), strict=True):
        if isinstance(value, Activation) and not _in_order(builder.owners(value.place)):
            raise _misplaced(source, name)


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


def _shapes(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Large weights as one number of their shape: which numbers they are does not matter."""
    one = np.ones((), np.float32)
    return {
        name: np.broadcast_to(one.astype(value.dtype), value.shape)
        if value.dtype.kind == "f" and value.size > LARGEST_KEPT
        else value
        for name, value in weights.items()
    }


def _error(source: str, reading: Reading) -> NetworkError:
    where = "outputs" if reading.node is None else node_name(reading.node)
    return NetworkError(
        f"{source}: {where}",
        expected="outputs of each input alone, whatever else is in a batch",
        got="an operation over the batch axis",
        remedy="Let it work within each input (axis 1 and later), or export the file with a fixed "
        "batch of one.",
    )


def _misplaced(source: str, name: str) -> NetworkError:
    return NetworkError(
        f"{source}: output {name!r}",
        expected="a first axis that is the batch, in its order",
        got="the inputs of a batch in other places, or left out",
        remedy="Transpose the output, or export the file with a fixed batch of one.",
    )

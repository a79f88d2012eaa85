"""Read an ONNX file's bytes into a checked model with its signature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper

from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx.half import BFLOAT16, OF_FILES, is_real

LARGEST_FILE = 2**31 - 1
"""Bytes; what one protocol-buffer message can hold."""

LARGEST_VALUE = 2**25
"""Elements that one value of a network may have for one input; more is taken for a broken file."""

FOREIGN = {
    b"PK\x03\x04": "a zip archive, which torch checkpoints are, too",
    b"\x1f\x8b": "a gzip file, whose name would have to end in .gz",
    b"\x89HDF": "an HDF5 file, which keras checkpoints are",
    b"\x89PNG": "a PNG image",
    b"\x80\x02": "a pickle, which old torch checkpoints are",
    b"%PDF": "a PDF document",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
}
"""First bytes of other file formats, and their names; no ONNX file starts like this."""

Array = NDArray[Any]


@dataclass(frozen=True)
class FileInput:
    """One input of an ONNX file.

    Attributes:
        name: in the file.
        shape: of the value for one network input, the batch axis (if there is one) as 1.
        batch_axis: whether the first axis is a batch axis: it is free, or it is 1 and not alone.
        free: whether the batch axis may be other than 1.
        dtype: that the file wants.
    """

    name: str
    shape: tuple[int, ...]
    batch_axis: bool
    free: bool
    dtype: np.dtype[Any]

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape without the batch axis."""
        return self.shape[1:] if self.batch_axis else self.shape

    @property
    def size(self) -> int:
        """Number of elements of one network input."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of an ONNX file, seen as one network with one input and one output.

    A file with several inputs is a network of one flat vector, its inputs flattened and joined in
    the file's order; several outputs are joined likewise (the numbering of VNN-LIB 1.0).
    """

    inputs: tuple[FileInput, ...]
    outputs: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``*X``."""
        if len(self.inputs) == 1:
            return self.inputs[0].inner
        return (sum(item.size for item in self.inputs),)

    @property
    def free(self) -> bool:
        """Whether the file takes batches of any size."""
        return all(item.free for item in self.inputs)


def parse_model(data: bytes, source: str) -> ModelProto:
    """The model in ``data`` as it is written; onnxruntime judges later if it is valid.

    Args:
        data: the whole file.
        source: how messages name it.

    Raises:
        NetworkError: empty, too large, truncated, or no ONNX at all.
    """
    if not 0 < len(data) <= LARGEST_FILE:
        raise NetworkError(
            source, expected=f"an ONNX file of 1 to {LARGEST_FILE} bytes", got=f"{len(data)} bytes"
        )
    for start, kind in FOREIGN.items():
        if data.startswith(start):
            raise NetworkError(source, expected="an ONNX file", got=kind)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise NetworkError(
            source,
            expected="an ONNX file",
            got=f"bytes that do not parse ({error})",
            remedy="It may be truncated or of another kind; fetch or export it again.",
        ) from None
    return model


def inline_functions(model: ModelProto, source: str) -> ModelProto:
    """The model with its functions' nodes in place of their calls; itself without functions.

    Raises:
        NetworkError: the functions contradict themselves.
    """
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except (ValueError, RuntimeError, TypeError) as error:
        raise NetworkError(
            f"{source}: functions of the model", expected="valid ones", got=_first_line(error)
        ) from None


def serialised(model: ModelProto, source: str) -> bytes:
    """The bytes of one file with all of the model in it.

    Raises:
        NetworkError: it is too large for one file.
    """
    if (size := model.ByteSize()) > LARGEST_FILE:
        raise NetworkError(source, expected=f"at most {LARGEST_FILE} bytes", got=f"{size} bytes")
    return bytes(model.SerializeToString())


def type_name(element: int) -> str:
    """A type of ONNX's tensors as messages name it, e.g. ``float16``."""
    if element not in TensorProto.DataType.values():
        return f"type {element}"
    return str(TensorProto.DataType.Name(element)).lower()


def opset_of(model: ModelProto, source: str) -> int:
    """Version of the standard operator set that the file is written in."""
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if not versions:
        raise NetworkError(source, expected="an ONNX operator set version", got="none")
    return int(max(versions))


def initializers(model: ModelProto, source: str) -> dict[str, Array]:
    """The file's weights by name.

    Raises:
        NetworkError: a weight is NaN, or is stored in a form that is not read.
    """
    if model.graph.sparse_initializer:
        raise NetworkError(source, expected="dense weights", got="sparse ones")
    arrays: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        try:
            array = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, RuntimeError, LookupError) as error:
            raise NetworkError(f"{source}: weight {tensor.name}", got=_first_line(error)) from None
        if tensor.data_type == TensorProto.BFLOAT16:  # older versions of onnx give float32
            array = array.astype(BFLOAT16)
        if array.dtype.kind not in "biu" and not is_real(array):
            raise NetworkError(
                f"{source}: weight {tensor.name}", expected="real numbers", got=str(array.dtype)
            )
        refuse_nan(array, f"{source}: weight {tensor.name}")
        arrays[tensor.name] = array
    return arrays


def refuse_nan(array: Array, what: str) -> None:
    """Raise NetworkError if ``array`` holds a NaN."""
    if is_real(array) and bool(np.isnan(array).any()):
        raise NetworkError(
            what, expected="numbers", got="NaN", remedy="Was the training that wrote it diverging?"
        )


def signature(model: ModelProto, source: str) -> Signature:
    """The file's inputs and outputs; initialisers listed among the inputs do not count.

    Raises:
        NetworkError: no input or output, or one of a type or shape that cannot be used.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(
        _file_input(value, source) for value in model.graph.input if value.name not in weights
    )
    outputs = tuple(value.name for value in model.graph.output)
    if not inputs or not outputs:
        raise NetworkError(source, expected="a network with an input and an output", got="none")
    if {BFLOAT16, np.dtype(np.float16)} <= {item.dtype for item in inputs}:
        raise NetworkError(
            f"{source}: inputs",
            expected="one half precision",
            got="float16 and bfloat16",
            remedy="Export the network with inputs of one type.",
        )
    return Signature(inputs, outputs)


def _file_input(value: ValueInfoProto, source: str) -> FileInput:
    what = f"{source}: input {value.name}"
    tensor = value.type.tensor_type
    if tensor.elem_type not in OF_FILES:
        raise NetworkError(
            what,
            expected="float32, float64, float16 or bfloat16 numbers",
            got=type_name(tensor.elem_type),
            remedy="Export the network with float32 inputs.",
        )
    if not tensor.HasField("shape"):
        raise NetworkError(what, expected="a shape", got="none")
    sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    first_free = len(sizes) > 1 and sizes[0] <= 0
    if any(size <= 0 for size in sizes[1 if first_free else 0 :]) or not sizes:
        raise NetworkError(
            what,
            expected="known sizes of all axes but the first",
            got=str([size if size > 0 else "free" for size in sizes]),
            remedy="Export the network with fixed image sizes.",
        )
    shape = (1, *sizes[1:]) if first_free else tuple(sizes)
    if math.prod(shape) > LARGEST_VALUE:
        raise NetworkError(what, expected=f"at most {LARGEST_VALUE} numbers", got=str(shape))
    return FileInput(
        name=value.name,
        shape=shape,
        batch_axis=len(shape) > 1 and shape[0] == 1,
        free=first_free,
        dtype=OF_FILES[tensor.elem_type],
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

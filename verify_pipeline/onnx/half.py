"""Half precision in ONNX files: float16 and bfloat16, whose numbers are all float32 numbers, too.

A file's constants keep their type while constants are computed of them, as the file computes them.
Where an activation meets them, they are read as real numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from verify_pipeline.errors import NetworkError

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
"""As numpy has it; its kind is that of raw bytes."""

TYPES: dict[np.dtype[Any], torch.dtype] = {
    np.dtype(np.float64): torch.float64,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float16): torch.float16,
    BFLOAT16: torch.bfloat16,
}
"""Types of real numbers in files, and torch's names of them."""

HALVES = (torch.float16, torch.bfloat16)
"""Those narrower than float32."""

OF_FILES: dict[int, np.dtype[Any]] = {
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: BFLOAT16,
}
"""The same by ONNX's numbers of them."""

TYPES_APART = frozenset(
    {"BatchNormalization", "Cast", "CastLike", "Pow", "Resize", "RMSNormalization", "Upsample"}
)
"""Operators whose inputs need not be of one type."""


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of a type are narrower than float32."""
    return dtype in (np.float16, BFLOAT16)


def is_real(array: NDArray[Any]) -> bool:
    """Whether an array holds real numbers, rather than integers or truths."""
    return array.dtype.kind == "f" or array.dtype == BFLOAT16


def widened(array: NDArray[Any]) -> NDArray[Any]:
    """Half-precision numbers in float32, which has all of them; others as they are."""
    return array.astype(np.float32) if is_half(array.dtype) else array


def holds_all(wide: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether each number of one type is one of the other: a cast does not round."""
    one, other = torch.finfo(TYPES[wide]), torch.finfo(TYPES[narrow])
    return one.eps <= other.eps and one.tiny <= other.tiny


def refuse_mixed(node: str, kind: str, dtypes: Sequence[np.dtype[Any]]) -> None:
    """Refuse an operation on several types, which no runtime that checks types would run.

    Args:
        node: as messages name it.
        kind: its operator.
        dtypes: of its real inputs.

    Raises:
        NetworkError: there are several, a half precision among them.
    """
    several = sorted({dtype.name for dtype in dtypes})
    if kind not in TYPES_APART and len(several) > 1 and any(map(is_half, dtypes)):
        raise NetworkError(
            node,
            expected="inputs of one type",
            got=" and ".join(several),
            remedy="Put a Cast in front of it.",
        )


def refuse_undeclared(model: ModelProto, found: dict[str, np.dtype[Any]], source: str) -> None:
    """Refuse outputs that are computed in another type than the file says.

    Args:
        model: the file.
        found: types of its outputs by name, as they are computed.
        source: how messages name the file.

    Raises:
        NetworkError: one differs, and one of its types is a half precision.
    """
    for value in model.graph.output:
        declared, computed = value.type.tensor_type.elem_type, found.get(value.name)
        wanted = OF_FILES.get(declared)
        if computed is None or computed == wanted:
            continue
        if is_half(computed) or (wanted is not None and is_half(wanted)):
            raise NetworkError(
                f"{source}: output {value.name}",
                expected=f"{wanted} numbers, as the file declares",
                got=computed.name,
                remedy="Declare the type that the file computes, or put a Cast before the output.",
            )

"""onnxruntime alone, without the package between: what a file computes at inputs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from tests.soundness.contract import Array


def session_of(data: bytes) -> onnxruntime.InferenceSession:
    """A session of one thread that says nothing."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def outputs_of(data: bytes, points: Array) -> Array:
    """The first output of a file at points ``N x *X``, in one batch."""
    return run(session_of(data), points)


def runner_of(data: bytes) -> Callable[[Array], Array]:
    """The first output of a file at points: by onnxruntime, which lacks bfloat16's operators."""
    (given,) = onnx.load_model_from_string(data).graph.input
    if given.type.tensor_type.elem_type != TensorProto.BFLOAT16:
        session = session_of(data)
        return lambda points: run(session, points)
    evaluator = ReferenceEvaluator(data)

    def found(points: Array) -> Array:
        narrow = np.asarray(points).astype(ml_dtypes.bfloat16)
        with np.errstate(all="ignore"):
            (output,) = tuple(evaluator.run(None, {given.name: narrow}))
        return np.asarray(output).astype(np.float32)

    return found


def run(session: onnxruntime.InferenceSession, points: Array) -> Array:
    """The first output at points ``N x *X``, in the type that the file takes."""
    (taken,) = session.get_inputs()
    kinds = {"tensor(double)": np.float64, "tensor(float16)": np.float16}
    kind = kinds.get(taken.type, np.float32)
    found = session.run(None, {taken.name: np.asarray(points).astype(kind)})
    return np.asarray(found[0])


def exact_margins(outputs: Array, rows: Array, offsets: Array) -> list[Fraction]:
    """Rows ``S x K`` of one output ``K`` with offsets ``S``, without rounding."""
    numbers = [Fraction(float(one)) for one in outputs.reshape(-1)]
    return [
        sum((Fraction(float(c)) * y for c, y in zip(row, numbers, strict=True)), Fraction(float(d)))
        for row, d in zip(rows, offsets, strict=True)
    ]

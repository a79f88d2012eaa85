"""onnxruntime alone, without the package between: what a file computes at inputs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnxruntime

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


def run(session: onnxruntime.InferenceSession, points: Array) -> Array:
    """The first output at points ``N x *X``, in the type that the file takes."""
    (taken,) = session.get_inputs()
    kind = np.float64 if "double" in taken.type else np.float32
    found = session.run(None, {taken.name: np.asarray(points).astype(kind)})
    return np.asarray(found[0])


def exact_margins(outputs: Array, rows: Array, offsets: Array) -> list[Fraction]:
    """Rows ``S x K`` of one output ``K`` with offsets ``S``, without rounding."""
    numbers = [Fraction(float(one)) for one in outputs.reshape(-1)]
    return [
        sum((Fraction(float(c)) * y for c, y in zip(row, numbers, strict=True)), Fraction(float(d)))
        for row, d in zip(rows, offsets, strict=True)
    ]

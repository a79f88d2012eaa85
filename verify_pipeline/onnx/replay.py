"""Runs an ONNX file in onnxruntime, which confirms every counterexample.

Files in half precision that onnxruntime does not run are run by ONNX's reference evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx.half import HALVES, TYPES, widened
from verify_pipeline.onnx.model_file import Array, FileInput, Signature
from verify_pipeline.onnx.parity import ONNXRUNTIME
from verify_pipeline.rounding import searched

CHUNK = 256
"""Inputs in one run where the file's batch axis is free; bounds the memory of a run."""

MIXING = 1e-3
"""Relative difference between outputs alone and in a batch that exceeds any rounding."""

MIXING_HALF = 16
"""The same in half precision, in steps of a number."""

FATAL = 4
"""Severity from which onnxruntime writes to the terminal; errors are raised as exceptions."""


def run_once(data: bytes, outputs: Sequence[str]) -> list[Array]:
    """The outputs of a file without inputs.

    Raises:
        Exception: whatever onnxruntime raises; its exceptions have no base of their own.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        data, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    return [np.asarray(result) for result in session.run(list(outputs), {})]


Run = Callable[[list[str], dict[str, Array]], Sequence[Any]]
"""Outputs of these names at inputs by name; raises exceptions of all kinds."""


def _in_onnxruntime(data: bytes, threads: int | None) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = threads
    # no fallback, which it would report on standard output
    session = onnxruntime.InferenceSession(
        data, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    run: Run = session.run
    return run


def _in_reference(data: bytes) -> Run:
    evaluator = ReferenceEvaluator(data)

    def run(outputs: list[str], feeds: dict[str, Array]) -> Sequence[Any]:
        with np.errstate(all="ignore"):  # what overflows is seen in the outputs
            return tuple(evaluator.run(outputs, feeds))

    return run


class Replayer:
    """The network of an ONNX file, run on the CPU.

    Args:
        data: the whole file.
        signature: what goes in and comes out of it.
        source: how messages name it.
        threads: that onnxruntime uses; None for its own choice.
        precision: the coarsest type in which the file computes. Onnxruntime lacks operators in
            half precision; ONNX's reference evaluator runs the file then.

    Raises:
        NetworkError: the file cannot be loaded or run.
    """

    def __init__(
        self,
        data: bytes,
        signature: Signature,
        source: str,
        threads: int | None = 1,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self._signature = signature
        self._source = source
        self.runner = ONNXRUNTIME
        half = precision in HALVES
        self._mixing = MIXING_HALF * torch.finfo(precision).eps if half else MIXING
        try:
            self._runs = _in_onnxruntime(data, threads)
            if half:
                self._run(np.zeros((1, self._size)))
        # exceptions of onnxruntime and of the reference evaluator have no base of their own
        except Exception as error:
            if not half:
                raise self._error("a network that onnxruntime loads", error) from None
            self.runner = "ONNX's reference evaluator"
            self._use_reference(data)
        self._step = CHUNK if signature.free and self._takes_batches() else 1

    def _use_reference(self, data: bytes) -> None:
        try:
            self._runs = _in_reference(data)
        except Exception as error:  # as above
            raise self._error(f"a network that {self.runner} loads", error) from None
        self._run(np.zeros((1, self._size)))

    @property
    def _size(self) -> int:
        return sum(item.size for item in self._signature.inputs)

    @property
    def input_dtype(self) -> torch.dtype:
        """The one type of the file's inputs, or the narrowest, whose numbers all of them can take.

        Inputs of float16 and of bfloat16 have no such type: the error says so.
        """
        types = {TYPES[item.dtype] for item in self._signature.inputs}
        return max(types, key=lambda dtype: torch.finfo(dtype).eps)

    @property
    def batched(self) -> bool:
        """Whether the file takes many inputs in one run; otherwise they are run one by one."""
        return self._step > 1

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs ``N x K`` at inputs ``N x *X``, rounded to the file's types.

        They are as precise as the file gives them: rounding them to float32 would break ties that
        the network does not have. Several outputs of different types are joined in float64.

        Raises:
            NetworkError: inputs of another shape, or onnxruntime fails.
        """
        shape = self._signature.input_shape
        if tuple(x.shape[1:]) != shape:
            raise NetworkError(
                self._source, expected=f"inputs of shape {shape}", got=str(tuple(x.shape[1:]))
            )
        flat = x.detach().cpu().flatten(1).to(searched(x.dtype)).numpy()
        outputs = [
            self._run(flat[start : start + self._step])
            for start in range(0, max(len(flat), 1), self._step)
        ]
        return torch.from_numpy(np.concatenate(outputs)[: len(flat)])

    def _run(self, flat: Array) -> Array:
        """Outputs ``n x K`` at ``n x size(X)`` inputs; n is 1 where the file's batch is fixed."""
        count = max(len(flat), 1)
        if not len(flat):
            flat = np.zeros((1, self._size))
        try:
            results = self._runs(list(self._signature.outputs), self._feeds(flat))
        except Exception as error:  # as above
            raise self._error(f"a network that {self.runner} runs", error) from None
        arrays = [widened(np.asarray(result)).reshape(count, -1) for result in results]
        precise = np.result_type(np.float32, *arrays)
        return np.concatenate(arrays, axis=1, dtype=precise)

    def _feeds(self, flat: Array) -> dict[str, Array]:
        ends = np.cumsum([item.size for item in self._signature.inputs]).tolist()
        return {
            item.name: _shaped(flat[:, end - item.size : end], item)
            for item, end in zip(self._signature.inputs, ends, strict=True)
        }

    def _takes_batches(self) -> bool:
        """Whether two inputs in one run give two outputs, as the free batch axis promises.

        Raises:
            NetworkError: they do, and not those that each gives alone: a replay of one would
                depend on what else is in the run.
        """
        both = np.random.default_rng(0).random((2, self._size))
        try:
            alone = np.concatenate([self._run(both[:1]), self._run(both[1:])])
            together = self._run(both)
        except (NetworkError, ValueError):
            return False
        if together.shape != alone.shape:
            return False
        scale = np.abs(alone[np.isfinite(alone)]).max(initial=0.0)
        if not np.allclose(together, alone, self._mixing, self._mixing * scale, equal_nan=True):
            raise NetworkError(
                self._source,
                expected="outputs of each input alone, whatever else is in a batch",
                got="a network that mixes the inputs of a batch",
                remedy="Export it in evaluation mode, or with a fixed batch of one.",
            )
        return True

    def _error(self, expected: str, error: Exception) -> NetworkError:
        lines = str(error).strip().splitlines()
        return NetworkError(
            self._source, expected=expected, got=lines[0] if lines else type(error).__name__
        )


def runner_of(replay: object) -> str:
    """What runs a file: of a :class:`Replayer`, or of a function that stands for onnxruntime."""
    return replay.runner if isinstance(replay, Replayer) else ONNXRUNTIME


def _shaped(flat: Array, item: FileInput) -> Array:
    """``n x size`` numbers as the file's input wants them."""
    shape: tuple[Any, ...] = (len(flat), *item.inner) if item.batch_axis else item.shape
    return np.ascontiguousarray(flat.reshape(shape), dtype=item.dtype)

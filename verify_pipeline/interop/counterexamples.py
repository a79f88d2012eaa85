"""Counterexample files in VNN-COMP's format, and their replay.

One list of all values, ``((X_0 0.5) … (Y_0 -1.25) …)``: inputs in row-major order, then outputs.
The first line ``sat`` of a result file may precede it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import DataError
from verify_pipeline.interop.formulas import Unexpected, number
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.tokens import VARIABLE, Source
from verify_pipeline.rounding import searched

ABSOLUTE, RELATIVE = 1e-4, 1e-3
"""VNN-COMP's tolerances: of limits, constraints and outputs; of outputs by their greatest."""


@dataclass(frozen=True, eq=False)
class Claim:
    """A counterexample that another tool claims.

    Attributes:
        inputs: ``I`` float64.
        outputs: ``K`` float64, or None where the file has none.
    """

    inputs: Tensor
    outputs: Tensor | None


@dataclass(frozen=True, eq=False)
class Replayed:
    """The result of replaying a claim.

    Attributes:
        strict: whether the input, as the network takes it, lies in a box of the property exactly,
            and onnxruntime's output there meets one of its conjunctions exactly.
        accepted: whether it is a counterexample by VNN-COMP's tolerances, and the claimed outputs,
            if there are any, are onnxruntime's by them.
        outputs: ``K``, onnxruntime's.
        difference: the greatest between claimed outputs and onnxruntime's; 0 without a claim.
    """

    strict: bool
    accepted: bool
    outputs: Tensor
    difference: float


def counterexample_text(point: Tensor, output: Tensor) -> str:
    """The file's text; every number is read back exactly.

    Args:
        point: ``*X``.
        output: ``K``.
    """
    values = [
        f"({kind}_{place} {value!r})"
        for kind, tensor in (("X", point), ("Y", output))
        for place, value in enumerate(tensor.detach().double().flatten().tolist())
    ]
    return "(" + "\n".join(values) + ")\n"


def write_counterexample(path: Path, point: Tensor, output: Tensor) -> Path:
    """Write a counterexample file: input ``*X`` and output ``K``.

    Raises:
        DataError: the file cannot be written.
    """
    return write_whole(path, counterexample_text(point, output))


def read_counterexample(path: Path) -> Claim:
    """The claim in a file.

    Raises:
        DataError: the file cannot be read, or has another form; with the line.
    """
    source = Source.read(path)
    values: dict[str, dict[int, float]] = {"X": {}, "Y": {}}
    for offset, name, value in _pairs(source):
        match = VARIABLE.fullmatch(name)
        if match is None:
            raise source.error(offset, "X_i or Y_j", name)
        kind = values[match[1]]
        if int(match[2]) != len(kind):
            raise source.error(offset, f"{match[1]}_{len(kind)}", name)
        try:
            kind[len(kind)] = number(value)
        except Unexpected as error:
            raise source.error(offset, error.expected, error.got) from None
    if not values["X"]:
        raise DataError(source.name, expected="values of inputs", got="none")
    inputs, outputs = (
        torch.tensor(list(kind.values()), dtype=torch.float64) for kind in values.values()
    )
    return Claim(inputs, outputs if len(outputs) else None)


def _pairs(source: Source) -> list[tuple[int, str, str]]:
    """Of each ``(name value)`` in the list: the offset of the name, the name, and the value."""
    words = list(source.words())
    if words and words[0][1] == "sat":
        words = words[1:]
    if not words:
        raise DataError(source.name, expected="((X_0 value) …)", got="nothing")
    count = (len(words) - 1) // 4
    pattern = ["(", *["(", None, None, ")"] * count, ")"]
    for (offset, word), wanted in zip(words, pattern, strict=False):
        if wanted is None and word in "()":
            raise source.error(offset, "a name and a number", word)
        if wanted is not None and word != wanted:
            raise source.error(offset, wanted, word)
    if len(words) != len(pattern):
        raise source.error(words[-1][0], "((X_0 value) …) and nothing else", words[-1][1])
    body = words[1:-1]
    return [(*body[k + 1], body[k + 2][1]) for k in range(0, len(body), 4)]


def replay_counterexample(
    replay: Callable[[Tensor], Tensor],
    prop: VnnlibProperty,
    point: Tensor,
    claimed: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Replayed:
    """Run a claimed counterexample on the network's own file.

    Args:
        replay: outputs ``N x K`` at inputs ``N x *X``, by onnxruntime.
        prop: that is said to be ``sat``.
        point: ``*X``; rounded to what the network takes.
        claimed: ``K`` outputs, or None.
        dtype: that the network takes.
    """
    x = point.to(dtype).unsqueeze(0)
    outputs = replay(x).double()
    difference, agrees = 0.0, True
    if claimed is not None:
        if claimed.shape != outputs[0].shape:
            raise DataError(
                "outputs of the counterexample",
                expected=str(outputs.shape[1]),
                got=str(len(claimed)),
            )
        difference = float((claimed.double() - outputs[0]).abs().max())
        agrees = difference <= max(ABSOLUTE, RELATIVE * float(outputs.abs().max()))
    finite = bool(torch.isfinite(outputs).all())
    return Replayed(
        finite and bool(prop.is_counterexample(x, outputs)[0]),
        finite and agrees and bool(prop.is_counterexample(x, outputs, ABSOLUTE)[0]),
        outputs[0],
        difference,
    )


def strict_counterexample(
    replay: Callable[[Tensor], Tensor],
    prop: VnnlibProperty,
    point: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor] | None:
    """A counterexample without any tolerance at a point, or a step of its dtype from it.

    Searches use closed boxes; a point on an open limit is moved off the limit.

    Args:
        replay: outputs ``N x K`` at inputs ``N x *X``, by onnxruntime.
        prop: that is said to be ``sat``.
        point: ``*X``.
        dtype: that the network takes.

    Returns:
        The point ``*X`` and its outputs ``K``; None: neither is one.
    """
    point = point.to(dtype)
    candidates = [point]
    for case in prop.cases:
        moved = case.off_open_limits(point)
        if not any(torch.equal(moved, one) for one in candidates):
            candidates.append(moved)
    for candidate in candidates:
        replayed = replay_counterexample(replay, prop, candidate, dtype=dtype)
        if replayed.strict:
            return candidate.to(searched(dtype)), replayed.outputs
    return None

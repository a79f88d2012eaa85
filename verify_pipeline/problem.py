"""The terms of verification as value objects: box, specification, counterexample, verdict.

Shape letters (ARCHITECTURE.md defines them for the whole package): ``N`` instances (images) or
domains in a batch, ``*X`` the network's input shape, ``K`` its number of outputs, ``S`` rows of a
specification. A *margin* is the value ``C f + d`` of a row at an output ``f``. Sign convention: a
row *holds* iff its margin is > 0; a tie does not hold.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Box(Batched):
    """A batch of axis-parallel boxes of inputs, ``lower <= x <= upper``.

    Attributes:
        lower: ``N x *X``, finite.
        upper: ``N x *X``, finite, >= ``lower`` everywhere.

    Raises:
        DataError: shapes differ, a value is NaN or infinite, or an interval is empty.
    """

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.lower.shape != self.upper.shape:
            raise DataError(
                "box",
                expected="lower and upper of one shape",
                got=f"{tuple(self.lower.shape)} and {tuple(self.upper.shape)}",
            )
        if self.lower.numel() == 0:
            return
        # Every training step makes boxes, so each tensor is reduced only once. A NaN makes the
        # minimum and the maximum NaN.
        if not math.isfinite(float(self.lower.min())) or not math.isfinite(float(self.upper.max())):
            raise DataError(
                "box", expected="finite limits", got="NaN or infinity", remedy="Check the images."
            )
        if not bool((self.lower <= self.upper).all()):
            raise DataError("box", expected="lower <= upper everywhere", got="an empty interval")

    def __repr__(self) -> str:
        shape, dtype = tuple(self.lower.shape[1:]), str(self.lower.dtype).removeprefix("torch.")
        return f"{type(self).__name__}({len(self)} of shape {shape}, {dtype})"

    @staticmethod
    def around(
        images: Tensor, epsilon: float | Tensor, clip: tuple[float, float] | None = (0.0, 1.0)
    ) -> Box:
        """The L∞ ball of half-width ``epsilon`` around each image, intersected with ``clip``.

        Args:
            images: ``N x *X``.
            epsilon: half-width >= 0, a number or a tensor that broadcasts against ``N x *X``.
            clip: the range of valid inputs; None: unlimited.

        Raises:
            ConfigError: epsilon is negative or NaN.
        """
        if not bool((torch.as_tensor(epsilon) >= 0).all()):
            raise ConfigError("epsilon", expected="a number >= 0", got=str(epsilon))
        lower, upper = images - epsilon, images + epsilon
        if clip is not None:
            lower, upper = lower.clamp(*clip), upper.clamp(*clip)
        return Box(lower, upper)

    @staticmethod
    def unread(lower: Tensor, upper: Tensor) -> Box:
        """Limits that are finite and ordered as they were computed; nothing is read to check it.

        For training steps: reading a value back makes the host wait for an accelerator. Limits of
        checked pixels are as they must be, and what is not finite makes the loss so.

        Args:
            lower: ``N x *X``.
            upper: ``N x *X``.
        """
        box = object.__new__(Box)
        object.__setattr__(box, "lower", lower)
        object.__setattr__(box, "upper", upper)
        return box

    @staticmethod
    def around_pixels(images: Tensor, epsilon: float) -> Box:
        """:meth:`around` for pixels of an ``ImageSet``, which has checked them; nothing is read.

        Args:
            images: ``N x *X``, in [0, 1].
            epsilon: half-width >= 0.
        """
        return Box.unread((images - epsilon).clamp(0.0, 1.0), (images + epsilon).clamp(0.0, 1.0))

    @property
    def center(self) -> Tensor:
        """Centres of the boxes, ``N x *X``."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half-widths, ``N x *X``, >= 0."""
        return (self.upper - self.lower) / 2

    def to(self, target: torch.dtype | torch.device | str) -> Box:
        """The same boxes in another dtype or on another device."""
        return Box(self.lower.to(target), self.upper.to(target))

    def contains(self, points: Tensor) -> Tensor:
        """Whether each point ``N x *X`` lies in its box, without tolerance; ``N`` booleans."""
        inside = (points >= self.lower) & (points <= self.upper)
        return inside.flatten(1).all(1)


def _rounded_up(exact: Fraction) -> float:
    """The nearest float64 number, but not 0 for a number above it."""
    return float(exact) or (math.nextafter(0.0, 1.0) if exact > 0 else 0.0)


@dataclass(frozen=True, eq=False)
class Specification(Batched):
    """A batch of linear output specifications: each holds iff ``C f(x) + d > 0`` in every row.

    Attributes:
        rows: the matrices C, ``N x S x K``.
        offsets: the vectors d, ``N x S``.
        spare: how many rows, whichever they are, may fail at an input; from 0 to S - 1.

    Raises:
        DataError: shapes do not match, there is no row, a value is not finite, or ``spare`` is out
            of range.
    """

    rows: Tensor
    offsets: Tensor
    spare: int = 0

    def __post_init__(self) -> None:
        if self.rows.dim() != 3 or self.rows.shape[:2] != self.offsets.shape:
            raise DataError(
                "specification",
                expected="rows N x S x K and offsets N x S",
                got=f"{tuple(self.rows.shape)} and {tuple(self.offsets.shape)}",
            )
        if self.rows.shape[1] == 0:  # every output would meet it
            raise DataError("specification", expected="at least one row", got="none")
        if not bool(torch.isfinite(self.rows).all() and torch.isfinite(self.offsets).all()):
            raise DataError("specification", expected="finite coefficients", got="NaN or infinity")
        if self.spare != 0 and not 0 < self.spare < self.rows.shape[1]:
            raise DataError(
                "specification",
                expected=f"from 0 to {self.rows.shape[1] - 1} rows that may fail",
                got=str(self.spare),
            )

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.rows.shape))
        spare = f", {self.spare} may fail" if self.spare else ""
        return f"Specification(rows {shape}{spare})"

    @staticmethod
    def margins(labels: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Specification:
        """Robust classification: ``f_y - f_j > 0`` for every class j other than the label y.

        Args:
            labels: ``N`` integers in ``[0, outputs)``.
            outputs: K, at least 2.
            dtype: dtype of the rows.

        Returns:
            ``S = K - 1`` rows for each instance, in the order of the classes without y.

        Raises:
            DataError: there are fewer than 2 outputs, or a label is out of range.
        """
        if outputs < 2:
            raise DataError("specification", expected="at least 2 outputs", got=str(outputs))
        _check_labels(labels, outputs)
        rows = margin_matrix(labels, outputs, dtype)
        return Specification(rows, rows.new_zeros(rows.shape[:2]))

    def values(self, outputs: Tensor) -> Tensor:
        """The margins ``C f + d`` of outputs ``N x K``: ``N x S``."""
        return torch.einsum("nsk,nk->ns", self.rows, outputs) + self.offsets

    def exact_values(self, outputs: Tensor) -> Tensor:
        """The margins of outputs ``N x K`` in exact arithmetic, rounded once: ``N x S`` float64.

        Their signs are exact: a sum in float64 may be 0 or below although the margin is positive.
        Each row is computed by itself, in fractions, which is meant for few instances.
        """
        found = [
            _rounded_up(
                sum(
                    (Fraction(row[k]) * Fraction(output[k]) for k, c in enumerate(row) if c),
                    start=Fraction(offset),
                )
            )
            for output, rows, offsets in zip(
                outputs.tolist(), self.rows.tolist(), self.offsets.tolist(), strict=True
            )
            for row, offset in zip(rows, offsets, strict=True)
        ]
        return torch.tensor(found, dtype=torch.float64).view(len(outputs), -1)

    def least(self, values: Tensor) -> Tensor:
        """The least value after the ``spare`` least ones are left out, ``N``.

        Given margins, the result is positive iff the specification holds. Given lower bounds of
        the margins over a box, it is a lower bound of that value. If any row is NaN, so is the
        result.

        Args:
            values: margins or their bounds, ``N x S``.
        """
        if self.spare == 0:
            return values.amin(1)
        chosen = values.kthvalue(self.spare + 1, dim=1).values
        return torch.where(values.isnan().any(1), torch.nan, chosen)

    def without_spare(self, kept: Tensor) -> Specification:
        """A specification in which no row may fail, and which implies this one.

        Args:
            kept: which rows it has, of :meth:`kept_rows`.
        """
        if self.spare == 0:
            return self
        instances = torch.arange(len(self), device=kept.device).unsqueeze(1)
        return Specification(self.rows[instances, kept], self.offsets[instances, kept])

    def kept_rows(self, lower: Tensor) -> Tensor:
        """Indices of all rows but the ``spare`` ones with the least bounds, in order.

        Args:
            lower: lower bounds of the margins, ``N x S``.

        Returns:
            ``N x (S - spare)``.
        """
        return lower.argsort(dim=1)[:, self.spare :].sort(dim=1).values

    def to(self, target: torch.dtype | torch.device | str) -> Specification:
        """The same specifications in another dtype or on another device."""
        return Specification(self.rows.to(target), self.offsets.to(target), self.spare)


def margin_matrix(labels: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The matrix C of the margins ``z_j = f_y - f_j``, j ≠ y.

    Args:
        labels: ``N`` integers y in ``[0, outputs)``.
        outputs: K.
        dtype: dtype of the matrix.

    Returns:
        ``N x (K-1) x K``, in the order of the classes without y.
    """
    eye = torch.eye(outputs, dtype=dtype, device=labels.device)
    others = torch.arange(outputs - 1, device=labels.device).expand(len(labels), -1)
    others = others + (others >= labels.unsqueeze(1))
    return eye[labels].unsqueeze(1) - eye[others]


def margins_of_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """The margins ``z_j = f_y - f_j``, j ≠ y, which losses take as their argument.

    Args:
        logits: outputs ``N x K``, K at least 2; gradients flow through them.
        labels: ``N`` integers y in ``[0, K)``.

    Returns:
        ``N x (K-1)``, in the order of the classes without y.

    Raises:
        DataError: shapes do not match, or a label is out of range.
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise DataError(
            "margins",
            expected="logits N x K and N integer labels",
            got=f"{tuple(logits.shape)} and {labels.dtype} of shape {tuple(labels.shape)}",
        )
    _check_labels(labels, logits.shape[1])
    return torch.einsum("nsk,nk->ns", margin_matrix(labels, logits.shape[1], logits.dtype), logits)


def _check_labels(labels: Tensor, outputs: int) -> None:
    out_of_range = (labels < 0) | (labels >= outputs)
    if bool(out_of_range.any()):
        raise DataError(
            "labels",
            expected=f"integers from 0 to {outputs - 1}",
            got=str(int(labels[out_of_range][0])),
            remedy="Check that the data set and the network belong together.",
        )


class Status(enum.Enum):
    """What is known about an instance."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"


class Reason(enum.Enum):
    """Why an instance is UNKNOWN; the values are the messages that users read."""

    TIMEOUT = "the deadline passed; allow more seconds"
    MEMORY = "memory ran out even for a single instance; use a smaller network or more memory"
    GIVEN_UP = "given up: the search is expected to take far more seconds than allowed; allow more"
    BUDGET = "the allowed number of domains was used up; allow more"
    NOT_FINITE = "a value may overflow or be undefined in the box: a bound was NaN or infinite"
    NOT_CONFIRMED = "a bound of the float32 search was not confirmed in float64"
    NOT_REPLAYED = "a claimed counterexample did not replay from the file"
    ROUNDING = "proved for real numbers, but not for every evaluation in the arithmetic asked for"
    NOT_ANALYSED = "proved for real numbers, but the file's roundings are not analysed"
    NO_INPUT = "no float32 input lies in the box, so none can be replayed; widen the box"
    NOT_DECIDED = "left open by every stage that was asked for; add a stronger stage"
    EXHAUSTED = "the search has nothing left to split, and bounds of the parts do not decide"
    UNSUPPORTED = "a layer cannot be bounded by the stages that were asked for"
    ERROR = "a stage failed; see the detail"


TIED = "tied as deployed"
"""Part of the detail of an instance that was VERIFIED without the network's final layers, such as a
sigmoid: at an input of the box, these layers saturate, and the outputs of the file itself tie or
are in the wrong order."""

OF_TIME = (Reason.TIMEOUT, Reason.GIVEN_UP)
"""Reasons that more seconds may remove."""


@dataclass(frozen=True, eq=False)
class Counterexample:
    """An input of the box whose replayed output breaks the specification.

    Attributes:
        input: the replayed input inside the instance's box, ``*X``.
        output: its output in the runtime that replayed it, ``K``, in the file's dtype (float32 or
            float64).
        margin: the deciding margin at this output (:meth:`Specification.least`), <= 0.

    Raises:
        ValueError: a value is not finite, or the margin is > 0.
    """

    input: Tensor
    output: Tensor
    margin: float

    def __post_init__(self) -> None:
        finite = bool(torch.isfinite(self.input).all() and torch.isfinite(self.output).all())
        if not finite or not self.margin <= 0:
            raise ValueError(f"no counterexample: finite={finite}, margin={self.margin}")

    def __repr__(self) -> str:
        return f"Counterexample(input of shape {tuple(self.input.shape)}, margin {self.margin:.4g})"


@dataclass(frozen=True, eq=False)
class Decision:
    """The result of a stage or a search for one instance, with evidence as in :class:`Verdict`.

    Attributes:
        place: index of the instance in its batch.
        status: VERIFIED, FALSIFIED, or UNKNOWN, which leaves the instance to the next stage.
        bound: a lower bound of the least margin, if the stage has one.
        counterexample: the replayed counterexample, for FALSIFIED.
        reason: why the stage did not decide the instance, if it knows a specific reason.
        detail: a text for users.
        seconds: time that the stage charges; None: an equal share of the task's time.
        final: whether later stages skip the instance although it is UNKNOWN.
        claimed_by: the name of the other tool if VERIFIED rests only on that tool's result.
        subproblems: how many subproblems a search bounded for the instance.
    """

    place: int
    status: Status
    bound: float | None = None
    counterexample: Counterexample | None = None
    reason: Reason | None = None
    detail: str = ""
    seconds: float | None = None
    final: bool = False
    claimed_by: str = ""
    subproblems: int = 0


@dataclass(frozen=True)
class StageResult:
    """What one stage did with one instance.

    Attributes:
        stage: its name.
        seconds: that it charged.
        bound: its lower bound of the least margin; None: it has none.
    """

    stage: str
    seconds: float
    bound: float | None = None


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is known about one instance, and the evidence for it.

    A verdict without evidence cannot be constructed.

    Attributes:
        status: VERIFIED, FALSIFIED or UNKNOWN.
        stage: the name of the stage that decided the instance, or of the last one that tried.
        seconds: time charged to the instance: its shares of the batches that contained it.
        bound: the best lower bound of the least margin, if there is one. For VERIFIED, it is finite
            and > 0 and was evaluated in float64, unless another tool claims the result.
        counterexample: the counterexample, for FALSIFIED.
        reason: the reason, for UNKNOWN.
        detail: further information for users (an exception's text, a number of domains).
        claimed_by: the name of the other tool if VERIFIED rests only on that tool's result; empty
            if it rests on ``bound``. Tables count the two cases separately.
        stages: what each stage did that saw the instance, in order.

    Raises:
        ValueError: there is no evidence for the status.
    """

    status: Status
    stage: str
    seconds: float
    bound: float | None = None
    counterexample: Counterexample | None = None
    reason: Reason | None = None
    detail: str = ""
    claimed_by: str = ""
    stages: tuple[StageResult, ...] = ()

    def __post_init__(self) -> None:
        if self.claimed_by and self.status is not Status.VERIFIED:
            raise ValueError(f"{self.status.value} on the word of {self.claimed_by}")
        evidence = {
            Status.VERIFIED: bool(self.claimed_by)
            or (self.bound is not None and math.isfinite(self.bound) and self.bound > 0),
            Status.FALSIFIED: self.counterexample is not None,
            Status.UNKNOWN: self.reason is not None and self.counterexample is None,
        }[self.status]
        if not evidence:
            raise ValueError(
                f"{self.status.value} without evidence: bound={self.bound}, "
                f"counterexample={self.counterexample is not None}, reason={self.reason}"
            )

    def __repr__(self) -> str:
        words = [f"{self.status.value} by {self.stage}"]
        if self.claimed_by:
            words.append(f"on the word of {self.claimed_by}")
        if self.reason is not None:
            words.append(self.reason.name.lower())
        if self.bound is not None:
            words.append(f"bound {self.bound:.4g}")
        if self.counterexample is not None:
            words.append(f"margin {self.counterexample.margin:.4g}")
        return f"Verdict({', '.join(words)}, {self.seconds:.3g} s)"

"""Boxes with linear rows, asked through the public API, and what is said of the answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from pydantic import TypeAdapter

from tests.soundness.contract import Answer, Array, Files, Judged
from tests.soundness.replaying import exact_margins, runner_of
from verify_pipeline import api
from verify_pipeline.certify.records import Record
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.onnx import network_from_bytes

Runner = Callable[[Array], Array]
"""Outputs ``N x K`` of a file at points ``N x *X``."""

SETTINGS = TypeAdapter(api.CertifySettings)
"""Writes settings as JSON, and reads them."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of one case.

    Attributes:
        least: the exact least value of all rows over the box; None: not known.
        where: the input, ``I`` fractions, at which it is; None: not noted.
        point: ``*X``, an input of the box where a row is at most zero; None: none is known.
        holds_by: a value that every row exceeds beyond what float32 explains; None: not known.
        evaluated_by: the evaluation in which the row is at most zero; empty: onnxruntime's, or
            exact arithmetic.
    """

    least: Fraction | None = None
    where: Array | None = None
    point: Array | None = None
    holds_by: float | None = None
    evaluated_by: str = ""

    @property
    def breaks(self) -> bool:
        """Whether VERIFIED would be false."""
        return self.point is not None or (self.least is not None and self.least <= 0)

    @property
    def described(self) -> str:
        """In words."""
        if self.least is not None:
            return f"the exact least value is {float(self.least):.6g} ({_sign(self.least)})"
        way = f" ({self.evaluated_by})" if self.evaluated_by else ""
        return f"a known input of the box breaks a row{way}"


def _sign(number: Fraction) -> str:
    return "zero" if number == 0 else "positive" if number > 0 else "negative"


@dataclass(frozen=True, eq=False)
class BoxTrial:
    """Boxes of one network, each with rows ``C f + d`` that must be positive.

    Attributes:
        name: says of which kind they are.
        model: the ONNX file.
        lower: ``N x *X`` float64.
        upper: ``N x *X`` float64.
        rows: ``N x S x K`` float64.
        offsets: ``N x S`` float64.
        truths: ``N``.
        settings: of the certification.
        bounded_by: methods of ``api.bounds`` whose bounds must not exceed what is known.
        check_parity: whether the package compares the file with its graph.
    """

    name: str
    model: bytes
    lower: Array
    upper: Array
    rows: Array
    offsets: Array
    truths: Sequence[Truth]
    settings: api.CertifySettings
    bounded_by: tuple[str, ...] = ()
    check_parity: bool = True

    def judged(self) -> list[Judged]:
        """Ask about all boxes in one batch."""
        try:
            network = network_from_bytes(self.model, check_parity=self.check_parity)
            found = self._verdicts(network)
            bounds = [self._bounds(network, method) for method in self.bounded_by]
        except VerifyPipelineError as error:
            kind = f"refused: {type(error).__name__}"
            return [Judged(Answer.REFUSED, tags=(kind,))] * len(self.lower)
        runs = runner_of(self.model)
        judged = []
        for place, (record, point) in enumerate(found):
            answer = Answer(record.status.name.lower())
            lie, tags = self._lie(place, record, point, runs)
            for method, lower in zip(self.bounded_by, bounds, strict=True):
                lie = lie or self._too_high(place, method, lower[place])
            files = self.files(place, answer, lie, record, point) if lie else {}
            judged.append(Judged(answer, lie, tags, files))
        return judged

    def _verdicts(self, network: api.Network) -> list[tuple[Record, Array | None]]:
        """Each box's record, with the counterexample's point."""
        lower, upper = torch.from_numpy(self.lower), torch.from_numpy(self.upper)
        boxes = api.BoxSet("battery", "test", lower, upper)
        rows = api.LinearRows(torch.from_numpy(self.rows), torch.from_numpy(self.offsets))
        question = api.Question(specification=rows)
        with api.Ledger.in_memory() as ledger:
            summary = api.certify(network, boxes, self.settings, question=question, ledger=ledger)
            records = sorted(summary.records, key=lambda record: record.index)
            return [(one, self._point(ledger, summary, one)) for one in records]

    def _point(self, ledger: api.Ledger, summary: api.Summary, record: Record) -> Array | None:
        if record.status is not api.Status.FALSIFIED:
            return None
        found = ledger.counterexample(summary.info.run, record)
        return None if found is None else np.asarray(found.input.numpy())

    def _bounds(self, network: api.Network, method: str) -> Array:
        """Lower bounds ``N x S`` of the rows."""
        box = api.Box(torch.from_numpy(self.lower), torch.from_numpy(self.upper))
        spec = api.Specification(torch.from_numpy(self.rows), torch.from_numpy(self.offsets))
        return np.asarray(api.bounds(network, box, method=method, C=spec).lower.numpy())

    def _lie(
        self, place: int, record: Record, point: Array | None, runs: Runner
    ) -> tuple[str, tuple[str, ...]]:
        """What is false of a verdict, and what is counted of it."""
        truth = self.truths[place]
        if record.status is api.Status.VERIFIED:
            if truth.breaks:
                return f"VERIFIED by {record.stage} with bound {record.bound:.3g}, but " + (
                    truth.described
                ), ()
            tiny = truth.least is not None and truth.least < Fraction(1, 1000)
            return "", ("tiny positive verified",) if tiny else ()
        if record.status is not api.Status.FALSIFIED:
            return "", ()
        if point is None:
            return "FALSIFIED without a counterexample", ()
        if lie := self._unconfirmed(place, point, runs):
            return lie, ()
        if truth.holds_by is not None:
            return f"FALSIFIED, but every row exceeds {truth.holds_by:.3g}", ()
        by_rounding = truth.least is not None and truth.least > 0
        return "", ("falsified by the file's own rounding",) if by_rounding else ()

    def _unconfirmed(self, place: int, point: Array, runs: Runner) -> str:
        """Why a counterexample is none; empty: it is one."""
        exact = point.astype(np.float64)
        if not ((exact >= self.lower[place]) & (exact <= self.upper[place])).all():
            return "FALSIFIED by a point outside of the box"
        output = runs(point[None])
        if not np.isfinite(output).all():
            return "FALSIFIED by an output that is not finite"
        if min(exact_margins(output, self.rows[place], self.offsets[place])) > 0:
            return "FALSIFIED, but the file's output at the point keeps every row"
        return ""

    def _too_high(self, place: int, method: str, lower: Array) -> str:
        """Whether bounds ``S`` of the rows contradict what is known."""
        truth = self.truths[place]
        bound = float(lower.min())
        if not np.isfinite(bound) or not truth.breaks or bound <= 0:
            return ""
        return f"bounded below by {bound:.3g} ({method}), but {truth.described}"

    def files(
        self, place: int, answer: Answer, lie: str, record: Record | None, point: Array | None
    ) -> Files:
        """With which the case can be asked again."""
        truth = self.truths[place]
        arrays = {
            "lower": self.lower[place],
            "upper": self.upper[place],
            "rows": self.rows[place],
            "offsets": self.offsets[place],
        }
        refuting = truth.point if truth.point is not None else point
        if refuting is not None:
            arrays["point"] = np.asarray(refuting)
        said = {
            "name": self.name,
            "place": place,
            "answer": answer.value,
            "lie": lie,
            "settings": json.loads(SETTINGS.dump_json(self.settings)),
            "check_parity": self.check_parity,
            "exact least value": None if truth.least is None else str(truth.least),
            "at": None if truth.where is None else [str(one) for one in truth.where],
            "bound": None if record is None else record.bound,
        }
        return {
            "network.onnx": self.model,
            "case.npz": packed(arrays),
            "case.json": json.dumps(said, indent=1).encode(),
        }


def packed(arrays: dict[str, Array]) -> bytes:
    """Arrays as a file of numpy's."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def boxes_around(middle: Array, radius: Array, double: bool = False) -> tuple[Array, Array]:
    """Boxes ``N x *X``, float64, whose limits are float32 numbers unless ``double``."""
    kind = np.float64 if double else np.float32
    lower = (middle - radius).astype(kind).astype(np.float64)
    upper = (middle + radius).astype(kind).astype(np.float64)
    return np.minimum(lower, upper), np.maximum(lower, upper)

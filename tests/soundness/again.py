"""Asks a saved case again, from its files alone where these say everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.exact_arrays import rational
from tests.soundness.asking import SETTINGS, BoxTrial, Truth
from tests.soundness.battery import judge
from tests.soundness.contract import Array, Judged
from tests.soundness.exact import ExactNetwork
from tests.soundness.families import FAMILIES
from tests.soundness.replaying import exact_margins, outputs_of


def ask_again(folder: Path) -> Iterator[str]:
    """What the package says of a case now, and the margin at its refuting input, line by line."""
    origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
    if (folder / "case.npz").exists():
        yield from _of_boxes(folder)
        return
    (family,) = (one for one in FAMILIES if one.name == origin["family"])
    trial = family.trial(origin["seed"], origin["number"])
    yield f"{origin['family']}, seed {origin['seed']}, trial {origin['number']}: {trial.name}"
    yield _line(judge(trial)[origin["place"]])


def _line(judged: Judged) -> str:
    return f"{judged.answer.value}{': FALSE: ' + judged.lie if judged.lie else ''}"


def _of_boxes(folder: Path) -> Iterator[str]:
    """Of a box with rows: its files say everything."""
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    model, arrays = (folder / "network.onnx").read_bytes(), np.load(folder / "case.npz")
    least, where = case["exact least value"], case["at"]
    truth = Truth(
        least=None if least is None else Fraction(least),
        point=arrays["point"] if least is None and "point" in arrays else None,
    )
    box = arrays["lower"], arrays["upper"], arrays["rows"], arrays["offsets"]
    yield f"{case['name']}, place {case['place']}; then: {case['lie']}"
    if where is not None:
        point = np.array([Fraction(one) for one in where], dtype=object)
        point = point.reshape(arrays["lower"].shape)
        yield from _exactly(model, point, *box)
    if "point" in arrays:
        outputs = outputs_of(model, arrays["point"][None])[0]
        margin = min(exact_margins(outputs, arrays["rows"], arrays["offsets"]))
        yield f"onnxruntime's least row at {arrays['point'].tolist()}: {float(margin):.6g}"
    lower, upper, rows, offsets = (one[None] for one in box)
    trial = BoxTrial(
        case["name"],
        model,
        *(lower, upper, rows, offsets),
        (truth,),
        SETTINGS.validate_json(json.dumps(case["settings"])),
        (),
        case["check_parity"],
    )
    yield f"now: {_line(judge(trial)[0])}"


def _exactly(
    model: bytes, point: Array, lower: Array, upper: Array, rows: Array, offsets: Array
) -> Iterator[str]:
    """The least row at a rational point of the box, computed again."""
    inside = bool(((point >= rational(lower)) & (point <= rational(upper))).all())
    outputs = ExactNetwork(model)(point[None])
    value = min((outputs @ rational(rows).T + rational(offsets))[0])
    yield f"exactly at {[float(one) for one in point.flat]}: {float(value):.6g}, inside: {inside}"

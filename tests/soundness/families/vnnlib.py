"""VNN-LIB properties, decided by the command, against an evaluator of their text.

The properties have several boxes, nests of ``and`` and ``or``, strict limits and linear terms. An
input of a grid whose outputs meet a property, in rational arithmetic, refutes ``unsat``. A ``sat``
has to come with an input that onnxruntime's outputs confirm.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.random import Generator
from typer.testing import CliRunner

from tests.exact_arrays import rational
from tests.soundness.architectures import ACTIVATIONS
from tests.soundness.building import FileBuilder, choice, normal
from tests.soundness.contract import Answer, Array, Family, Judged
from tests.soundness.exact import ExactNetwork
from tests.soundness.formulas import Property
from tests.soundness.replaying import outputs_of
from verify_pipeline.cli.app import app

PROPERTIES, SECONDS = 6, 1.0
OUTPUTS, GRID = 3, 9
ANSWERS = {"sat": Answer.FALSIFIED, "unsat": Answer.VERIFIED}
ROUNDING = 1e-5
"""What an inexact network's outputs must meet a property by, to count as beyond doubt."""


def _limits(rng: Generator, inputs: int) -> tuple[Array, Array]:
    middle, radius = rng.uniform(-1, 1, inputs), 10.0 ** rng.uniform(-2, 0, inputs)
    return middle - radius, middle + radius


def _box_text(rng: Generator, lower: Array, upper: Array) -> str:
    less, more = choice(rng, (("<=", ">="), ("<", ">"), ("<=", ">")))
    parts = [
        f"({more} X_{i} {low:.9g}) ({less} X_{i} {high:.9g})"
        for i, (low, high) in enumerate(zip(lower, upper, strict=True))
    ]
    return " ".join(parts)


def _term(rng: Generator) -> tuple[str, Array]:
    """A linear term of outputs, with its coefficients."""
    kind = rng.integers(3)
    j, k = rng.permutation(OUTPUTS)[:2]
    coefficients = np.zeros(OUTPUTS)
    if kind == 0:
        coefficients[j] = 1
        return f"Y_{j}", coefficients
    factor = round(float(rng.normal()), 3)
    coefficients[j], coefficients[k] = 1, factor
    if kind == 1:
        return f"(+ Y_{j} (* {factor} Y_{k}))", coefficients
    coefficients[k] = -1
    return f"(- Y_{j} Y_{k})", coefficients


def _formula(rng: Generator, outputs: Array, depth: int) -> str:
    """Constraints that some of the outputs ``P x K`` meet, or nearly, in a random nest."""
    if depth and rng.random() < 0.6:
        parts = [_formula(rng, outputs, depth - 1) for _ in range(int(rng.integers(2, 4)))]
        return f"({choice(rng, ('and', 'or'))} {' '.join(parts)})"
    term, coefficients = _term(rng)
    values = outputs @ coefficients
    sign = choice(rng, ("<=", ">=", "<", ">"))
    least, greatest = float(values.min()), float(values.max())
    limit = least if sign[0] == "<" else greatest
    limit += float(rng.normal()) * 0.2 * max(greatest - least, 1e-3)
    if rng.random() < 0.2:
        return f"({'>' if sign[0] == '<' else '<'}{sign[1:]} {limit:.8g} {term})"
    return f"({sign} {term} {limit:.8g})"


def _property(rng: Generator, model: bytes, inputs: int) -> tuple[str, Array]:
    """A property's text and the grid's points, from all of its boxes."""
    boxes = [_limits(rng, inputs) for _ in range(int(rng.integers(1, 4)))]
    grids = [_grid(lower, upper) for lower, upper in boxes]
    outputs = [outputs_of(model, grid).reshape(len(grid), -1) for grid in grids]
    declared = "".join(f"(declare-const X_{i} Real)\n" for i in range(inputs))
    declared += "".join(f"(declare-const Y_{j} Real)\n" for j in range(OUTPUTS))
    if len(boxes) == 1 and rng.random() < 0.5:
        body = f"(assert (and {_box_text(rng, *boxes[0])}))\n"
        body += f"(assert {_formula(rng, outputs[0], 2)})\n"
    elif rng.random() < 0.5:
        parts = [f"(and {_box_text(rng, *box)})" for box in boxes]
        body = f"(assert (or {' '.join(parts)}))\n"
        body += f"(assert {_formula(rng, np.concatenate(outputs), 2)})\n"
    else:
        parts = [
            f"(and {_box_text(rng, *box)} {_formula(rng, out, 1)})"
            for box, out in zip(boxes, outputs, strict=True)
        ]
        body = f"(assert (or {' '.join(parts)})) ; a box each\n"
    return declared + body, np.concatenate(grids)


def _grid(lower: Array, upper: Array) -> Array:
    """Float32 inputs of a box, ends included as far as rounding allows."""
    axes = [np.linspace(low, high, GRID) for low, high in zip(lower, upper, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(lower))
    return points.astype(np.float32)


@dataclass(frozen=True, eq=False)
class PropertyTrial:
    """Properties of one network.

    Attributes:
        name: of the network.
        model: the file.
        texts: the properties.
        grids: ``P x I`` float32 points for each.
        exact: the network in rational arithmetic; None: it is not piecewise linear.
    """

    name: str
    model: bytes
    texts: Sequence[str]
    grids: Sequence[Array]
    exact: ExactNetwork | None

    def judged(self) -> list[Judged]:
        """Ask the command about each property."""
        with tempfile.TemporaryDirectory() as folder:
            return [
                self._judged(Path(folder), text, grid)
                for text, grid in zip(self.texts, self.grids, strict=True)
            ]

    def _judged(self, folder: Path, text: str, grid: Array) -> Judged:
        (folder / "network.onnx").write_bytes(self.model)
        (folder / "property.vnnlib").write_text(text, encoding="utf-8")
        command = ["vnnlib", "--onnx", str(folder / "network.onnx")]
        command += ["--property", str(folder / "property.vnnlib"), "--timeout", str(SECONDS)]
        command += ["--counterexample", str(folder / "found.txt"), "--device", "cpu"]
        result = CliRunner().invoke(app, command)
        if result.exit_code != 0:
            return Judged(Answer.REFUSED, tags=(f"exit code {result.exit_code}",))
        answer = ANSWERS.get((result.stdout.split() or [""])[-1], Answer.UNKNOWN)
        if answer is Answer.VERIFIED:
            lie = self._refuted(text, grid)
        elif answer is Answer.FALSIFIED:
            lie = self._unconfirmed(text, (folder / "found.txt").read_text(encoding="utf-8"))
        else:
            lie = ""
        files = {"network.onnx": self.model, "property.vnnlib": text.encode()} if lie else {}
        if lie:
            files["case.json"] = json.dumps({"name": self.name, "lie": lie}).encode()
        return Judged(answer, lie, files=files)

    def _refuted(self, text: str, grid: Array) -> str:
        """A point of the grid that meets a property which is called unsat; empty: none is found."""
        asked, outputs = Property(text), outputs_of(self.model, grid).reshape(len(grid), -1)
        for point, output in zip(grid, outputs, strict=True):
            if asked.is_met(_values(point, output)) and self._beyond_doubt(asked, point, output):
                return f"unsat, but {point.tolist()} meets it"
        return ""

    def _beyond_doubt(self, asked: Property, point: Array, output: Array) -> bool:
        """In rational arithmetic; of an inexact network, also if its outputs move a little."""
        if self.exact is not None:
            return asked.is_met(_values(point, self.exact(rational(point[None]))[0]))
        shifts = np.random.default_rng(0).choice([-ROUNDING, 0.0, ROUNDING], (32, len(output)))
        return all(asked.is_met(_values(point, output + shift)) for shift in shifts)

    def _unconfirmed(self, text: str, found: str) -> str:
        """Why a counterexample file is none; empty: it is one."""
        named = dict(re.findall(r"\(\s*([XY]_\d+)\s+([^\s()]+)\s*\)", found))
        inputs = [float(named[f"X_{i}"]) for i in range(sum(name[0] == "X" for name in named))]
        point = np.array(inputs, np.float32)
        output = outputs_of(self.model, point[None])[0]
        if not Property(text).is_met(_values(point, output)):
            return f"sat, but onnxruntime's outputs at {point.tolist()} do not meet it"
        return ""


def _values(point: Array, output: Array) -> dict[str, Fraction]:
    numbers = {f"X_{i}": Fraction(float(one)) for i, one in enumerate(point)}
    numbers |= {
        f"Y_{j}": one if isinstance(one, Fraction) else Fraction(float(one))
        for j, one in enumerate(output)
    }
    return numbers


def _trial(rng: Generator, number: int) -> PropertyTrial:
    inputs = 2 if number % 3 else 3
    activation = choice(rng, ("Relu", "Relu", "Abs", "LeakyRelu", "Sigmoid", "Tanh", "Gelu"))
    net = FileBuilder((inputs,), 20 if activation == "Gelu" else 17)
    last, width = "x", inputs
    for _ in range(int(rng.integers(1, 3))):
        more = int(rng.integers(3, 8))
        last = net.linear(last, normal(rng, more, width, gain=1.5), normal(rng, more))
        last, width = ACTIVATIONS[activation](net, rng, last), more
    last = net.linear(last, normal(rng, OUTPUTS, width, gain=1.5), normal(rng, OUTPUTS))
    end = choice(rng, ("", "", "", "Softmax", "Sigmoid"))
    model = net.data(net.add(end, last) if end else last)
    piecewise = activation in ("Relu", "Abs", "LeakyRelu") and not end
    texts, grids = zip(*(_property(rng, model, inputs) for _ in range(PROPERTIES)), strict=True)
    name = f"{activation}{', ' + end if end else ''}, {inputs} inputs"
    return PropertyTrial(name, model, texts, grids, ExactNetwork(model) if piecewise else None)


FAMILY = Family("vnnlib", _trial, share=2, least=30, small=4)

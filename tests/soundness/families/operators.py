"""Every operator form that the reader accepts: bounds over boxes of four scales hold its outputs.

The outputs are those of a float64 evaluation of the file by ONNX's reference evaluator, which a
bound may miss by 1e-9 of the greatest output in the box; onnxruntime has to agree with it to
1e-4, which float32 explains. Where the evaluator cannot run a file, disagrees, or has float32
constants of its own (:data:`SINGLE`), outputs are onnxruntime's, and a bound may miss them by 1e-5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.random import Generator
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.onnx.test_operator_forms import EQUATIONS, RESIZINGS
from tests.onnx.test_operators import CASES, TWO_BRANCHES, Case
from tests.onnx_networks import node, onnx_file
from tests.soundness.asking import packed
from tests.soundness.contract import Answer, Array, Family, Judged
from tests.soundness.replaying import outputs_of
from verify_pipeline import api
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.onnx import network_from_bytes

SCALES = (1e-3, 0.1, 1.0, 10.0)
METHODS = ("ibp", "crown", "alpha-crown")
POINTS = 48
ROUNDING64, ROUNDING32, AGREEMENT = 1e-9, 1e-5, 1e-4
"""Relative to the greatest output in the box."""

SINGLE = frozenset({"Erf", "Gelu", "HardSwish"})
"""Operators that the reference evaluator computes with float32 numbers whatever it is given."""

MOST = 64
"""Outputs that α-CROWN bounds; larger files get the first two methods."""

Form = tuple[str, Callable[[Generator], tuple[bytes, tuple[int, ...]]]]
"""A name, and what makes a file and its input's shape ``*X``."""


def _drawn(rng: Generator, weights: Sequence[Any]) -> list[Any]:
    return [
        rng.normal(size=one).astype(np.float32) if isinstance(one, tuple) else one
        for one in weights
    ]


def _of_case(case: Case, behind: bool) -> Form:
    """The operator of the input; or, behind another one, of its sines."""

    def make(rng: Generator) -> tuple[bytes, tuple[int, ...]]:
        weights = _drawn(rng, case.weights)
        named = {f"w{i}": np.asarray(w) for i, w in enumerate(weights) if w is not None}
        inputs = ["" if w is None else f"w{i}" for i, w in enumerate(weights)]
        nodes = [node("Sin", "x", "s")] if behind else []
        nodes.append(node(case.op, "s" if behind else "x", *inputs, "y", **case.attrs))
        return onnx_file(nodes, ("n", *case.shape), named, case.opset), case.shape

    return f"{case}{' of sines' if behind else ''}", make


def _of_nodes(
    name: str, shape: tuple[int, ...], nodes: Sequence[NodeProto], opset: int = 13, **weights: Any
) -> Form:
    def make(rng: Generator) -> tuple[bytes, tuple[int, ...]]:
        drawn = dict(zip(weights, _drawn(rng, list(weights.values())), strict=True))
        return onnx_file(nodes, ("n", *shape), drawn, opset), shape

    return name, make


def _others() -> list[Form]:
    """Forms that need more than one node, or an input from which something is excluded."""
    forms = []
    for op in ("Sqrt", "Reciprocal", "Log"):
        forms.append(_of_nodes(f"{op} of exp", (5,), [node("Exp", "x", "e"), node(op, "e", "y")]))
    for power in (0.5, -1.0, -0.5, 1.5, -3.0, 0.75, -1.3, 16.0):
        nodes = [node("Exp", "x", "e"), node("Pow", "e", "p", "y")]
        number = np.array(power, np.float32)
        forms.append(_of_nodes(f"Pow {power:g} of exp", (5,), nodes, p=number))
    summed = [node("Exp", "x", "e"), node("ReduceLogSum", "e", "y", axes=[1])]
    forms.append(_of_nodes("ReduceLogSum", (5,), summed))
    for shape in ((4, 4), (2, 4, 4)):
        for op, attributes in TWO_BRANCHES.items():
            nodes = [node("Tanh", "x", "a"), node("Exp", "x", "b")]
            nodes.append(node(op, "a", "b", "y", **attributes))
            forms.append(_of_nodes(f"{op} of two, {shape}", shape, nodes))
    scales = np.array([1, 1, 2, 1.5], np.float32)
    for attributes in RESIZINGS:
        nodes = [node("Resize", "x", "", "s", "y", **attributes)]
        forms.append(_of_nodes(f"Resize {attributes}", (2, 4, 6), nodes, s=scales))
    up = [node("Upsample", "x", "s", "y", mode="linear")]
    forms.append(_of_nodes("Upsample", (2, 3, 4), up, 9, s=np.array([1, 1, 2, 3], np.float32)))
    parts = [node("Split", "x", "a", axis=1), node("Concat", "c", "a", "b", "y", axis=-1)]
    parts[0].output.extend(["b", "c"])
    forms.append(_of_nodes("Split, Concat", (6,), parts))
    places = np.array([[2, 0], [-1, 1]])
    gathered = [node("Transpose", "x", "t", perm=[1, 2, 0]), node("GatherND", "t", "p", "g")]
    gathered.append(node("Transpose", "g", "y", perm=[1, 0]))
    forms.append(_of_nodes("GatherND", (3, 2), gathered, p=places))
    masked = [node("Where", "m", "x", "c", "h"), node("Softmax", "h", "y", axis=-1)]
    mask, never = np.array([[True, False, True]]), np.array([[0.0, -np.inf, 5.0]], np.float32)
    forms.append(_of_nodes("Where, -inf, Softmax", (3,), masked, m=mask, c=never))
    added = [node("Add", "x", "c", "h"), node("Softmax", "h", "y", axis=-1)]
    forms.append(_of_nodes("Add, -inf, Softmax", (3,), added, c=never))
    sized = [node("Size", "x", "s"), node("Cast", "s", "k", to=1), node("Mul", "x", "k", "y")]
    forms.append(_of_nodes("Size, Cast, Mul", (3,), sized))
    shaped = [node("Shape", "x", "s"), node("Reshape", "x", "s", "y")]
    forms.append(_of_nodes("Shape, Reshape", (2, 3), shaped))
    normalised = [node("BatchNormalization", "x", "a", "b", "c", "v", "y", epsilon=0.01)]
    variance = np.array([0.3, 1.0, 7.0], np.float32)
    forms.append(
        _of_nodes("BatchNormalization", (3, 2, 2), normalised, a=(3,), b=(3,), c=(3,), v=variance)
    )
    return forms + _sums()


def _sums() -> list[Form]:
    """Einstein's sums with a constant, and of two activations."""
    forms = []
    for equation in EQUATIONS:
        first, second = equation.split("->")[0].split(",")
        shape = tuple({"i": 2, "j": 3, "h": 2, "d": 3}[c] for c in first if c != "n")
        if "n" in second:
            other = tuple({"j": 3, "k": 4}[c] for c in second if c != "n")
            wide = (shape[-1], other[-1]) if len(other) == 1 else (other[0], shape[0])
            product = ("x", "m") if len(other) == 1 else ("m", "x")
            nodes = [
                node("MatMul", *product, "w"),
                node("Einsum", "x", "w", "y", equation=equation),
            ]
            forms.append(_of_nodes(f"Einsum {equation}", shape, nodes, m=wide))
        else:
            size = tuple({"j": 3, "k": 4, "h": 2, "d": 3, "e": 4}[c] for c in second)
            nodes = [node("Einsum", "x", "w", "y", equation=equation)]
            forms.append(_of_nodes(f"Einsum {equation}", shape, nodes, w=size))
    return forms


FORMS: list[Form] = [
    *(_of_case(case, behind=False) for case in CASES),
    *_others(),
    *(_of_case(case, behind=True) for case in CASES),
]


@dataclass(frozen=True, eq=False)
class OperatorTrial:
    """Boxes of one file; a case is a scale with a method.

    Attributes:
        name: of the form.
        model: the file.
        lower: ``4 x *X`` float64, a box for each scale.
        upper: ``4 x *X`` float64.
        points: ``4 x P x *X`` float32, in the boxes.
    """

    name: str
    model: bytes
    lower: Array
    upper: Array
    points: Array

    def judged(self) -> list[Judged]:
        """Bounds by each method, compared with the outputs."""
        try:
            network = network_from_bytes(self.model)
            small = network.graph.outputs <= MOST
            box = api.Box(torch.from_numpy(self.lower), torch.from_numpy(self.upper))
            methods = METHODS if small else METHODS[:2]
            found = {method: api.bounds(network, box, method=method) for method in methods}
        except VerifyPipelineError as error:
            refused = Judged(Answer.REFUSED, tags=(f"refused: {type(error).__name__}",))
            return [refused] * len(SCALES)
        judged = []
        for n, scale in enumerate(SCALES):
            outputs, allowed = self._outputs(n)
            for method, bounds in found.items():
                low, high = bounds.lower[n].numpy(), bounds.upper[n].numpy()
                with np.errstate(invalid="ignore"):  # NaN is no output, and contradicts nothing
                    missed = np.maximum(low - outputs - allowed, outputs - high - allowed)
                worst = float(np.nanmax(missed, initial=-np.inf))
                lie = f"{method} at scale {scale:g} misses an output by {worst:.3g}"
                known = np.isfinite(low).all() and np.isfinite(high).all()
                answer = Answer.VERIFIED if known else Answer.UNKNOWN
                if worst > 0:
                    judged.append(Judged(answer, lie, files=self._files(n, lie, missed)))
                else:
                    judged.append(Judged(answer))
        return judged

    def _outputs(self, n: int) -> tuple[Array, Array]:
        """Outputs ``P x K`` in the n-th box, and what a bound may miss them by."""
        theirs = outputs_of(self.model, self.points[n]).astype(np.float64)
        theirs = theirs.reshape(len(theirs), -1)
        scale = np.abs(np.where(np.isfinite(theirs), theirs, 0.0)).max(initial=1e-30)
        ours = _in_float64(self.model, self.points[n], theirs.shape)
        finite = np.isfinite(theirs)
        if ours is None or not (np.abs(ours - theirs)[finite] <= AGREEMENT * scale).all():
            return theirs, np.full_like(theirs, ROUNDING32 * scale)
        return ours, np.full_like(ours, ROUNDING64 * scale)

    def _files(self, n: int, lie: str, missed: Array) -> dict[str, bytes]:
        worst = np.nanargmax(np.nanmax(missed, axis=1))
        arrays = {
            "lower": self.lower[n],
            "upper": self.upper[n],
            "point": self.points[n][worst],
        }
        said = {"name": self.name, "lie": lie}
        return {
            "network.onnx": self.model,
            "bounds.npz": packed(arrays),
            "case.json": json.dumps(said).encode(),
        }


def _in_float64(model: bytes, points: Array, shape: tuple[int, ...]) -> Array | None:
    """Outputs by ONNX's reference evaluator, all float32 numbers made float64; None: it cannot."""
    loaded = onnx.load_model_from_string(model)
    if any(one.op_type in SINGLE for one in loaded.graph.node):
        return None
    for tensor in loaded.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            wide = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for one in loaded.graph.node:
        if one.op_type == "Cast":
            del one.attribute[:]
            one.attribute.append(helper.make_attribute("to", TensorProto.DOUBLE))
    try:
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(loaded)
            outputs: Any = evaluator.run(None, {"x": points.astype(np.float64)})
    except Exception:  # its operators raise whatever they like
        return None
    (found,) = outputs
    if found.dtype != np.float64 or found.size != int(np.prod(shape)):
        return None
    return np.asarray(found.reshape(shape))


def _trial(rng: Generator, number: int) -> OperatorTrial:
    name, make = FORMS[number % len(FORMS)]
    model, shape = make(rng)
    lower, upper, points = [], [], []
    for scale in SCALES:
        middle = rng.normal(size=shape)
        low = (middle - scale * rng.uniform(0, 1, shape)).astype(np.float32)
        high = (middle + scale * rng.uniform(0, 1, shape)).astype(np.float32)
        share = rng.uniform(0, 1, (POINTS, *shape))
        share[: POINTS // 2] = share[: POINTS // 2].round()
        inside = (low + share * (high - low)).astype(np.float32)
        lower.append(low)
        upper.append(high)
        points.append(np.clip(inside, low, high))
    low, high = np.stack(lower).astype(np.float64), np.stack(upper).astype(np.float64)
    return OperatorTrial(name, model, low, high, np.stack(points))


FAMILY = Family("operators", _trial, share=5, least=len(FORMS), small=12)

"""Every operator reader computes what onnxruntime does; the comparison is part of the reading."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from tests.onnx_networks import onnx_file, operator_file
from verify_pipeline.errors import UnsupportedOperatorError
from verify_pipeline.onnx import check, network_from_bytes
from verify_pipeline.onnx.operators import OPERATORS

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One operator of the input; integers are constant inputs, shapes are random weights."""

    op: str
    shape: tuple[int, ...]
    weights: tuple[Any, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    opset: int = 13

    def __str__(self) -> str:
        return f"{self.op}-{self.opset}-{self.shape}-{self.attrs}"


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def number(value: float) -> Array:
    return np.array(value, dtype=np.float32)


IMAGE, VECTOR, TOKENS = (3, 8, 9), (6,), (4, 6)
CONV = (5, 3, 3, 2)

CASES = [
    *(Case(op, VECTOR) for op in ("Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Identity")),
    *(Case(op, VECTOR) for op in ("Erf", "Softplus", "Sin", "Cos", "HardSigmoid", "Dropout")),
    Case("Gelu", VECTOR, opset=20),
    Case("Gelu", VECTOR, attrs={"approximate": "tanh"}, opset=20),
    Case("LeakyRelu", VECTOR, attrs={"alpha": 0.2}),
    Case("LeakyRelu", VECTOR, attrs={"alpha": 1.5}),
    Case("PRelu", IMAGE, ((3, 1, 1),)),
    Case("Clip", VECTOR, (number(-0.3), number(0.4))),
    Case("Clip", VECTOR, (number(0.0),)),
    Case("Clip", VECTOR, (None, number(0.4))),
    Case("Clip", VECTOR, attrs={"min": 0.0}, opset=6),
    Case("Max", VECTOR, ((6,),)),
    Case("Max", VECTOR, ((6,), (1,))),
    Case("Min", VECTOR, ((6,),)),
    Case("Mean", VECTOR, ((6,), (1,))),
    *(Case(op, VECTOR) for op in ("Elu", "Selu", "Celu", "Softsign", "Atan")),
    Case("Elu", VECTOR, attrs={"alpha": 2.0}),
    Case("Celu", VECTOR, attrs={"alpha": 0.5}),
    Case("Selu", VECTOR, attrs={"alpha": 0.7, "gamma": 1.3}),
    Case("HardSwish", VECTOR, opset=14),
    Case("Mish", VECTOR, opset=18),
    Case("Swish", VECTOR, attrs={"alpha": 2.0}, opset=24),
    Case("Shrink", VECTOR, attrs={"lambd": 0.3, "bias": 0.3}),
    Case("LogSoftmax", TOKENS),
    Case("LogSoftmax", TOKENS, attrs={"axis": 1}),
    Case("LogSoftmax", TOKENS, attrs={"axis": 1}, opset=11),
    Case("CastLike", VECTOR, ((1,),), opset=15),
    Case("Cast", VECTOR, attrs={"to": 1}),
    Case("Softmax", TOKENS),
    Case("Softmax", TOKENS, attrs={"axis": 1}),
    Case("Softmax", TOKENS, attrs={"axis": 1}, opset=11),
    Case("Softmax", TOKENS, attrs={"axis": 2}, opset=11),
    Case("Softmax", VECTOR, opset=11),
    *(Case(op, IMAGE, ((3, 1, 1),)) for op in ("Add", "Sub", "Mul", "Div", "Sum")),
    *(Case(op, IMAGE, ((1, 3, 8, 9),)) for op in ("Add", "Sub", "Mul", "Div")),
    Case("Add", VECTOR, ((1, 6),)),
    Case("Mul", VECTOR, (number(3.0),)),
    Case("Pow", VECTOR, (number(2.0),)),
    Case("Pow", VECTOR, (number(3.0),)),
    *(Case("Pow", VECTOR, (number(power),)) for power in (1.0, 4.0, 5.0)),
    Case("Gemm", VECTOR, ((6, 4), (4,))),
    Case("Gemm", VECTOR, ((4, 6), (1, 4)), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", VECTOR, ((6, 4),)),
    Case("Gemm", VECTOR, ((6, 4), (1,)), {"beta": 0.5}),
    Case("MatMul", VECTOR, ((6, 4),)),
    Case("MatMul", TOKENS, ((6, 4),)),
    Case("MatMul", TOKENS, ((6,),)),
    Case("MatMul", TOKENS, ((1, 6, 2),)),
    Case("MatMul", (2, 4, 6), ((2, 6, 3),)),
    Case("Conv", IMAGE, (CONV, (5,)), {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    Case("Conv", IMAGE, (CONV,), {"pads": [0, 1, 2, 0]}),
    Case("Conv", IMAGE, (CONV,), {"dilations": [2, 3]}),
    Case("Conv", IMAGE, (CONV,), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("Conv", IMAGE, (CONV,), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    Case("Conv", IMAGE, (CONV,), {"auto_pad": "VALID"}),
    Case("Conv", (4, 8, 9), ((6, 2, 3, 3), (6,)), {"group": 2}),
    Case("Conv", (3, 12), ((5, 3, 3), (5,)), {"pads": [1, 1], "strides": [2]}),
    Case("Conv", (3, 12), ((5, 3, 4),), {"pads": [0, 1]}),
    Case("Conv", (2, 4, 5, 6), ((3, 2, 2, 3, 1), (3,)), {"pads": [1, 0, 0, 1, 2, 0]}),
    Case(
        "Conv",
        (4, 5, 5, 5),
        ((6, 2, 2, 2, 2), (6,)),
        {"group": 2, "strides": [2, 1, 1], "dilations": [2, 1, 3]},
    ),
    Case("ConvTranspose", IMAGE, ((3, 4, 3, 2), (4,))),
    Case("ConvTranspose", IMAGE, ((3, 4, 3, 3),), {"strides": [2, 3], "pads": [1, 0, 0, 2]}),
    Case(
        "ConvTranspose",
        (4, 5, 4),
        ((4, 3, 3, 2), (6,)),
        {"group": 2, "strides": [2, 2], "output_padding": [1, 1], "dilations": [2, 1]},
    ),
    *(
        Case("ConvTranspose", IMAGE, ((3, 2, 3, 3),), {"strides": [2, 2], "auto_pad": mode})
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    Case("ConvTranspose", IMAGE, ((3, 2, 3, 3),), {"strides": [2, 2], "output_shape": [16, 18]}),
    Case("ConvTranspose", (3, 7), ((3, 2, 4), (2,)), {"strides": [3], "pads": [1, 1]}),
    Case("MaxPool", IMAGE, attrs={"kernel_shape": [2, 3], "strides": [2, 2]}),
    Case("MaxPool", IMAGE, attrs={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    Case("MaxPool", (3, 12), attrs={"kernel_shape": [2], "strides": [2]}),
    Case("MaxPool", IMAGE, attrs={"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case("AveragePool", IMAGE, attrs={"kernel_shape": [2, 3], "strides": [2, 2]}),
    Case("AveragePool", IMAGE, attrs={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    Case("AveragePool", IMAGE, attrs={"kernel_shape": [3, 3], "pads": [0, 1, 1, 0]}),
    Case(
        "AveragePool",
        IMAGE,
        attrs={"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "count_include_pad": 1},
    ),
    Case("MaxPool", IMAGE, attrs={"kernel_shape": [3, 3], "pads": [0, 0, 2, 1]}),
    Case("MaxPool", IMAGE, attrs={"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"}),
    Case("MaxPool", (2, 4, 5, 6), attrs={"kernel_shape": [2, 3, 2], "strides": [1, 2, 2]}),
    Case("MaxPool", (2, 4, 5, 6), attrs={"kernel_shape": [3, 2, 2], "pads": [1, 0, 1, 0, 1, 1]}),
    *(
        Case(
            "AveragePool",
            (2, 4, 5, 6),
            attrs={
                "kernel_shape": [3, 2, 3],
                "strides": [2, 1, 2],
                "pads": [1, 0, 1, 0, 1, 1],
                "count_include_pad": counts,
            },
        )
        for counts in (0, 1)
    ),
    Case("GlobalAveragePool", IMAGE),
    Case("GlobalMaxPool", IMAGE),
    Case("Flatten", IMAGE),
    Case("Flatten", IMAGE, attrs={"axis": -3}),
    Case("Reshape", IMAGE, (ints(0, -1),)),
    Case("Reshape", IMAGE, (ints(-1, 9, 24),)),
    Case("Squeeze", (1, 6, 1), opset=11),
    Case("Squeeze", (1, 6, 1), (ints(-1),)),
    Case("Unsqueeze", VECTOR, (ints(1, -1),)),
    Case("Unsqueeze", VECTOR, attrs={"axes": [1]}, opset=11),
    Case("Transpose", IMAGE, attrs={"perm": [0, 2, 3, 1]}),
    Case("Slice", IMAGE, (ints(1, 0), ints(7, 99), ints(2, 3), ints(2, 1))),
    Case("Slice", IMAGE, (ints(-1), ints(-(2**62)), ints(-1), ints(-2))),
    Case("Slice", IMAGE, attrs={"starts": [1], "ends": [-1], "axes": [3]}, opset=9),
    Case("Tile", IMAGE, (ints(1, 2, 1, 3),)),
    Case("CumSum", IMAGE, (np.array(2),)),
    Case("CumSum", IMAGE, (np.array(-1),), {"exclusive": 1, "reverse": 1}),
    Case("Trilu", (2, 4, 5), (np.array(1),), {"upper": 0}, opset=14),
    Case("Trilu", (2, 4, 5), opset=14),
    *(
        Case("DepthToSpace", (8, 3, 2), attrs={"blocksize": 2, "mode": mode})
        for mode in ("DCR", "CRD")
    ),
    Case("SpaceToDepth", (2, 4, 6), attrs={"blocksize": 2}),
    Case("Gather", IMAGE, (ints(2, 0, -1),), {"axis": 3}),
    Case("Gather", IMAGE, (np.array(1),), {"axis": 1}),
    Case("Gather", IMAGE, (ints(1, 0, 2, 2).reshape(2, 2),), {"axis": 2}),
    Case("Expand", (1, 6), (ints(1, 4, 6),)),
    Case("Pad", IMAGE, (ints(0, 0, 1, 2, 0, 0, 0, 1),)),
    Case("Pad", IMAGE, (ints(0, 0, 1, 0, 0, 1, 0, 1), number(0.5))),
    Case("Pad", IMAGE, (ints(0, 0, -1, 1, 0, 0, -2, 1),)),
    Case("Pad", IMAGE, (ints(0, 0, 0, 0, 0, 0, 0, 0),)),
    Case("Pad", IMAGE, (ints(0, 0, 2, 1, 0, 0, 0, 2),), {"mode": "reflect"}),
    Case("Pad", IMAGE, attrs={"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "edge"}, opset=2),
    Case("ReduceMean", TOKENS, attrs={"axes": [1], "keepdims": 0}),
    Case("ReduceMean", IMAGE, attrs={"axes": [-1, 2]}),
    Case("ReduceMean", IMAGE, (ints(2),), opset=18),
    Case("ReduceSum", IMAGE, (ints(1, 3),), {"keepdims": 0}),
    Case("ReduceSum", TOKENS, (ints(),), {"noop_with_empty_axes": 1}),
    *(
        Case(f"Reduce{what}", IMAGE, attrs={"axes": [1, -1], "keepdims": keep})
        for what in ("L1", "L2", "SumSquare", "LogSumExp", "Max", "Min")
        for keep in (0, 1)
    ),
    Case("ReduceMax", TOKENS, attrs={"axes": [1], "keepdims": 0}),
    Case("InstanceNormalization", IMAGE, ((3,), (3,))),
    Case("GroupNormalization", (4, 3, 2), ((4,), (4,)), {"num_groups": 2}, opset=21),
    Case("RMSNormalization", TOKENS, ((6,),), opset=23),
    Case("LpNormalization", VECTOR, attrs={"p": 1}),
    Case("LpNormalization", IMAGE, attrs={"axis": 1}),
    Case("LayerNormalization", TOKENS, ((6,), (6,)), {"axis": -1}, opset=17),
    Case("LayerNormalization", TOKENS, ((4, 6),), {"axis": 1}, opset=17),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_onnxruntime(case: Case, normal: Callable[..., Array]) -> None:
    weights = [normal(*w) if isinstance(w, tuple) else w for w in case.weights]
    data = operator_file(case.op, ("n", *case.shape), *weights, opset=case.opset, **case.attrs)
    network = network_from_bytes(data, check_parity=False)
    assert network.input_shape == case.shape
    assert network.replay.batched
    assert check(network, str(case)) < 1e-5


@pytest.mark.parametrize(
    ("op", "inputs"),
    [(op, "positive") for op in ("Sqrt", "Reciprocal", "Pow", "Log", "ReduceLogSum")],
)
def test_functions_of_positive_values(op: str, inputs: str) -> None:
    attrs: dict[str, Any] = {"axes": [1]} if op == "ReduceLogSum" else {}
    nodes = [
        helper.make_node("Exp", ["x"], [inputs]),
        helper.make_node(op, [inputs, "p"] if op == "Pow" else [inputs], ["y"], **attrs),
    ]
    for power in (0.5, -1.0, -0.5, 1.5, -3.0, 0.75, -1.3):
        network_from_bytes(onnx_file(nodes, ("n", 5), {"p": number(power)}))


TWO_BRANCHES: dict[str, dict[str, Any]] = {
    "Add": {},
    "Sub": {},
    "Mul": {},
    "Div": {},
    "Max": {},
    "Min": {},
    "Concat": {"axis": 1},
    "MatMul": {},
}


@pytest.mark.parametrize("op", TWO_BRANCHES)
@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4)], ids=str)
def test_operators_of_two_activations(op: str, shape: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["a"]),
        helper.make_node("Exp", ["x"], ["b"]),
        helper.make_node(op, ["a", "b"], ["y"], **TWO_BRANCHES[op]),
    ]
    network_from_bytes(onnx_file(nodes, ("n", *shape)))


def test_every_reader_has_a_test() -> None:
    elsewhere = {"BatchNormalization", "Concat", "Reciprocal", "Shape", "Size", "Split", "Sqrt"}
    elsewhere |= {"Einsum", "GatherND", "Log", "ReduceLogSum", "Resize", "Upsample", "Where"}
    assert set(OPERATORS) == {case.op for case in CASES} | elsewhere


def test_the_page_about_onnx_names_every_operator() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
    table = page[page.index("| family |") :].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(OPERATORS)


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("Floor", {}, "not known"),
        ("Cast", {"to": 7}, "a cast of an activation to int64"),
        ("Cast", {"to": 17}, "a cast of an activation to float8e4m3fn"),
        ("Cast", {"to": 9}, "a cast of an activation to bool"),
        ("Pow", {}, "not one number"),
    ],
)
def test_unsupported_operator_says_what_and_what_else(
    op: str, attrs: dict[str, Any], message: str
) -> None:
    weights = (np.ones(4, np.float32),) if op == "Pow" else ()
    with pytest.raises(UnsupportedOperatorError) as caught:
        network_from_bytes(operator_file(op, ("n", 4), *weights, **attrs))
    text = str(caught.value)
    assert f"ONNX operator {op} (node 'y', operator set 13)" in text
    assert message in text
    assert "docs/onnx.md" in text
    assert len(text) < 250

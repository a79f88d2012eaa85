"""Broken ONNX files: an error of ours, or a network whose verdicts are true of the file itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from typer.testing import CliRunner

from tests.onnx_networks import node, onnx_file
from verify_pipeline.cli.app import app
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer
from verify_pipeline.interop.properties import VnnlibProperty
from verify_pipeline.interop.vnnlib import parse_vnnlib
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.onnx.operators import OPERATORS

Array = NDArray[Any]
INPUTS, OUTPUTS = 4, 2
LIMITS = "".join(
    f"(declare-const X_{i} Real)(assert (and (>= X_{i} -0.5) (<= X_{i} 0.5)))"
    for i in range(INPUTS)
)
PROPERTY = LIMITS + "".join(f"(declare-const Y_{j} Real)" for j in range(OUTPUTS))
PROPERTY += "(assert (>= Y_0 Y_1))"
GENERATED = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return GENERATED.normal(size=shape).astype(np.float32)


def seeds() -> list[bytes]:
    """A perceptron, a convolution with pooling and a shortcut, and an attention with shapes."""
    dense = {
        "w": normal(4, 5),
        "b": normal(5),
        "v": normal(5, 2),
        "c": np.array([0, 9], np.float32),
    }
    perceptron = [
        node("Gemm", "x", "w", "b", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r", "v", "m"),
        node("Add", "m", "c", "y"),
    ]
    image = {
        "w": normal(2, 1, 3, 3),
        "s": np.array([0, -1], np.int64),
        "v": normal(8, 2),
        "c": normal(2),
    }
    convolution = [
        node("Conv", "x", "w", "h", pads=[1, 1, 1, 1]),
        node("LeakyRelu", "h", "r", alpha=0.1),
        node("Clip", "r", "", "one", "k"),
        node("Concat", "k", "h", "j", axis=1),
        node("AveragePool", "j", "p", kernel_shape=[2, 1], strides=[2, 1]),
        node("Reshape", "p", "s", "f"),
        node("Gemm", "f", "v", "c", "y", alpha=0.5),
    ]
    image["one"] = np.array(1, np.float32)
    tokens = {
        "a": np.array([2, 2], np.int64),
        "q": normal(2, 2),
        "v": normal(4, 2),
        "zero": np.array([0], np.int64),
    }
    attention = [
        node("Shape", "x", "s"),
        node("Gather", "s", "zero", "n"),
        node("Concat", "n", "a", "t", axis=0),
        node("Reshape", "x", "t", "h"),
        node("MatMul", "h", "q", "k"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "h", "kt", "e"),
        node("Softmax", "e", "p", axis=-1),
        node("MatMul", "p", "h", "o"),
        node("Flatten", "o", "f"),
        node("MatMul", "f", "v", "y"),
    ]
    return [
        onnx_file(perceptron, ("n", 4), dense, opset=17),
        onnx_file(convolution, (1, 1, 2, 2), image, opset=17),
        onnx_file(attention, ("n", 4), tokens, opset=17),
    ]


def broken_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flips, a cut, an end that is missing."""
    broken = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
        del broken[rng.randrange(len(broken)) :]
    if rng.random() < 0.2:
        start = rng.randrange(len(broken) + 1)
        del broken[start : start + rng.randint(1, 20)]
    return bytes(broken)


def drop_something(model: ModelProto, rng: random.Random) -> None:
    graph = model.graph
    parts = [graph.node, graph.initializer, graph.input, graph.output, model.opset_import]
    parts += [node.attribute for node in graph.node] + [node.input for node in graph.node]
    part = rng.choice([one for one in parts if len(one)])
    del part[rng.randrange(len(part))]


def change_operator(model: ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice([*OPERATORS, "Loop", "NonZero", "LSTM", ""])


def change_wires(model: ModelProto, rng: random.Random) -> None:
    """Also cycles, and nodes that come before what they need."""
    nodes = model.graph.node
    names = [name for node in nodes for name in (*node.input, *node.output)]
    chosen = rng.choice(nodes)
    ends = rng.choice([chosen.input, chosen.output])
    if len(ends):
        ends[rng.randrange(len(ends))] = rng.choice(names)


def change_order(model: ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def change_weight(model: ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    array = numpy_helper.to_array(tensor).copy()
    if array.dtype.kind == "f" and array.size:
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice(
            [np.nan, np.inf, -np.inf, 3e38, 1e-45, 0, 1e6]
        )
    elif array.size:
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice([-(2**63), 2**62, -1, 0, 7])
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def change_type_or_shape(model: ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    kind = rng.choice(["type", "shape", "input", "rank", "opset"])
    if kind == "type":
        tensor.data_type = rng.randrange(25)
    elif kind == "shape" and len(tensor.dims):
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([-1, 0, 1, 3, 2**40])
    elif kind == "rank":
        tensor.dims.append(rng.choice([1, 2]))
    elif kind == "opset":
        model.opset_import[0].version = rng.choice([-1, 0, 1, 7, 11, 12, 25, 99])
    else:
        declared = rng.choice(model.graph.input).type.tensor_type
        declared.elem_type = rng.choice([declared.elem_type, 0, 2, 10, 11, 99])
        size = rng.choice(declared.shape.dim)
        size.dim_value = rng.choice([-1, 0, 1, 2, 3, 2**33])


def change_attribute(model: ModelProto, rng: random.Random) -> None:
    found = [item for node in model.graph.node for item in node.attribute]
    if not found:
        return
    item = rng.choice(found)
    item.i = rng.choice([-1, 0, 1, 2, 99, 2**40])
    item.f = rng.choice([0.0, -1.0, 2.5, float("nan"), float("inf")])
    if len(item.ints):
        item.ints[rng.randrange(len(item.ints))] = rng.choice([-3, 0, 1, 2, 9, 2**40])


CHANGES: list[Callable[[ModelProto, random.Random], None]] = [
    *(drop_something, change_operator, change_wires, change_order, change_weight),
    *(change_type_or_shape, change_attribute),
]


def broken_structure(data: bytes, rng: random.Random) -> bytes:
    """A file that parses, but says something else."""
    model = onnx.load_model_from_string(data)
    try:
        for _ in range(rng.randint(1, 2)):
            rng.choice(CHANGES)(model, rng)
    except (IndexError, ValueError, TypeError):  # an earlier change has left nothing to change
        pass
    return bytes(model.SerializeToString())


def broken_files(count: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    originals = seeds()
    return [
        rng.choice([broken_bytes, broken_structure, broken_structure])(rng.choice(originals), rng)
        for _ in range(count)
    ]


def outputs_of_the_file(data: bytes, points: Array) -> Array:
    """What onnxruntime alone makes of the file at points ``N x 4``, one at a time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    kind = np.float64 if "double" in taken.type else np.float32
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in taken.shape]
    rows = [session.run(None, {taken.name: point.reshape(shape).astype(kind)}) for point in points]
    return np.stack([np.concatenate([part.ravel() for part in row]) for row in rows])


def is_true(answer: Answer, point: torch.Tensor | None, data: bytes, prop: VnnlibProperty) -> bool:
    """Whether an answer does not contradict the file: its point, or any of 64 random ones."""
    if answer is Answer.SAT:
        assert point is not None
        points = point.numpy().reshape(1, -1)
    else:
        points = np.random.default_rng(1).uniform(-0.5, 0.5, (64, INPUTS)).astype(np.float32)
    outputs = torch.from_numpy(outputs_of_the_file(data, points))
    met = prop.is_counterexample(torch.from_numpy(points), outputs)
    return bool(met.all()) if answer is Answer.SAT else not bool(met.any())


def test_300_mutated_networks() -> None:
    prop = parse_vnnlib(PROPERTY)
    refused, answers = 0, dict.fromkeys(Answer, 0)
    for data in broken_files(300, seed=22):
        try:
            network = network_from_bytes(data)
            (found,) = decide(network, [prop], property_plan(2.0))
        except VerifyPipelineError:
            refused += 1
            continue
        answers[found.answer] += 1
        if found.answer in (Answer.SAT, Answer.UNSAT):
            assert is_true(found.answer, found.point, data, prop)
    assert 150 < refused < 290
    assert answers[Answer.SAT] >= 5
    assert answers[Answer.UNSAT] >= 5


@pytest.mark.parametrize("seed", range(2))
def test_no_traceback_reaches_the_user(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole command, on broken networks and on broken properties."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(30 + seed)
    prop = tmp_path / "p.vnnlib"
    whole = seeds()[0]
    for data in broken_files(8, seed=40 + seed):
        text = PROPERTY.encode()
        if seed:
            data, text = whole, broken_bytes(text, rng)
        (tmp_path / "n.onnx").write_bytes(data)
        prop.write_bytes(text)
        command = ["vnnlib", "--onnx", "n.onnx", "--property", "p.vnnlib", "--timeout", "2"]
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert result.exit_code in (0, 2)
        last = (result.stdout.split() or [""])[-1]
        assert (last in {answer.value for answer in Answer}) == (result.exit_code == 0)

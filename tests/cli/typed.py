"""Commands as they are typed, and a network that is small enough to be written by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from verify_pipeline.cli.app import app


def write_network(path: Path, weight: np.ndarray, operators: Sequence[str] = ()) -> Path:
    """A linear classifier of 2 pixels, with more operators after it."""
    names = ["input", "flat", *(f"n{place}" for place in range(len(operators))), "output"]
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        *(
            helper.make_node(operator, [names[place + 1]], [names[place + 2]])
            for place, operator in enumerate(operators)
        ),
        helper.make_node("MatMul", [names[-2], "w"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 1, 2])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command; a traceback is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr

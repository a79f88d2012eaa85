"""Margins that rounding to float32 would turn: weights of a file, and outputs of its replay."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from verify_pipeline.certify import (
    CertifySettings,
    Ledger,
    RobustImages,
    certify_set,
    recheck,
)
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.settings import StageName
from verify_pipeline.data import ImageSet
from verify_pipeline.onnx import Network, load_network
from verify_pipeline.problem import Status

IMAGES = ImageSet("one", "test", torch.tensor([[0.75, 0.75]]), torch.tensor([0]), 2)


def network_of(path: Path, kind: int, nodes: list[NodeProto], **weights: NDArray[Any]) -> Network:
    """A file of two inputs ``x`` and two outputs ``y``, read."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, ["n", 2])],
        [helper.make_tensor_value_info("y", kind, ["n", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return load_network(path)


@pytest.mark.parametrize("stage", ["ibp", "crown", "alpha-crown", "branch-and-bound"])
def test_a_margin_below_zero_by_less_than_float32_tells(stage: StageName, tmp_path: Path) -> None:
    """``1 + 2^-11 - (1 + 2^-12)^2 x0 + 2^-24 x1`` is ``-2^-25`` at ``(1, 1/2)``.

    The square is ``1 + 2^-11 + 2^-24``; without its last bit the margin there would be ``2^-25``.
    """
    factor = 1 + 2**-12
    network = network_of(
        tmp_path / "net.onnx",
        TensorProto.FLOAT,
        [helper.make_node("Mul", ["x", "s"], ["h"]), helper.make_node("Gemm", list("hwb"), ["y"])],
        s=np.array([factor, 1], np.float32),
        w=np.array([[-factor, 0], [2**-24, 0]], np.float32),
        b=np.array([1 + 2**-11, 0], np.float32),
    )
    settings = CertifySettings(epsilon=0.25, stages=("clean", stage))
    (record,) = certify_set(network, IMAGES, settings).records
    if stage == "branch-and-bound":  # of two inputs: halves of the box, whose corners are looked at
        assert (record.status, record.stage) == (Status.FALSIFIED, "input-split")
        return
    assert record.status is Status.UNKNOWN
    assert record.bound == pytest.approx(-(2**-25), rel=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_double_network_is_judged_by_its_own_digits(sign: int, tmp_path: Path) -> None:
    """Outputs 1 ± 1e-10 and 1, of which float32 makes a tie."""
    network = network_of(
        tmp_path / "net.onnx",
        TensorProto.DOUBLE,
        [helper.make_node("Gemm", list("xwb"), ["y"])],
        w=np.array([[1.0, 0], [0, 0]]),
        b=np.array([0.25 + sign * 1e-10, 1]),
    )
    settings = CertifySettings(epsilon=0.0, stages=("clean", "ibp"))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        summary = certify_set(network, IMAGES, settings, ledger)
        (record,) = summary.records
        if sign > 0:
            assert record.status is Status.VERIFIED
            return
        assert record.status is Status.FALSIFIED
        assert record.margin == pytest.approx(-1e-10, rel=1e-5)
        kept = ledger.counterexample(summary.info.run, record)
        assert kept.output.tolist() == [1 - 1e-10, 1.0]
        instances = RobustImages(IMAGES, (0,), LinfBall(0.0), dtype=network.input_dtype)
        (again,) = recheck(ledger, summary.info.run, network.replay, instances)
        assert again.holds

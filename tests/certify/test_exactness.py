"""Margins that rounding to float32 would turn: weights of a file, and outputs of its replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

from tests.onnx_networks import node, onnx_file, singles
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
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.problem import Status

IMAGES = ImageSet("one", "test", torch.tensor([[0.75, 0.75]]), torch.tensor([0]), 2)


@pytest.mark.parametrize("stage", ["ibp", "crown", "alpha-crown", "branch-and-bound"])
def test_a_margin_below_zero_by_less_than_float32_tells(stage: StageName) -> None:
    """``1 + 2^-11 - (1 + 2^-12)^2 x0 + 2^-24 x1`` is ``-2^-25`` at ``(1, 1/2)``.

    The square is ``1 + 2^-11 + 2^-24``; without its last bit the margin there would be ``2^-25``.
    """
    factor = 1 + 2**-12
    weights = singles(s=[factor, 1], w=[[-factor, 0], [2**-24, 0]], b=[1 + 2**-11, 0])
    nodes = [node("Mul", "x", "s", "h"), node("Gemm", "h", "w", "b", "y")]
    network = network_from_bytes(onnx_file(nodes, ("n", 2), weights))
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
    weights = {"w": np.array([[1.0, 0], [0, 0]]), "b": np.array([0.25 + sign * 1e-10, 1])}
    nodes = [node("Gemm", "x", "w", "b", "y")]
    network = network_from_bytes(onnx_file(nodes, ("n", 2), weights, input_type=TensorProto.DOUBLE))
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
        (again,) = recheck(ledger, summary.info.run, network.replay, instances, network.input_dtype)
        assert again.holds

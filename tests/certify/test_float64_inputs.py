"""Files that take float64: nothing on the way to them is rounded to float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto
from torch import Tensor

from tests.onnx_networks import steep_file
from verify_pipeline.certify import CertifySettings, Ledger, RobustImages, certify_set, recheck
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.records import pack, unpack
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.data.arrays import boxes_from_arrays, from_arrays
from verify_pipeline.errors import DataError
from verify_pipeline.interop.counterexamples import (
    read_counterexample,
    replay_counterexample,
    write_counterexample,
)
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer
from verify_pipeline.interop.vnnlib import parse_vnnlib
from verify_pipeline.onnx import Network, network_from_bytes
from verify_pipeline.problem import Counterexample, Status

STEEP = 1e9
WIDTH = 5e-10


def steep(input_type: int = TensorProto.DOUBLE, classes: int = 2) -> Network:
    return network_from_bytes(steep_file(STEEP, classes, input_type))


@pytest.fixture
def double() -> Network:
    return steep()


def prop(constraint: str, width: float = WIDTH) -> Any:
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    text += f"(assert (>= X_0 {0.1 - width!r})) (assert (<= X_0 {0.1 + width!r}))"
    return parse_vnnlib(text + constraint)


def test_the_type_of_an_input_is_the_files() -> None:
    assert steep().input_dtype == torch.float64
    assert steep(TensorProto.FLOAT).input_dtype == torch.float32


def test_a_property_between_float32_numbers_is_decided_in_float64(tmp_path: Path) -> None:
    """The float32 number nearest to 0.1 lies outside the box, and breaks the property."""
    network = steep(classes=1)
    (found,) = decide(network, [prop("(assert (>= Y_0 1.0))")], property_plan(5.0))
    assert found.answer is Answer.UNSAT
    (found,) = decide(network, [prop("(assert (>= Y_0 0.4))")], property_plan(5.0))
    assert found.answer is Answer.SAT
    assert found.point is not None
    assert found.output is not None
    assert found.point.dtype == torch.float64
    assert 0.1 - WIDTH <= float(found.point) <= 0.1 + WIDTH

    path = write_counterexample(tmp_path / "x.counterexample", found.point, found.output)
    claim = read_counterexample(path)
    asked = (network.replay, prop("(assert (>= Y_0 0.4))"), claim.inputs, claim.outputs)
    assert replay_counterexample(*asked, dtype=torch.float64).strict


def test_images_of_float64_stay_as_they_are(double: Network, tmp_path: Path) -> None:
    """At 0.1 class 1 is right by 1.5; the float32 number there is 1.49e-9 off, which is as much."""
    np.save(tmp_path / "images.npy", np.full((4, 1), 0.1 + 1e-9))
    np.save(tmp_path / "labels.npy", np.ones(4, np.int64))
    images = from_arrays(tmp_path / "images.npy", tmp_path / "labels.npy", 2)
    assert images.images.dtype == torch.float64
    assert images.pixels().dtype == torch.float32
    settings = CertifySettings(epsilon=1e-10)
    summary = certify_set(double, images, settings)
    assert [record.status for record in summary.records] == [Status.VERIFIED] * 4
    # and a perturbation that crosses 0.1 + 1.5e-9 is found, kept in float64, and found again
    settings = CertifySettings(epsilon=1e-9)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        summary = certify_set(double, images, settings, ledger)
        assert [record.status for record in summary.records] == [Status.FALSIFIED] * 4
        kept = ledger.counterexample(summary.info.run, summary.records[0])
        assert kept.input.dtype == torch.float64
        assert abs(float(kept.input) - (0.1 + 1e-9)) <= 1e-9 + 1e-17
        instances = RobustImages(images, (0, 1, 2, 3), LinfBall(1e-9), dtype=double.input_dtype)
        checked = list(recheck(ledger, summary.info.run, double.replay, instances, torch.float64))
        assert [one.holds for one in checked] == [True] * 4


@pytest.mark.parametrize("stage", ["attack", "branch-and-bound"])
def test_each_search_finds_points_between_float32_numbers(stage: Any, double: Network) -> None:
    images = ImageSet(
        "one", "test", torch.tensor([[0.1 + 1e-9]], dtype=torch.float64), torch.tensor([1]), 2
    )
    settings = CertifySettings(epsilon=0.6e-9, stages=("clean", stage))
    (record,) = certify_set(double, images, settings).records
    assert record.status is Status.FALSIFIED


def test_bytes_are_divided_in_the_networks_type() -> None:
    images = ImageSet(
        "bytes", "test", torch.arange(256, dtype=torch.uint8)[:, None], torch.zeros(256).long(), 2
    )
    assert torch.equal(images.pixels(dtype=torch.float64)[:, 0], torch.arange(256).double() / 255)
    assert torch.equal(images.pixels(), images.pixels(dtype=torch.float64).float())


def test_points_of_boxes_are_rounded_for_the_network(tmp_path: Path, double: Network) -> None:
    for name, value in (("lower", 0.1 - WIDTH), ("upper", 0.1 + WIDTH), ("point", 0.1)):
        np.save(tmp_path / f"{name}.npy", np.array([[value]]))
    np.save(tmp_path / "labels.npy", np.array([1]))
    names = ("lower", "upper", "labels", "point")
    lower, upper, labels, point = (tmp_path / f"{name}.npy" for name in names)
    boxes = boxes_from_arrays(lower, upper, labels, point, "boxes")
    assert isinstance(boxes, BoxSet)
    (record,) = certify_set(double, boxes, CertifySettings(epsilon=0.0)).records
    assert record.status is Status.VERIFIED
    single = steep(TensorProto.FLOAT)
    with pytest.raises(DataError, match="a point inside each box"):
        certify_set(single, boxes, CertifySettings(epsilon=0.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 4), (1, 5, 5)])
def test_counterexamples_are_kept_to_the_last_digit(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    point: Tensor = torch.rand(shape, dtype=torch.float64).to(dtype)
    one = Counterexample(point, torch.rand(2, dtype=torch.float64), -0.5)
    again = unpack(pack(one))
    assert again.input.dtype == dtype
    assert torch.equal(again.input, one.input)
    assert torch.equal(again.output, one.output)
    with pytest.raises(ValueError, match="float16"):
        pack(Counterexample(point.half(), one.output, -0.5))

"""Graph and file are compared in the boxes that are certified, not only at random inputs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.onnx_networks import dense_network
from verify_pipeline.certify import CertifySettings, certify_set
from verify_pipeline.certify.boxes import exact_box, sample_points, spread
from verify_pipeline.data import BoxSet
from verify_pipeline.errors import NetworkError
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.vnnlib import parse_vnnlib
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Linear
from verify_pipeline.onnx import Network, check, export_onnx, load_network
from verify_pipeline.onnx.parity import check_at, relative_difference

FAR = 7.0
"""A place where neither uniform nor normal inputs of a few samples lie."""


@pytest.fixture(scope="module")
def network() -> Network:
    return dense_network(0, 2, 8, 3, activation=nn.Tanh())


def misread_beyond(network: Network, limit: float) -> Network:
    """One whose file answers otherwise where the first input is beyond a limit."""

    def replay(x: Tensor) -> Tensor:
        outputs = network.replay(x)
        outputs[x[:, 0] > limit, 1] += 0.01
        return outputs

    wrong: Any = replay
    return replace(network, replay=wrong)


def boxes() -> BoxSet:
    low = torch.full((9, 2), FAR - 0.1, dtype=torch.float64)
    return BoxSet("far", "boxes", low, low + 0.2, torch.zeros(9, dtype=torch.int64))


def test_a_fault_inside_the_boxes_is_seen(network: Network) -> None:
    wrong = misread_beyond(network, 5.0)
    assert check(wrong, "net") < 1e-5
    settings = CertifySettings(epsilon=0.0, stages=("clean", "ibp"))
    with pytest.raises(NetworkError, match=r"difference of .* at inputs that are asked about"):
        certify_set(wrong, boxes(), settings)
    # of one corner of the box alone
    with pytest.raises(NetworkError, match="inputs that are asked about"):
        certify_set(misread_beyond(network, FAR + 0.099), boxes(), settings)
    assert len(certify_set(network, boxes(), settings).records) == 9
    assert len(certify_set(replace(wrong, compared=False), boxes(), settings).records) == 9


def test_a_fault_inside_a_property_is_seen(network: Network) -> None:
    names = ("X_0", "X_1", "Y_0", "Y_1", "Y_2")
    text = "".join(f"(declare-const {name} Real)" for name in names)
    text += "".join(f"(assert (>= X_{i} 6.9)) (assert (<= X_{i} 7.1))" for i in range(2))
    prop = parse_vnnlib(text + "(assert (<= Y_0 -100))")
    wrong = misread_beyond(network, 5.0)
    with pytest.raises(NetworkError, match="inputs that are asked about"):
        decide(wrong, [prop], property_plan(1.0))
    decide(network, [prop], property_plan(1.0))
    decide(replace(wrong, compared=False), [prop], property_plan(1.0))


def test_a_network_that_is_not_to_be_compared_says_so(tmp_path: Path) -> None:
    export_onnx(nn.Sequential(nn.Linear(2, 3)), tmp_path / "net.onnx", (2,), {})
    assert load_network(tmp_path / "net.onnx").compared
    assert not load_network(tmp_path / "net.onnx", check_parity=False).compared


def test_a_masked_output_does_not_hide_the_others() -> None:
    """A class at -1e9, another that is off by 0.01 of its range: 1e-11 of the greatest."""
    expected = torch.tensor([[0.0, -1e9], [1.0, -1e9]])
    found = expected + torch.tensor([[0.01, 64.0], [0.0, 0.0]])
    rounding = torch.tensor([1e-7, 64.0])
    assert relative_difference(found, expected, rounding) > 1e-3
    found[0, 0] = 0.0
    assert relative_difference(found, expected, rounding) < 1e-4


def test_an_output_that_cancels_has_the_rounding_of_its_terms() -> None:
    """Of ``1e4 x + 1 - 1e4 x`` float32 keeps few digits, and onnxruntime others than we."""
    expected = torch.tensor([[1.0], [1.0], [1.0]])
    found = expected + 5e-4
    assert relative_difference(found, expected, torch.tensor([3e-4])) < 1e-4
    assert relative_difference(found, expected, torch.tensor([0.0])) > 1e-4


def test_a_constant_beside_an_output_does_not_hide_its_errors() -> None:
    expected = torch.tensor([[20.0], [20.01]])
    found = expected + torch.tensor([[0.001], [0.0]])
    assert relative_difference(found, expected, torch.zeros(1)) > 1e-4


def test_nothing_to_compare_is_no_fault(network: Network) -> None:
    """Where float32 overflows the file has no numbers, and bounds none either."""
    builder = GraphBuilder((2,), dtype=torch.float64)
    huge = builder.build(builder.add(Linear(torch.full((2, 2), 3e38, dtype=torch.float64)), 0))
    points = torch.full((2, 2), FAR)
    assert check_at(huge, huge.to(torch.float32), points, "huge") == 0.0

    def nan(x: Tensor) -> Tensor:
        return network.replay(x) * torch.nan

    with pytest.raises(NetworkError, match="difference of nan"):
        check_at(network.graph, nan, points, "net")


def test_samples_lie_in_their_boxes_and_reach_the_corners() -> None:
    box = exact_box(torch.rand(3, 2, 4), 0.1)
    for dtype in (torch.float32, torch.float64):
        points = sample_points(box, dtype)
        assert points.dtype == dtype
        assert torch.equal(points, sample_points(box, dtype))
        for n, point in enumerate(points.double()):
            one = slice(n % 3, n % 3 + 1)
            assert bool(box[one].contains(point.unsqueeze(0)))
        assert len(points.unique(dim=0)) == 8 * 3


def test_few_of_many_are_spread_over_all() -> None:
    assert spread(range(3), 4) == [0, 1, 2]
    assert spread(range(100), 4) == [0, 33, 66, 99]

"""Graph and file are compared in the boxes that are certified, not only at random inputs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.half_files import converted
from tests.onnx_networks import dense_network
from verify_pipeline.certify import CertifySettings, certify_set
from verify_pipeline.certify.boxes import exact_box, sample_points, spread
from verify_pipeline.certify.file_checks import compare_with_file, evaluated_in
from verify_pipeline.data import BoxSet
from verify_pipeline.errors import NetworkError
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.vnnlib import parse_vnnlib
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Linear
from verify_pipeline.onnx import Network, check, export_onnx, load_network
from verify_pipeline.onnx.network import network_from_bytes
from verify_pipeline.onnx.parity import check_at, relative_difference
from verify_pipeline.problem import Box

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


# --- files in half precision ------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A network of three layers, as a float32 file."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 9), nn.ReLU())
    path = tmp_path_factory.mktemp("deep") / "net.onnx"
    export_onnx(nn.Sequential(*layers, nn.Linear(9, 3)).eval(), path, (40,), {})
    return path.read_bytes()


def half_boxes() -> Box:
    middle = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)).double()
    return Box(middle - 0.1, middle + 0.1)


def off_by(network: Network, share: float) -> Network:
    """One whose file's outputs are greater, by a share of the greatest one."""

    def replay(x: Tensor) -> Tensor:
        outputs = network.replay(x)
        return outputs + share * outputs.abs().max()

    wrong: Any = replay
    return replace(network, replay=wrong)


def test_a_fault_of_one_percent_is_seen_in_float16(deep: bytes) -> None:
    """The errors of mixed precision bound what onnxruntime's float16 may differ by."""
    network = network_from_bytes(converted(deep, "float16"))
    assert network.replay.runner == "onnxruntime"
    compare_with_file(network, half_boxes())
    wrong = off_by(network, 0.007)
    assert check(wrong, "net") <= 1e-4  # 16 roundings
    with pytest.raises(NetworkError, match=r"onnxruntime within the errors of mixed-float16; got"):
        compare_with_file(wrong, half_boxes())
    compare_with_file(replace(wrong, compared=False), half_boxes())


def test_outputs_that_are_not_finite_are_seen_in_float16(deep: bytes) -> None:
    network = network_from_bytes(converted(deep, "float16"))
    graph = network.graph

    def replay(x: Tensor) -> Tensor:
        return torch.where(x[:, :1] > 0.5, torch.inf, network.replay(x))

    wrong: Any = replay
    with pytest.raises(NetworkError):
        compare_with_file(replace(network, replay=wrong, graph=graph), half_boxes())


@pytest.mark.parametrize("machine", ["x86_64", "arm64"])
def test_which_arithmetic_a_file_is_run_in(
    deep: bytes, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    names = []
    for half in ("float16", "bfloat16"):
        network = network_from_bytes(converted(deep, half), check_parity=False)
        found = evaluated_in(network)
        assert found is not None
        names.append(found.name)
        compare_with_file(network, half_boxes())
    # bfloat16 is run by ONNX's reference evaluator
    assert names == ["mixed-float16" if machine == "x86_64" else "float16", "bfloat16"]
    assert evaluated_in(network_from_bytes(deep)) is None


def test_messages_name_what_ran_the_file(deep: bytes) -> None:
    network = network_from_bytes(converted(deep, "bfloat16"))
    builder = GraphBuilder((40,), dtype=torch.float64)
    weight = torch.ones(3, 40, dtype=torch.float64)
    wrong = replace(network, graph=builder.build(builder.add(Linear(weight), 0)))
    with pytest.raises(NetworkError, match="computes what ONNX's reference evaluator does"):
        check(wrong, "net")
    with pytest.raises(NetworkError, match="computes what ONNX's reference evaluator does"):
        compare_with_file(wrong, half_boxes())

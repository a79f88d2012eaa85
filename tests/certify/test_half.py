"""Verdicts on files in half precision: about real numbers, and about every evaluation in the type.

A counterexample is an input that the file itself takes: a float16 or bfloat16 number in the box.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from tests.half_files import HALVES, converted, numbers
from tests.onnx_networks import Array, layers_file, node, onnx_file
from verify_pipeline import data
from verify_pipeline.certify import CertifySettings, Ledger, certify_set, recheck
from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.certify.instances import BoxInstances, RobustImages
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.preprocessing import AS_IT_IS, prepare
from verify_pipeline.certify.settings import ArithmeticName, StageName
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import BoxSet
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.onnx import Network, network_from_bytes
from verify_pipeline.problem import Box, Reason, Status
from verify_pipeline.rounding import nearest

NAMES = pytest.mark.parametrize("name", HALVES)
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16}
ARITHMETIC: dict[str, ArithmeticName] = {"float16": "float16", "bfloat16": "bfloat16"}
STEP = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Between numbers from 1/2 to 1."""
MODEL = Path(__file__).resolve().parents[2] / "models" / "mnist-0.1-conv-small-ibp.onnx"
SETTINGS = CertifySettings(epsilon=0.0, timeout=10.0)


def of_rows(name: str, weight: list[list[float]], bias: list[float]) -> Network:
    """``y = W x + b`` in a half precision, ``W`` of K rows."""
    held = {"w": numbers(name, weight), "b": numbers(name, bias)}
    nodes = [node("Gemm", "x", "w", "b", "y", transB=1)]
    file = onnx_file(nodes, ("n", len(weight[0])), held, input_type=HALVES[name])
    return network_from_bytes(file)


def boxes(lower: list[list[float]], upper: list[list[float]]) -> BoxSet:
    """Boxes of class 0."""
    low, high = (torch.tensor(ends, dtype=torch.float64) for ends in (lower, upper))
    return BoxSet("box", "boxes", low, high, torch.zeros(len(low), dtype=torch.int64))


def status(summary: Summary) -> list[Status]:
    return [record.status for record in summary.records]


@NAMES
def test_counterexamples_are_numbers_of_the_type_in_the_box(name: str, tmp_path: Path) -> None:
    """``y_0 - y_1 = x_0 - 3/4``: limits are no numbers of the type, and one box is too low."""
    network = of_rows(name, [[1, 0], [0, 0]], [0, 0.75])
    step = STEP[name]
    some = boxes([[0.75 - 2.3 * step, 0.1], [0.76, 0.1]], [[0.9, 0.9], [0.9, 0.9]])
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        summary = certify_set(network, some, SETTINGS, ledger)
        assert status(summary) == [Status.FALSIFIED, Status.VERIFIED]
        found = ledger.counterexample(summary.info.run, summary.records[0])
        point = found.input.double()
        assert point.dtype == torch.float64
        assert found.input.dtype == torch.float32
        assert torch.equal(nearest(point, TORCH[name]), point)
        assert bool(Box(some.lower, some.upper)[:1].contains(point[None]))
        assert float(point[0]) <= 0.75
        prepared, _ = prepare(network, AS_IT_IS, (2,))
        instances = BoxInstances(some, range(2), MARGINS, prepared)
        run = summary.info.run
        (again,) = recheck(ledger, run, network.replay, instances, network.input_dtype)
        assert again.holds
        # as a float32 number it would be another input
        (other,) = recheck(ledger, run, network.replay, instances, TORCH["bfloat16"])
        assert other.holds == (nearest(point, torch.bfloat16) == point).all()


@NAMES
def test_what_only_other_numbers_break_is_neither(name: str) -> None:
    """``y_0 - y_1`` is the distance from 3/4 and from the next number, less a step: at most 0
    between the two. A box without any number of the type is refused as one of its own.
    """
    step = STEP[name]
    nodes = [
        node("Gemm", "x", "w", "b", "z", transB=1),
        node("Relu", "z", "r"),
        node("Gemm", "r", "v", "d", "y", transB=1),
    ]
    weights = {
        "w": numbers(name, [[1], [-1], [1]]),
        "b": numbers(name, [-0.75 - step, 0.75, 0]),
        # relu(x - 3/4 - step) + relu(3/4 - x), and a second input that does nothing
        "v": numbers(name, [[1, 1, 0], [0, 0, 0]]),
        "d": numbers(name, [0, 0]),
    }
    network = network_from_bytes(onnx_file(nodes, ("n", 1), weights, input_type=HALVES[name]))
    with pytest.raises(DataError, match=f"a {name} number between the limits"):
        certify_set(network, boxes([[0.75 + step / 4]], [[0.75 + step / 2]]), SETTINGS)
    (verdict,) = status(certify_set(network, boxes([[0.75 - step]], [[0.75]]), SETTINGS))
    assert verdict is Status.FALSIFIED  # a tie at 3/4 itself


@NAMES
def test_a_real_number_that_breaks_is_no_counterexample(name: str) -> None:
    """``y_0 - y_1 = x_0 + x_1 - c``: the only number in the box is right, its lower corner ties."""
    step = STEP[name]
    network = of_rows(name, [[1, 1], [0, 0]], [0, 1.25])
    lower = [0.75 - step / 4, 0.5 + step / 4]
    some = boxes([lower], [[0.75 + step / 4, 0.5 + 1.5 * step]])
    points = _numbers_in(some, name)
    assert points.tolist() == [[0.75, 0.5 + step]]
    outputs = network.replay(points)
    found = certify_set(network, some, SETTINGS)
    if bool((outputs[:, 0] > outputs[:, 1]).all()):
        assert status(found) == [Status.UNKNOWN]
    else:  # the type's own rounding makes a tie of it
        assert status(found) == [Status.FALSIFIED]


@NAMES
def test_planted_ties_are_never_verified(name: str) -> None:
    """The least margin is exactly zero, at a corner that mostly is no number of the type."""
    rng, brief = np.random.default_rng(0), replace(SETTINGS, timeout=0.5)
    step, seen = STEP[name], []
    for _ in range(8):
        # y_0 - y_1 = a x_0 + c x_1 - d, zero at the lower corner
        a, c = (float(v) for v in numbers(name, 2.0 ** rng.integers(-3, 3, 2)))
        d = float(numbers(name, rng.uniform(0.6, 0.9) * a + 0.5 * c))
        second = 0.5 + step * float(rng.integers(0, 8)) / 4
        first = (d - c * second) / a  # exact: powers of two and few digits
        assert a * first + c * second == d
        network = of_rows(name, [[a, c], [0, 0]], [0, d])
        near = boxes([[first, second]], [[first + 0.01, second + 0.01]])
        (verdict,) = status(certify_set(network, near, brief))
        seen.append(verdict)
        above = boxes([[first + 2.0**-30, second]], [[first + 0.01, second + 0.01]])
        points = _numbers_in(above, name)
        margins = network.replay(points)[:, 0] - network.replay(points)[:, 1]
        (real,) = status(certify_set(network, above, brief))
        # its least margin is a 2^-30 > 0: true of real numbers; but the file may tie there
        assert real is Status.VERIFIED or bool((margins <= 0).any())
    assert Status.VERIFIED not in seen


def _numbers_in(some: BoxSet, name: str) -> Tensor:
    """All numbers of the type in a box of two inputs."""
    inner = inner_box(Box(some.lower, some.upper), TORCH[name])
    axes = []
    for low, high in zip(inner.lower[0], inner.upper[0], strict=True):
        axes.append([float(low)])
        while axes[-1][-1] < float(high):
            last = torch.tensor(axes[-1][-1], dtype=TORCH[name])
            axes[-1].append(float(torch.nextafter(last, torch.full_like(last, torch.inf))))
    return torch.tensor(list(itertools.product(*axes)))


@NAMES
def test_verified_as_deployed_holds_for_the_file(name: str) -> None:
    """``y_0 - y_1 = 64 (x_0 - x_1) + b``, with outputs of 48, whose step in bfloat16 is 1/4."""
    narrow = replace(SETTINGS, arithmetic=ARITHMETIC[name])
    small = boxes([[0.75, 0.75]], [[0.75 + 1e-4, 0.75 + 1e-4]])
    little = {"float16": 0.03, "bfloat16": 0.3}[name]
    for bias, deployed in ((little, Status.UNKNOWN), (8, Status.VERIFIED)):
        network = of_rows(name, [[64, 0], [0, 64]], [bias, 0])
        assert status(certify_set(network, small, SETTINGS)) == [Status.VERIFIED]
        found = certify_set(network, small, narrow)
        assert status(found) == [deployed]
        if deployed is Status.UNKNOWN:
            assert [record.reason for record in found.records] == [Reason.ROUNDING]
    # points of the box are rounded on their way in, perhaps out of it
    outputs = network.replay(_numbers_in(boxes([[0.74, 0.74]], [[0.76, 0.76]]), name))
    assert bool((outputs[:, 0] > outputs[:, 1]).all())


@NAMES
def test_an_arithmetic_that_the_file_is_not_evaluated_in_is_refused(name: str) -> None:
    network = of_rows(name, [[1, 0], [0, 1]], [1, 0])
    some = boxes([[0.5, 0.0]], [[0.6, 0.1]])
    others: list[ArithmeticName] = ["float32", "bfloat16" if name == "float16" else "float16"]
    for other in others:
        with pytest.raises(
            ConfigError, match=f"expected {name} or mixed-{name}; got {other}.*computes in {name}"
        ):
            certify_set(network, some, replace(SETTINGS, arithmetic=other))


@NAMES
def test_a_file_behind_casts_is_of_float32_numbers(name: str) -> None:
    """Its input is rounded as an operation of its own: 3/4 + step/4 is 3/4, a tie.

    Onnxruntime leaves the rounding out, since its product is one of float32 numbers. The bounds
    cover both.
    """
    step = STEP[name]
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=HALVES[name]),
        node("Gemm", "h", "w", "b", "z", transB=1),
        helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT),
    ]
    weights: dict[str, Array] = {
        "w": numbers(name, [[1], [0]]),
        "b": numbers(name, [0, 0.75]),
    }
    network = network_from_bytes(onnx_file(nodes, ("n", 1), weights))
    assert network.input_dtype == torch.float32
    tie = boxes([[0.75 + step / 4]], [[0.76]])
    (verdict,) = status(certify_set(network, tie, replace(SETTINGS, timeout=2.0)))
    assert verdict is (Status.UNKNOWN if name == "float16" else Status.FALSIFIED)
    below = boxes([[0.75 - step / 8]], [[0.76]])  # rounded, it is 3/4 at least
    (verdict,) = status(certify_set(network, below, replace(SETTINGS, timeout=2.0)))
    assert verdict is Status.FALSIFIED
    clear = boxes([[0.75 + 3 * step]], [[0.80]])
    assert status(certify_set(network, clear, SETTINGS)) == [Status.VERIFIED]
    with pytest.raises(ConfigError, match=f"expected {name}"):
        certify_set(network, clear, replace(SETTINGS, arithmetic="float32"))
    far = boxes([[0.85]], [[0.9]])
    found = certify_set(network, far, replace(SETTINGS, arithmetic=ARITHMETIC[name]))
    assert status(found) == [Status.VERIFIED]


@NAMES
def test_splits_and_searches_replay_numbers_of_the_type(name: str, tmp_path: Path) -> None:
    """Many boxes around a decision boundary of a ReLU network, every counterexample checked."""
    rng = np.random.default_rng(1)
    single = layers_file(
        ("n", 2),
        (rng.standard_normal((12, 2)).tolist(), (rng.standard_normal(12) / 4).tolist()),
        "Relu",
        (rng.standard_normal((2, 12)).tolist(), [1.2, 0.0]),
    )
    network = network_from_bytes(converted(single, name))
    centers = torch.rand(24, 2, generator=torch.Generator().manual_seed(0)).double()
    some = BoxSet(
        "box",
        "boxes",
        centers - 0.06,
        centers + 0.06,
        network.graph(centers).argmax(1),
    )
    chosen: list[tuple[StageName, ...]] = [
        ("clean", "attack"),
        ("clean", "branch-and-bound"),
        SETTINGS.stages,
    ]
    for place, stages in enumerate(chosen):
        settings = replace(SETTINGS, stages=stages)
        with Ledger.open(tmp_path / f"{place}.sqlite") as ledger:
            summary = certify_set(network, some, settings, ledger)
            broken = [r for r in summary.records if r.status is Status.FALSIFIED]
            assert broken
            for record in broken:
                point = ledger.counterexample(summary.info.run, record).input.double()
                one = slice(record.index, record.index + 1)
                assert torch.equal(nearest(point, TORCH[name]), point)
                assert bool(Box(some.lower, some.upper)[one].contains(point[None]))


@NAMES
def test_real_images_in_half_precision(name: str, shared_data: Path, tmp_path: Path) -> None:
    """A model of MNIST in half precision; its images' pixels are no numbers of the type."""
    network = network_from_bytes(converted(MODEL.read_bytes(), name))
    images = data.load("mnist", "test", root=shared_data)
    settings = replace(SETTINGS, epsilon=0.15, indices="0:20", stages=("clean", "ibp", "attack"))
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        summary = certify_set(network, images, settings, ledger)
        rule = LinfBall(0.15)
        instances = RobustImages(images, range(20), rule, dtype=network.input_dtype)
        checked = list(
            recheck(ledger, summary.info.run, network.replay, instances, network.input_dtype)
        )
    verdicts = status(summary)
    assert verdicts.count(Status.VERIFIED) >= 10
    assert 1 <= verdicts.count(Status.FALSIFIED) == len(checked)
    assert all(one.holds for one in checked)

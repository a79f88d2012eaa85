"""VERIFIED as deployed: no evaluation of the file in the arithmetic has the wrong class."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from tests.computed_graph import ways
from tests.onnx_networks import node, onnx_file, singles
from verify_pipeline.bounds.forward_error import computed_values
from verify_pipeline.certify import CertifySettings, Ledger, certify_set
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.settings import ArithmeticName, StageName, plan
from verify_pipeline.certify.specifications import LinearRows
from verify_pipeline.certify.tally import Summary, summaries
from verify_pipeline.data import BoxSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.network.arithmetic import ARITHMETICS, FLOAT32
from verify_pipeline.onnx import Network, network_from_module
from verify_pipeline.onnx.network import network_from_bytes
from verify_pipeline.problem import Box, Reason, Status
from verify_pipeline.reporting import result_table
from verify_pipeline.reporting.tables import verdict_table

REAL = CertifySettings(epsilon=0.0, timeout=20.0)
SINGLE = replace(REAL, arithmetic="float32")
PROVING: tuple[StageName, ...] = ("clean", "ibp", "crown", "alpha-crown")


def box_set(lower: Tensor, upper: Tensor, image: Tensor | None = None) -> BoxSet:
    """One box of class 0; without an image, its lower corner is the image."""
    low, high = lower.double()[None], upper.double()[None]
    point = lower if image is None else image
    return BoxSet("box", "boxes", low, high, torch.tensor([0]), point.float()[None])


def decided(network: Network, boxes: BoxSet, settings: CertifySettings) -> Summary:
    return certify_set(network, boxes, settings)


def of_weights(
    *layers: tuple[list[list[float]], list[float]], end: nn.Module | None = None
) -> Network:
    """Linear layers with ReLUs between them."""
    modules: list[nn.Module] = []
    for weight, bias in layers:
        layer = nn.Linear(len(weight[0]), len(weight))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
        modules += [layer, nn.ReLU()]
    modules[-1:] = [] if end is None else [end]
    return network_from_module(nn.Sequential(*modules), (len(layers[0][0][0]),))


def test_a_network_that_cancels_is_verified_for_real_numbers_only() -> None:
    """``(1e8 + x) - 1e8`` is x, and 0 in float32 for x below 4."""
    network = of_weights(
        ([[1.0, 0.0], [0.0, 1.0]], [1e8, 0.0]), ([[1.0, 0.0], [0.0, 0.0]], [-1e8, 0.0])
    )
    boxes = box_set(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]))
    # parity is compared in the boxes: the file itself returns ties
    network = replace(network, compared=False)
    (real,) = decided(network, boxes, replace(REAL, stages=("clean", "ibp"))).records
    assert real.status is Status.FALSIFIED  # the file ties at the image itself
    lower = torch.tensor([5.0, 0.0])
    boxes = box_set(lower, lower + 1)
    (real,) = decided(network, boxes, REAL).records
    (single,) = decided(network, boxes, SINGLE).records
    assert real.status is Status.VERIFIED
    assert (single.status, single.reason) == (Status.UNKNOWN, Reason.ROUNDING)
    lower = torch.tensor([500.0, 0.0])
    (single,) = decided(network, box_set(lower, lower + 1), SINGLE).records
    assert single.status is Status.VERIFIED
    assert single.bound is not None
    assert single.bound < 500


@pytest.mark.parametrize("stages", [("clean", "ibp"), ("clean", "crown"), REAL.stages])
def test_every_stage_proves_the_harder_specification(stages: tuple[StageName, ...]) -> None:
    """The least margin is 1e-7: below what rounding changes."""
    network = of_weights(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0], [0.0, 0.0]], [1e-7, 0.0]))
    boxes = box_set(torch.tensor([-1.0]), torch.tensor([1.0]))
    network = replace(network, compared=False)
    (real,) = decided(network, boxes, replace(REAL, stages=stages)).records
    short = replace(SINGLE, stages=stages, timeout=4.0)
    (single,) = decided(network, boxes, short).records
    if stages == REAL.stages or real.status is Status.VERIFIED:
        assert real.status is Status.VERIFIED
        assert single.reason is Reason.ROUNDING
    assert single.status is Status.UNKNOWN


@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Tanh()])
@pytest.mark.parametrize(("upper", "verified"), [(0.05, True), (1.0, False)])
def test_saturating_ends_are_part_of_the_proof(
    end: nn.Module, upper: float, verified: bool
) -> None:
    """``end(60 x)`` and ``end(50 x)`` are both 1 in float32 where x is 1."""
    network = of_weights(([[60.0], [50.0]], [0.0, 0.0]), end=end)
    boxes = box_set(torch.tensor([0.01]), torch.tensor([upper]))
    (single,) = decided(network, boxes, SINGLE).records
    assert (single.status is Status.VERIFIED) == verified
    assert single.status is not Status.FALSIFIED or not verified


@pytest.mark.parametrize(("margin", "verified"), [(1e-6, False), (1e-3, True)])
def test_scores_of_a_softmax_have_to_differ_noticeably(margin: float, verified: bool) -> None:
    network = of_weights(([[1.0], [1.0]], [margin, 0.0]), end=nn.Softmax(1))
    boxes = box_set(torch.tensor([0.25]), torch.tensor([0.5]))
    (real,) = decided(network, boxes, REAL).records
    (single,) = decided(network, boxes, SINGLE).records
    assert real.status is Status.VERIFIED
    assert (single.status is Status.VERIFIED) == verified
    if verified:
        assert "before the network's end" in single.detail


def test_other_rows_are_proved_of_the_softmax_itself() -> None:
    """That one share exceeds another by 0.1 says nothing of the scores."""
    network = of_weights(([[1.0], [-1.0]], [0.0, 0.0]), end=nn.Softmax(1))
    boxes = box_set(torch.tensor([1.0]), torch.tensor([2.0]))
    rows = LinearRows(torch.tensor([[1.0, -1.0]]), torch.tensor([-0.1]))
    question = Question(specification=rows)
    (found,) = certify_set(network, boxes, SINGLE, question=question).records
    assert found.status is Status.VERIFIED


def test_what_is_not_analysed_is_never_verified() -> None:
    torch.manual_seed(0)
    last = nn.Linear(4, 2)
    module = nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(1, 4), last)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([9.0, 0.0]))
    network = network_from_module(module, (4,))
    x = torch.randn(4)
    for settings, status in ((REAL, Status.VERIFIED), (SINGLE, Status.UNKNOWN)):
        (record,) = decided(network, box_set(x, x + 1e-3), settings).records
        assert record.status is status
    assert record.reason is Reason.NOT_ANALYSED
    assert "InstanceNormalization" in record.detail


def test_weights_of_another_type_are_not_analysed() -> None:
    network = of_weights(([[0.1], [-0.1]], [0.0, 0.0]))
    boxes = box_set(torch.tensor([1.0]), torch.tensor([1.0]))
    (record,) = decided(network, boxes, replace(REAL, arithmetic="bfloat16")).records
    assert record.reason is Reason.NOT_ANALYSED
    assert "no bfloat16 number" in record.detail
    (record,) = decided(network, boxes, replace(REAL, arithmetic="mixed-bfloat16")).records
    assert record.status is Status.VERIFIED  # 0.1 is rounded first
    network = of_weights(([[0.125], [-0.125]], [0.0, 0.0]))
    (record,) = decided(network, boxes, replace(REAL, arithmetic="bfloat16")).records
    assert record.status is Status.VERIFIED


def test_an_overflow_of_float16_is_not_verified() -> None:
    network = of_weights(([[256.0], [-256.0]], [0.0, 0.0]))
    for value, verified in ((200.0, True), (300.0, False)):
        x = torch.tensor([value])
        (record,) = decided(network, box_set(x, x), replace(REAL, arithmetic="float16")).records
        assert (record.status is Status.VERIFIED) == verified
    assert record.reason is Reason.NOT_ANALYSED
    assert "overflow" in record.detail


@pytest.mark.parametrize(("value", "verified"), [(0.5, False), (20.0, True)])
def test_a_network_that_cancels_in_mixed_precision(value: float, verified: bool) -> None:
    """``(256 + x) - 256``, whose first sum is stored: bfloat16 has 256 and 258."""
    network = of_weights(
        ([[1.0, 0.0], [0.0, 1.0]], [256.0, 0.0]), ([[1.0, 0.0], [0.0, 0.0]], [-256.0, 0.0])
    )
    lower = torch.tensor([value, 0.0])
    boxes = box_set(lower, lower + torch.tensor([0.0625, 0.0]))
    (real,) = decided(network, boxes, REAL).records
    mixed = replace(REAL, arithmetic="mixed-bfloat16", timeout=5.0)
    (record,) = decided(network, boxes, mixed).records
    assert real.status is Status.VERIFIED
    assert (record.status is Status.VERIFIED) == verified
    if not verified:
        assert record.reason is Reason.ROUNDING


def test_long_sums_are_verified_in_mixed_precision_only() -> None:
    network = of_weights(([[1.0] * 400, [-1.0] * 400], [0.0, 0.0]))
    boxes = box_set(torch.full((400,), 0.5), torch.full((400,), 0.75))
    for name, status in (("bfloat16", Status.UNKNOWN), ("mixed-bfloat16", Status.VERIFIED)):
        asked = replace(REAL, arithmetic=cast("ArithmeticName", name))
        (record,) = decided(network, boxes, asked).records
        assert record.status is status


def test_an_infinite_margin_is_not_verified_in_mixed_precision() -> None:
    """200 * 400 is infinite as float16, kept wider it is the greater score."""
    network = of_weights(([[200.0], [-200.0]], [0.0, 0.0]))
    for value, verified in ((300.0, True), (400.0, False)):
        x = torch.tensor([value])
        asked = replace(REAL, arithmetic="mixed-float16")
        (record,) = decided(network, box_set(x, x), asked).records
        assert (record.status is Status.VERIFIED) == verified
    assert record.reason is Reason.NOT_ANALYSED
    assert "overflow mixed-float16" in record.detail


def test_constants_that_runtimes_may_sum_in_other_orders_are_not_analysed() -> None:
    weights = singles(w=np.ones((2, 3)), v=np.ones((3, 2)))
    nodes = [node("MatMul", "w", "v", "c"), node("MatMul", "x", "c", "y")]
    network = network_from_bytes(onnx_file(nodes, ("n", 2), weights))
    assert network.written is not None
    assert "MatMul" in network.written.foreign
    nodes[0] = node("Transpose", "w", "c")
    network = network_from_bytes(onnx_file(nodes, ("n", 3), {"w": weights["w"]}))
    assert network.written is not None
    assert network.written.foreign == ""


def test_falsified_keeps_its_meaning() -> None:
    network = of_weights(([[1.0], [0.0]], [0.0, 0.0]))
    boxes = box_set(torch.tensor([1.0]), torch.tensor([1.0]))
    boxes = replace(boxes, lower=torch.tensor([[-1.0]], dtype=torch.float64))
    (record,) = decided(network, boxes, SINGLE).records
    assert record.status is Status.FALSIFIED


# --- the battery: no evaluation of a verified instance is wrong --------------------------------


def classifiers(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A small network of one of several kinds, its weights from 1e-3 to 1e3."""
    torch.manual_seed(seed)
    kinds: list[tuple[nn.Module, tuple[int, ...]]] = [
        (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), (6,)),
        (
            nn.Sequential(
                nn.Conv2d(1, 3, 3, padding=1),
                nn.BatchNorm2d(3),
                nn.ReLU(),
                nn.AvgPool2d(2),
                nn.Flatten(),
                nn.Linear(12, 3),
            ),
            (1, 4, 4),
        ),
        (nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3)), (6,)),
        (nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3), nn.Tanh()), (6,)),
        (nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(), nn.Linear(8, 3), nn.Softmax(1)), (6,)),
    ]
    module, shape = kinds[seed % len(kinds)]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(10 ** float(torch.randint(-1, 2, ())))
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.get_buffer("running_mean").normal_(0, 30)
                layer.get_buffer("running_var").uniform_(0.1, 2)
    return module.eval(), shape


def close_race(seed: int, gap: float) -> tuple[nn.Module, Network, Tensor]:
    """A classifier whose class 0 leads the others at an image by about a gap."""
    module, shape = classifiers(seed)
    image = torch.rand(shape)
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    scores: list[Tensor] = []
    hook = last.register_forward_hook(lambda _, __, output: scores.append(output.detach()))
    with torch.no_grad():
        module(image[None])
        hook.remove()
        last.bias.add_(scores[0].mean() - scores[0][0])
        last.bias[0] += gap
    return module, network_from_module(module, shape), image


def runs_of_file(network: Network, module: nn.Module, points: Tensor) -> Iterator[Tensor]:
    """Outputs ``N x K`` in float32: onnxruntime and torch in several settings."""
    yield network.replay(points)
    yield module(points)
    yield torch.cat([module(point[None]) for point in points])
    if points.dim() == 4:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        yield module(points.to(memory_format=torch.channels_last))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield module(points)
    torch.set_num_threads(threads)


def attacked(network: Network, box: Box, count: int = 8) -> Tensor:
    """Points of a box in float32 at which the least margin of class 0 is small."""
    lower, upper = (side.float() for side in (box.lower, box.upper))
    graph = network.graph
    x = lower + torch.rand(count, *lower.shape[1:]) * (upper - lower)
    for _ in range(5):
        x = x.double().requires_grad_()
        scores = graph(x)
        margin = (scores[:, :1] - scores[:, 1:]).amin(1).sum()
        (gradient,) = torch.autograd.grad(margin, x)
        step = (upper - lower) / 3 * gradient.sign()
        x = (x.detach() - step).float().maximum(lower).minimum(upper)
    return torch.cat([x.detach().float(), lower, upper])


@pytest.mark.parametrize("seed", range(20))
def test_no_evaluation_of_a_verified_instance_is_wrong(seed: int) -> None:
    seen = set()
    for power in range(-8, 1):
        module, network, image = close_race(seed, 10.0**power)
        width = 10.0 ** (power - 2)
        boxes = box_set(image.double() - width, image.double() + width, image)
        (record,) = decided(network, boxes, replace(SINGLE, stages=PROVING)).records
        seen.add(record.status)
        if record.status is not Status.VERIFIED:
            continue
        points = attacked(network, Box(boxes.lower.double(), boxes.upper.double()))
        with torch.no_grad():
            for outputs in runs_of_file(network, module, points):
                assert bool((outputs[:, :1] > outputs[:, 1:]).all())
        assert network.written is not None
        for graph in (network.written.graph, network.graph.to(torch.float32).to(torch.float64)):
            for way in ways(FLOAT32, seed)[:3]:
                output = way.values(graph, points[0])[-1]
                assert bool((output[0] > output[1:]).all())
    # some are verified, some are not; a saturated tanh ties at every gap
    assert len(seen) > 1 or seen == {Status.FALSIFIED}


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 6])
def test_outputs_of_libraries_are_within_their_errors(seed: int) -> None:
    module, network, image = close_race(seed, 0.1)
    box = Box(image[None].double() - 0.05, image[None].double() + 0.05)
    assert network.written is not None
    *_, known = computed_values(network.written.graph, box, FLOAT32)
    points = attacked(network, box)
    exact = network.graph(points.double())
    with torch.no_grad():
        for outputs in runs_of_file(network, module, points):
            assert bool(((outputs.double() - exact).abs() <= known.error).all())


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_onnxruntime_with_and_without_optimisations(level: str) -> None:
    """A file with batch normalisation after a convolution, which onnxruntime merges."""
    generator = np.random.default_rng(0)
    weights = singles(
        w=generator.normal(size=(4, 2, 3, 3)),
        gamma=generator.normal(size=4),
        beta=generator.normal(size=4),
        mean=100 * generator.normal(size=4),
        variance=generator.uniform(0.1, 2, 4),
        v=generator.normal(size=(36, 3)),
    )
    nodes = [
        node("Conv", "x", "w", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "c", "gamma", "beta", "mean", "variance", "n"),
        node("Relu", "n", "r"),
        node("Flatten", "r", "f"),
        node("MatMul", "f", "v", "y"),
    ]
    data = onnx_file(nodes, ("n", 2, 5, 5), weights)
    network = network_from_bytes(data)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    image = torch.rand(1, 2, 5, 5)
    box = Box(image.double() - 0.1, image.double() + 0.1)
    points = attacked(network, box)
    outputs = torch.from_numpy(session.run(None, {"x": points.numpy()})[0]).double()
    assert network.written is not None
    *_, known = computed_values(network.written.graph, box, FLOAT32)
    exact = network.graph(points.double())
    assert bool(((outputs - exact).abs() <= known.error).all())


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("seed", range(4))
def test_narrow_types_on_torch(name: ArithmeticName, seed: int) -> None:
    """A module in float16 or bfloat16, and the file of its weights."""
    torch.manual_seed(seed)
    arithmetic = ARITHMETICS[name]
    last = nn.Linear(6, 3)
    with torch.no_grad():
        last.bias[0] += 2.0
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), last).to(arithmetic.dtype)
    copy = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    copy.load_state_dict(module.state_dict())
    network = network_from_module(copy, (4,))
    image = torch.rand(4).to(arithmetic.dtype).float()
    boxes = box_set(image, image + 0.01)
    settings = replace(REAL, arithmetic=name)
    (record,) = decided(network, boxes, settings).records
    assert network.written is not None
    box = Box(boxes.lower.double(), boxes.upper.double())
    *_, known = computed_values(network.written.graph, box, arithmetic)
    points = attacked(network, box)
    outputs = module(points.to(arithmetic.dtype)).double()
    exact = network.graph(points.double())
    assert bool(((outputs - exact).abs() <= known.error).all())
    if record.status is Status.VERIFIED:
        assert bool((outputs[:, :1] > outputs[:, 1:]).all())


# --- settings, ledger and tables ---------------------------------------------------------------


def test_the_arithmetic_is_part_of_the_key() -> None:
    half = replace(REAL, arithmetic="float16")
    digests = {plan(settings).digest for settings in (REAL, SINGLE, half)}
    assert len(digests) == 3
    assert "arithmetic" not in plan(REAL).tried


def test_another_tool_is_not_asked_about_an_arithmetic() -> None:
    with pytest.raises(ConfigError, match="abcrown"):
        plan(replace(SINGLE, stages=("clean", "abcrown")))


def test_one_row_shows_both_runs() -> None:
    network = of_weights(([[1.0], [1.0]], [1e-7, 0.0]))
    network = replace(network, compared=False)
    boxes = box_set(torch.tensor([0.25]), torch.tensor([0.5]))
    with Ledger.in_memory() as ledger:
        for settings in (REAL, SINGLE):
            certify_set(network, boxes, settings, ledger)
        both = summaries(ledger)
    assert [run.info.arithmetic for run in both] == ["", "float32"]
    frame = verdict_table(both)
    assert frame["verified"].tolist() == [100.0]
    assert frame["as_deployed"].tolist() == [0.0]
    table = result_table(both)
    assert len(table.rows) == 1
    assert "As deployed %" in [column.heading for column in table.columns]
    assert "as_deployed" not in verdict_table(both[:1])
    alone = verdict_table(both[1:])
    assert (alone["asked"].tolist(), alone["as_deployed"].tolist()) == (["as float32"], [0.0])


def test_runs_of_other_images_stay_rows_of_their_own() -> None:
    network = replace(of_weights(([[1.0], [1.0]], [1e-7, 0.0])), compared=False)
    low = torch.tensor([[0.25], [0.5]], dtype=torch.float64)
    boxes = BoxSet("box", "boxes", low, low + 0.1, torch.tensor([0, 0]), low.float())
    with Ledger.in_memory() as ledger:
        certify_set(network, boxes, REAL, ledger)
        certify_set(network, boxes, replace(SINGLE, indices="0:1"), ledger)
        assert len(verdict_table(summaries(ledger))) == 2


def test_constants_are_read_as_they_are() -> None:
    """A file's number that float32 holds and float16 does not."""
    value = numpy_helper.from_array(np.asarray([0.1], np.float32), "c")
    nodes = [helper.make_node("Constant", [], ["c"], value=value), node("Mul", "x", "c", "y")]
    network = network_from_bytes(onnx_file(nodes, ("n", 1)))
    assert network.written is not None
    assert network.written.held_by == {"float32"}

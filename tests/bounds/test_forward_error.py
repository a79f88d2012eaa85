"""Computed values stay within the errors of the analysis: compared with exact fractions."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.computed_graph import Evaluation, ways
from tests.exact_graph import exact_rows, exact_values, fractions
from tests.networks import convolutional, mixed, mlp, normal, residual_convolutional, residual_mlp
from tests.networks_by_hand import chain
from verify_pipeline.bounds.forward_error import computed_values, refusal, row_errors
from verify_pipeline.bounds.forward_error.sensitivity import sensitivities
from verify_pipeline.network.arithmetic import ARITHMETICS, BFLOAT16, FLOAT16, FLOAT32, Arithmetic
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.limits import AtLeast, Maximum
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Div,
    Elementwise,
    LeakyRelu,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Normalisation,
    Op,
    Relu,
    Reshape,
    Scale,
    Slice,
    Softmax,
    Sub,
    Sum,
    Transpose,
)
from verify_pipeline.onnx import network_from_module
from verify_pipeline.onnx.simplify import simplify
from verify_pipeline.problem import Box, Specification


def narrow(graph: Graph, arithmetic: Arithmetic) -> Graph:
    """The graph with weights that are numbers of the arithmetic."""
    nodes = []
    for node in graph.to(arithmetic.dtype).to(torch.float64).nodes:
        op = node.op
        if isinstance(op, Normalisation):
            op = replace(op, shift=op.bias - op.mean * op.scale)
        nodes.append(replace(node, op=op))
    return Graph(tuple(nodes))


def boxes_of(graph: Graph, width: float, seed: int, arithmetic: Arithmetic) -> Box:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, *graph.input_shape)
    center = torch.randn(shape, generator=generator).to(arithmetic.dtype).double()
    return Box(center - width, center + width)


def points_of(box: Box, arithmetic: Arithmetic, seed: int) -> list[Tensor]:
    """Numbers of the arithmetic in the box: near two corners, the middle, anywhere."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(box.lower.shape, generator=generator, dtype=torch.float64)
    anywhere = box.lower + share * (box.upper - box.lower)
    corner = torch.where(share < 0.5, box.lower, box.upper)
    return [x[0] for x in (box.lower, corner, anywhere)]


def exceeds(computed: Tensor, exact: np.ndarray, error: Tensor) -> bool:
    """Whether a difference is above its error, in exact arithmetic."""
    pairs = zip(fractions(computed).flat, exact.flat, error.flatten().tolist(), strict=True)
    return any(abs(a - b) > Fraction(e) for a, b, e in pairs if e != np.inf)


def assert_within(graph: Graph, box: Box, arithmetic: Arithmetic, seed: int = 0) -> None:
    """Every computed value of every node is within its error of the exact value."""
    known = [found.error[0] for found in computed_values(graph, box, arithmetic)]
    assert all(bool(error.isfinite().all()) for error in known)
    for point in points_of(box, arithmetic, seed):
        exact = exact_values(graph, point)
        for way in ways(arithmetic, seed):
            values = way.values(graph, point)
            for node, value, true, error in zip(graph.nodes, values, exact, known, strict=True):
                assert not exceeds(value, true, error), (node, way)


def doubles(seed: int) -> Callable[..., Tensor]:
    """Normal numbers in float64."""
    draw = normal(seed)
    return lambda *shape: draw(*shape).double()


def batch_norms(seed: int) -> Graph:
    """A convolution, a normalisation that nearly cancels, pooling, a linear layer."""
    draw = doubles(seed)
    b = GraphBuilder((1, 4, 4), dtype=torch.float64)
    x = b.add(Conv2d(draw(2, 1, 3, 3), draw(2), padding=(1, 1)), 0)
    mean, scale = 100 * draw(2, 1, 1), draw(2, 1, 1)
    bias = mean * scale + 0.01
    x = b.add(Normalisation(scale, bias - mean * scale, mean=mean, bias=bias), x)
    x = b.add(AvgPool2d((2, 2), (2, 2)), b.add(Relu(), x))
    x = b.add(Linear(draw(3, 8), draw(3)), b.add(Reshape((8,)), x))
    return b.build(b.add(Scale(draw(3), draw(3)), x))


def of_products(seed: int) -> Graph:
    """Products, quotients, attention and maxima of values."""
    draw = doubles(seed)
    b = GraphBuilder((4,), dtype=torch.float64)
    u, v = (b.add(Linear(draw(4, 4), draw(4)), 0) for _ in range(2))
    product = b.add(Mul(), u, v)
    divisor = b.add(Scale(torch.ones(()).double(), torch.tensor(9.0).double()), b.add(Relu(), v))
    quotient = b.add(Div(), product, divisor)
    square = b.add(Reshape((2, 2)), quotient)
    weights = b.add(Softmax(1), square)
    both = b.add(Reshape((4,)), b.add(MatMul(), weights, b.add(Reshape((2, 2)), u)))
    greatest = b.add(Maximum(), both, b.add(AtLeast(torch.tensor(-0.25).double()), v))
    joined = b.add(Concat(0), greatest, b.add(LeakyRelu(0.25), quotient))
    return b.build(b.add(Sub(), b.add(Mean((0,)), joined), b.add(Sum((0,)), both)))


NETWORKS = {
    "mlp": lambda seed: mlp(seed, hidden=(6, 5)).to(torch.float64),
    "convolutional": lambda seed: convolutional(seed).to(torch.float64),
    "residual": lambda seed: residual_mlp(seed).to(torch.float64),
    "residual convolutional": lambda seed: residual_convolutional(seed).to(torch.float64),
    "batch norm": batch_norms,
    "products": of_products,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(2))
def test_values_of_networks_are_within_their_errors(name: str, seed: int) -> None:
    graph = narrow(NETWORKS[name](seed), FLOAT32)
    for width in (0.0, 0.1):
        assert_within(graph, boxes_of(graph, width, seed, FLOAT32), FLOAT32, seed)


@pytest.mark.parametrize("arithmetic", [FLOAT16, BFLOAT16], ids=lambda one: one.name)
@pytest.mark.parametrize("name", ["mlp", "residual", "products"])
def test_narrow_arithmetics_have_larger_errors(name: str, arithmetic: Arithmetic) -> None:
    graph = narrow(NETWORKS[name](1), arithmetic)
    assert_within(graph, boxes_of(graph, 0.0, 1, arithmetic), arithmetic)


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "gelu", "silu", "elu", "softplus", "exp"])
def test_functions_are_within_their_errors(function: str) -> None:
    graph = narrow(mixed(2, function).to(torch.float64), FLOAT32)
    assert_within(graph, boxes_of(graph, 0.05, 2, FLOAT32), FLOAT32)


@pytest.mark.parametrize("name", ["batch norm", "mlp", "residual convolutional"])
@pytest.mark.parametrize("seed", range(2))
def test_merged_operations_are_within_the_errors_of_the_outputs(name: str, seed: int) -> None:
    """Constants multiplied together, rounded to float32, and evaluated in float32."""
    graph = narrow(NETWORKS[name](seed), FLOAT32)
    merged = narrow(simplify(graph), FLOAT32)
    box = boxes_of(graph, 0.1, seed, FLOAT32)
    *_, known = computed_values(graph, box, FLOAT32)
    for point in points_of(box, FLOAT32, seed):
        exact = exact_values(graph, point)[-1]
        for way in ways(FLOAT32, seed):
            assert not exceeds(way.values(merged, point)[-1], exact, known.error[0])


def test_a_merged_normalisation_needs_the_terms_of_the_convolution() -> None:
    """``1e4 x - 1e4 y`` is small; merged weights are rounded relative to ``1e4``."""
    third = torch.tensor([1 / 3], dtype=torch.float32).double()
    weight = torch.tensor([[1e4, -1e4]]).double()
    graph = chain((2,), Linear(weight), Scale(third, torch.zeros(1).double()))
    point = torch.tensor([0.7, 0.7 + 2.0**-24]).float().double()
    box = Box(point.unsqueeze(0), point.unsqueeze(0))
    *_, known = computed_values(graph, box, FLOAT32)
    merged = chain((2,), Linear((weight * third).float().double()))
    exact = exact_values(graph, point)[-1]
    assert not exceeds(Evaluation(FLOAT32).values(merged, point)[-1], exact, known.error[0])
    size = float(known.interval[1].abs().max())
    assert float(known.error.max()) > 2.0**-24 * 3e3 > 2.0**-20 * size


# --- each term by numbers that reach it -------------------------------------------------------

U = FLOAT32.unit


def error_of(op: Op, *limits: tuple[float, float], arithmetic: Arithmetic = FLOAT32) -> float:
    """The greatest error of an operation on inputs between limits."""
    lower, upper = (torch.tensor([side], dtype=torch.float64) for side in zip(*limits, strict=True))
    *_, found = computed_values(chain((len(limits),), op), Box(lower, upper), arithmetic)
    return float(found.error.max())


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_an_input_is_rounded_or_flushed() -> None:
    assert 5 * U <= error_of(Reshape((1,)), (3.0, 5.0)) <= 5.1 * U
    tiny = FLOAT16.tiny
    assert error_of(Reshape((1,)), (tiny / 2, tiny / 2), arithmetic=FLOAT16) >= tiny / 2


def test_a_sum_has_as_many_roundings_as_terms() -> None:
    """A thousand times ``1``: an error of a thousand roundings of a thousand, at least."""
    error = error_of(Linear(torch.ones(1, 1000).double()), *[(1.0, 1.0)] * 1000)
    assert 1000 * 1000 * U <= error <= 1.1 * 1000 * 1000 * U


def test_a_bias_is_rounded_with_the_sum() -> None:
    error = error_of(Linear(torch.zeros(1, 10).double(), double(1.0)), *[(0.0, 0.0)] * 10)
    assert 10 * U <= error <= 14 * U


def test_errors_of_inputs_are_multiplied_with_weights() -> None:
    """Only the input is rounded noticeably: 2^20 U times a weight of 8."""
    error = error_of(Linear(double(8.0)[None]), (2.0**20, 2.0**20))
    assert error >= 8 * 2.0**20 * U + 8 * 2.0**20 * 2 * U


def test_flushed_inputs_weights_and_products_count() -> None:
    """float16's numbers below 2^-14 may be zero: an input times 100, a weight times 50."""
    tiny = FLOAT16.tiny
    small = error_of(Linear(double(100.0)[None]), (tiny / 2, tiny / 2), arithmetic=FLOAT16)
    assert small >= 100 * tiny / 2
    weight = error_of(Linear(double(tiny / 2)[None]), (50.0, 50.0), arithmetic=FLOAT16)
    assert weight >= 50 * tiny / 2
    product = error_of(Linear(double(tiny)[None]), (0.5, 0.5), arithmetic=FLOAT16)
    assert product >= tiny / 2


def test_a_flushed_merged_weight_counts() -> None:
    """The weights 2^-8 and 2^-8 are normal in float16, their product is not; x is 64."""
    small = double(2.0**-8)[None]
    graph = chain((1,), Linear(small), Linear(small))
    box = Box(double(64.0)[None], double(64.0)[None])
    *_, found = computed_values(graph, box, FLOAT16)
    assert float(found.error) >= 64 * 2.0**-16


def test_a_relu_that_is_never_active_has_no_error() -> None:
    assert error_of(Relu(), (-2.0, -1.0)) == 0
    assert error_of(Relu(), (-2.0, 1.0)) >= U


def test_a_relu_may_be_active_in_the_arithmetic_alone() -> None:
    """``x - 1e8`` is never above zero in real numbers, and rounds above it."""
    graph = chain((1,), Scale(double(1.0), double(-1e8)), Relu())
    box = Box(double(1e8 - 3)[None], double(1e8 - 0.5)[None])
    *_, found = computed_values(graph, box, FLOAT32)
    assert float(found.error) >= 1


def test_a_value_above_its_limit_may_round_down() -> None:
    assert error_of(AtLeast(double(1.0)), (0.0, 0.5)) <= 2 * FLOAT32.tiny
    assert error_of(AtLeast(double(1.0)), (0.0, 2.0)) >= U


def test_a_slope_below_zero_is_rounded() -> None:
    error = error_of(LeakyRelu(0.3), (-1000.0, -1000.0))
    assert error >= 1000 * U + 300 * U


def test_pooling_takes_the_greatest_error() -> None:
    graph = chain((1, 1, 2), MaxPool2d((1, 2), (1, 2)))
    x = double(1.0, 1000.0).reshape(1, 1, 1, 2)
    *_, found = computed_values(graph, Box(x, x), FLOAT32)
    assert float(found.error) >= 1000 * U


@pytest.mark.parametrize(
    ("op", "least"),
    [
        (Mul(), 10 * 1000 * 4.5 * U),
        (Div(), 100 * 5.5 * U),
        (Add(), 1010 * 2.9 * U),
        (Sub(), 1010 * 2.9 * U),
        (Maximum(), 1000 * U),
    ],
    ids=lambda one: type(one).__name__,
)
def test_operations_of_two_values(op: Op, least: float) -> None:
    """Of 1000 and 10, each rounded on its way in; then the result's own rounding."""
    b = GraphBuilder((2,), dtype=torch.float64)
    parts = [b.add(Slice(0, place, place + 1), 0) for place in (0, 1)]
    graph = b.build(b.add(op, *parts))
    x = double(1000.0, 10.0)[None]
    *_, found = computed_values(graph, Box(x, x), FLOAT32)
    assert least <= float(found.error) <= 3 * least


def test_a_quotient_by_a_number_that_may_be_zero_is_not_bounded() -> None:
    b = GraphBuilder((1,), dtype=torch.float64)
    divisor = b.add(Scale(double(1.0), double(0.0)), 0)
    graph = b.build(b.add(Div(), b.add(Relu(), 0), divisor))
    for lower, finite in ((1.0, True), (0.0, False), (FLOAT32.tiny / 2, False)):
        *_, found = computed_values(graph, Box(double(lower)[None], double(2.0)[None]), FLOAT32)
        assert bool(found.error.isfinite().all()) == finite


def test_a_matrix_product_has_the_errors_of_both_factors() -> None:
    """Of 1000 and 10 and two zeros, each rounded on its way in; then a sum of two products."""
    b = GraphBuilder((4,), dtype=torch.float64)
    left = b.add(Reshape((1, 2)), b.add(Slice(0, 0, 2), 0))
    right = b.add(Reshape((2, 1)), b.add(Slice(0, 2, 4), 0))
    graph = b.build(b.add(Reshape((1,)), b.add(MatMul(), left, right)))
    x = double(1000.0, 0.0, 10.0, 0.0)[None]
    *_, found = computed_values(graph, Box(x, x), FLOAT32)
    assert float(found.error) >= 10 * 1000 * 6.5 * U


@pytest.mark.parametrize(
    ("factor", "value", "finite"), [(2.0, 32000.0, True), (3.0, 32000.0, False)]
)
def test_a_number_that_may_overflow_has_no_error(factor: float, value: float, finite: bool) -> None:
    error = error_of(Linear(double(factor)[None]), (value, value), arithmetic=FLOAT16)
    assert np.isfinite(error) == finite


def test_a_partial_sum_may_overflow() -> None:
    error = error_of(Linear(double(3.0, -3.0)[None]), *[(20000.0, 20000.0)] * 2, arithmetic=FLOAT16)
    assert np.isinf(error)


def test_a_merged_weight_may_overflow() -> None:
    graph = chain((1,), *(Linear(double(300.0)[None]) for _ in range(2)))
    *_, found = computed_values(graph, Box(double(0.0)[None], double(1e-3)[None]), FLOAT16)
    assert not bool(found.error.isfinite().any())


def test_rows_add_the_errors_of_the_outputs_that_they_compare() -> None:
    graph = chain((2,), Linear(torch.eye(2).double()))
    x = double(1.0, 100.0)[None]
    box = Box(x, x)
    *_, outputs = computed_values(graph, box, FLOAT32)
    spec = Specification.margins(torch.tensor([0]), 2, torch.float64)
    errors = row_errors(graph, box, spec, FLOAT32)
    total = float(outputs.error.sum())
    assert total <= float(errors) <= total * (1 + 1e-5)


# --- merged sums, by hand ---------------------------------------------------------------------


def last(graph: Graph, *numbers: float, arithmetic: Arithmetic = FLOAT32) -> float:
    """The greatest error of the outputs at one point."""
    x = double(*numbers)[None]
    *_, found = computed_values(graph, Box(x, x), arithmetic)
    return float(found.error.max())


DIFFERENCE = Linear(double(1e4, -1e4)[None])
"""Of two equal inputs, 0; its terms are 2e4 in sum at inputs of 1."""


def test_constants_of_a_normalisation_are_rounded_before_they_are_merged() -> None:
    """A root, a quotient, a product, each relative to the terms of the sum before."""
    norm = Normalisation(double(1.0), double(0.0), mean=double(0.0), bias=double(0.0))
    before = last(chain((2,), DIFFERENCE), 1.0, 1.0)
    assert last(chain((2,), DIFFERENCE, norm), 1.0, 1.0) - before >= 8 * 2e4 * U


def test_a_normalisation_rounds_its_mean_and_bias() -> None:
    """``5000 - 5000`` in the shift, which is 0."""
    norm = Normalisation(double(1.0), double(0.0), mean=double(5000.0), bias=double(5000.0))
    assert last(chain((1,), norm), 1.0) >= 3 * 10000 * U


def test_a_merged_constant_takes_part_in_the_sum_before() -> None:
    """A hundred products and a constant that the operation after them adds: a hundred roundings."""
    graph = chain((100,), Linear(torch.zeros(1, 100).double()), Scale(double(1.0), double(1000.0)))
    assert last(graph, *[1.0] * 100) >= 100 * 1000 * U


def test_a_merged_shift_is_summed_with_weights_first() -> None:
    """``Σ (x + 1000)`` of fifty: weights times shifts are a sum, which joins another sum."""
    graph = chain((50,), Scale(double(1.0), double(1000.0)), Linear(torch.ones(1, 50).double()))
    assert last(graph, *[0.0] * 50) >= 2 * 50 * 50 * 1000 * U


def test_terms_are_handed_on_with_their_constants() -> None:
    """``(x + 1000) - 1000``, times 3: the merged constants are 3000, their sum is 0."""
    graph = chain(
        (1,),
        Scale(double(1.0), double(1000.0)),
        Scale(double(1.0), double(-1000.0)),
        Scale(double(3.0), double(0.0)),
    )
    assert last(graph, 0.0) >= 6 * 6000 * U


def test_a_summand_joins_the_sum_that_it_is_added_to() -> None:
    """A value of 1000 is added first to a sum of a hundred zeros."""
    b = GraphBuilder((101,), dtype=torch.float64)
    zeros = b.add(Linear(torch.zeros(1, 101).double()), 0)
    value = b.add(Relu(), b.add(Linear(torch.eye(101)[:1].double()), 0))
    alone = last(b.build(value), 1000.0, *[0.0] * 100)
    graph = b.build(b.add(Add(), zeros, value))
    assert last(graph, 1000.0, *[0.0] * 100) - alone >= 100 * 1000 * U


def test_a_mean_has_as_many_roundings_as_elements() -> None:
    graph = chain((100,), Mean((0,)))
    assert last(graph, *[1000.0] * 100) >= 1000 * U + 100 * 1000 * U


def test_an_intermediate_difference_may_overflow() -> None:
    norm = Normalisation(double(1e-3), double(0.0), mean=double(3e38), bias=double(3e35))
    assert np.isinf(last(chain((1,), norm), 1e38))
    assert np.isfinite(last(chain((1,), norm), 1e37))


SHIFTS = (Scale(double(1.0), double(1e6)), Scale(double(1.0), double(-1e6)))
"""``(x + 1e6) - 1e6``, whose error is about 0.3."""


def test_a_softmax_has_half_of_the_error_of_its_scores() -> None:
    assert last(chain((2,), Softmax(0)), 10.0, 10.0) >= 16 * U / 2
    scores = last(chain((2,), *SHIFTS), 0.0, 0.0)
    assert last(chain((2,), *SHIFTS, Softmax(0)), 0.0, 0.0) >= scores / 2 > 0.1


def test_a_computed_divisor_may_be_smaller() -> None:
    b = GraphBuilder((1,), dtype=torch.float64)
    divisor = b.add(SHIFTS[1], b.add(SHIFTS[0], 0))
    wrong = last(b.build(divisor), 1.0)
    graph = b.build(b.add(Div(), b.add(Scale(double(0.0), double(1.0)), 0), divisor))
    assert 0.1 < wrong < 1
    assert last(graph, 1.0) >= 1 / (1 - wrong) - 1


def test_a_function_is_steep_where_the_computed_argument_may_be() -> None:
    """``exp(x + 100 - 100)``: the argument is wrong by up to 2e-5."""
    shifts = [Scale(double(1.0), double(n)) for n in (1e6, -1e6)]
    argument = last(chain((1,), *shifts), 1.0)
    assert argument > 0.1
    graph = chain((1,), *shifts, Elementwise("exp"))
    assert last(graph, 1.0) >= np.exp(1 + argument) * argument


def test_a_function_has_an_error_of_its_own() -> None:
    """A sigmoid at 20 is flat: what is left is the library's error."""
    assert last(chain((1,), Elementwise("sigmoid")), 20.0) >= 16 * U


def test_a_flushed_factor_counts() -> None:
    """In float16, 2^-15 may be zero, which changes ``2^-15 · 2^10`` by 2^-5."""
    b = GraphBuilder((2,), dtype=torch.float64)
    one, other = (b.add(Slice(0, place, place + 1), 0) for place in (0, 1))
    product = b.build(b.add(Mul(), one, other))
    assert own(product, 2.0**-15, 2.0**10) >= 2.0**-5
    shapes = (b.add(Reshape((1, 1)), x) for x in (one, other))
    matrix = b.build(b.add(Reshape((1,)), b.add(MatMul(), *shapes)))
    assert own(matrix, 2.0**-15, 2.0**10) >= 2.0**-5


def own(graph: Graph, *numbers: float) -> float:
    """The error of the last operation alone, in float16."""
    x = double(*numbers)[None]
    *_, found = computed_values(graph, Box(x, x), FLOAT16)
    return float(found.own.max())


CANCELLED = (Scale(double(1.0), double(1e8)), Scale(double(1.0), double(-1e8)))
"""``(x + 1e8) - 1e8``, whose error exceeds its value."""


def test_roundings_are_relative_to_what_is_computed() -> None:
    """The value is 1, what is computed may be 30 and is rounded as such."""
    copies = chain((1,), *CANCELLED, Linear(torch.ones(100, 1).double()), Relu())
    before = last(copies, 1.0)
    total = Linear(torch.ones(1, 100).double())
    after = last(chain((1,), *(node.op for node in copies.nodes[1:]), total), 1.0)
    assert before >= 8
    assert after - 100 * before >= 100 * before * 90 * U


def test_a_value_may_be_above_its_limit_in_the_arithmetic_alone() -> None:
    assert last(chain((1,), *CANCELLED, AtLeast(double(2.0))), 1.0) >= 1


@pytest.mark.parametrize("op", [Add(), Sub()], ids=["sum", "difference"])
def test_both_summands_have_errors(op: Op) -> None:
    b = GraphBuilder((2,), dtype=torch.float64)
    parts = [b.add(Linear(row[None]), 0) for row in torch.eye(2).double()]
    exact = [b.add(Relu(), part) for part in parts]
    graph = b.build(b.add(op, *exact))
    # each value of 1000 was rounded four times, and twice more in the sum
    for x in ((1000.0, 0.0), (0.0, 1000.0)):
        assert last(graph, *x) >= 5.5 * 1000 * U


def weighted(graph: Graph, *numbers: float, arithmetic: Arithmetic = FLOAT32) -> float:
    """The weighted error of the single output at one point."""
    x = double(*numbers)[None]
    spec = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    found = sensitivities(
        graph, list(computed_values(graph, Box(x, x), arithmetic)), spec, arithmetic
    )
    assert found is not None
    return float(found)


def test_errors_of_a_sum_are_handed_on_to_what_it_may_be_merged_with() -> None:
    graph = chain((100,), Linear(torch.ones(1, 100).double()), Scale(double(2.0), double(0.0)))
    assert weighted(graph, *[1.0] * 100) >= 2 * 100 * 100 * U


def test_two_users_may_flush_a_value_apart() -> None:
    """``1000 v - 1000 v`` where one of both reads 0 in the place of v."""
    graph = chain(
        (1,), Relu(), Linear(double(1000.0, 1000.0)[:, None]), Linear(double(1.0, -1.0)[None])
    )
    tiny = FLOAT16.tiny
    assert weighted(graph, tiny / 2, arithmetic=FLOAT16) >= 1000 * tiny / 2


# --- what is refused --------------------------------------------------------------------------


def test_operations_with_algorithms_of_their_own_are_refused() -> None:
    network = network_from_module(nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(1, 4)), (4,))
    assert "InstanceNormalization" in refusal(network.written, FLOAT32)
    assert refusal(None, FLOAT32)


def test_weights_have_to_be_numbers_of_the_arithmetic() -> None:
    layer = nn.Linear(3, 2)
    network = network_from_module(layer, (3,))
    assert refusal(network.written, FLOAT32) == ""
    assert "no float16 number" in refusal(network.written, FLOAT16)
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        narrow_layer = nn.Linear(3, 2)
        narrow_layer.load_state_dict(layer.to(dtype).state_dict())
        found = network_from_module(narrow_layer.float(), (3,))
        assert refusal(found.written, ARITHMETICS[name]) == ""


def test_batch_normalisation_is_refused_where_its_epsilon_may_be_flushed() -> None:
    network = network_from_module(nn.Sequential(nn.BatchNorm1d(4)).eval(), (4,))
    assert refusal(network.written, FLOAT32) == ""
    assert "Normalisation" in refusal(network.written, FLOAT16)


# --- errors weighted with derivatives ---------------------------------------------------------


def sharper(graph: Graph, box: Box, spec: Specification) -> Tensor | None:
    return sensitivities(graph, list(computed_values(graph, box, FLOAT32)), spec, FLOAT32)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(2))
def test_weighted_errors_hold_for_margins(name: str, seed: int) -> None:
    """As the file writes it and merged; two rows of random numbers."""
    graph = narrow(NETWORKS[name](seed), FLOAT32)
    box = boxes_of(graph, 0.1, seed, FLOAT32)
    rows = doubles(seed + 50)(1, 2, graph.outputs)
    spec = Specification(rows, torch.zeros(1, 2).double())
    errors = sharper(graph, box, spec)
    assert errors is not None
    merged = narrow(simplify(graph), FLOAT32)
    for point in points_of(box, FLOAT32, seed):
        exact = exact_rows(spec.rows[0], spec.offsets[0], exact_values(graph, point)[-1])
        for way in ways(FLOAT32, seed):
            for evaluated in (graph, merged):
                output = way.values(evaluated, point)[-1]
                margins = exact_rows(spec.rows[0], spec.offsets[0], fractions(output))
                for found, true, error in zip(margins, exact, errors[0].tolist(), strict=True):
                    assert abs(found - true) <= Fraction(error)


def of_many_operations(seed: int) -> Graph:
    """Falling and rising functions, differences, maxima, products and joined values."""
    draw = doubles(seed)
    b = GraphBuilder((3,), dtype=torch.float64)
    x, y = (b.add(Linear(draw(4, 3), draw(4)), 0) for _ in range(2))
    falling = b.add(Elementwise("sin"), x)
    difference = b.add(Sub(), b.add(Relu(), y), b.add(LeakyRelu(0.3), falling))
    square = b.add(Reshape((1, 2, 2)), difference)
    greatest = b.add(Reshape((1,)), b.add(MaxPool2d((2, 2), (2, 2)), square))
    joined = b.add(Concat(0), b.add(Mul(), difference, x), greatest)
    limited = b.add(AtLeast(torch.tensor(-0.1).double()), joined)
    maximum = b.add(Maximum(), limited, b.add(Elementwise("gelu"), joined))
    return b.build(b.add(Linear(draw(3, 5), draw(3)), maximum))


def derivatives(graph: Graph, point: Tensor, place: int, rows: Tensor) -> Tensor:
    """Of rows ``S x K`` of the outputs, by the elements of a node, ``S x size``."""
    values = [value.detach() for value in graph.values(point[None])]
    values[place] = given = values[place].clone().requires_grad_()
    for later in range(place + 1, len(values)):
        node = graph.nodes[later]
        values[later] = node.op(*(values[i] for i in node.inputs))
    margins = values[-1][0] @ rows.T
    found = [torch.autograd.grad(margin, given, retain_graph=True)[0] for margin in margins]
    return torch.stack(found).flatten(1)


def of_attention(seed: int) -> Graph:
    """Two heads of attention over three tokens, and a quotient."""
    draw = doubles(seed)
    b = GraphBuilder((4,), dtype=torch.float64)

    def tokens(width: int) -> int:
        made = b.add(Linear(draw(6 * width, 4), draw(6 * width)), 0)
        return b.add(Reshape((2, 3, width)), made)

    query, key, value = (tokens(2) for _ in range(3))
    scores = b.add(MatMul(), query, b.add(Transpose((0, 2, 1)), key))
    mixed = b.add(MatMul(), b.add(Softmax(2), scores), value)
    one = torch.ones(()).double()
    divisor = b.add(Scale(one, 5 * one), b.add(Relu(), tokens(2)))
    quotient = b.add(Reshape((12,)), b.add(Div(), mixed, divisor))
    return b.build(b.add(Linear(draw(3, 12), draw(3)), quotient))


MAKERS = {"mlp": NETWORKS["mlp"], "many": of_many_operations, "attention": of_attention}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("seed", range(3))
def test_derivatives_enclose_those_of_points(make: Callable[[int], Graph], seed: int) -> None:
    """An error of one element of one value: the weight is at least its derivative anywhere."""
    graph = narrow(make(seed), FLOAT32)
    box = boxes_of(graph, 0.3, seed, FLOAT32)
    values = list(computed_values(graph, box, FLOAT32))
    rows = Specification.margins(torch.tensor([0]), graph.outputs, torch.float64).rows[0]
    spec = Specification(rows[None], torch.zeros(1, len(rows)).double())
    points = [*points_of(box, FLOAT32, seed), *points_of(box, FLOAT32, seed + 9)]
    for place in range(len(values) - 1):
        slopes = torch.stack([derivatives(graph, x, place, rows).abs() for x in points]).amax(0)
        for element, most in enumerate(slopes.T):
            none = [torch.zeros(value.own.shape).double() for value in values]
            only = [replace(v, own=own, count=0) for v, own in zip(values, none, strict=True)]
            only[place].own.flatten(1)[0, element] = 1.0
            weights = sensitivities(graph, only, spec, FLOAT32)
            assert weights is not None
            assert bool((weights[0] >= most * (1 - 1e-12)).all())


def test_a_function_behind_a_sum_is_charged_with_the_errors_of_the_sum() -> None:
    """The only user of the sum is affine in one branch and a ReLU in the other."""
    b = GraphBuilder((100,), dtype=torch.float64)
    total = b.add(Linear(torch.ones(1, 100).double()), 0)
    both = b.add(Concat(0), b.add(Relu(), total), b.add(Scale(double(1.0), double(0.0)), total))
    graph = b.build(b.add(Linear(double(1.0, 1.0)[None]), b.add(Relu(), both)))
    assert weighted(graph, *[1.0] * 100) >= 2 * 100 * 100 * U


def test_weights_that_cancel_in_a_sum_cancel_in_the_errors() -> None:
    """``relu(x) - relu(x)``: the input's error does not matter, those of the sums do."""
    b = GraphBuilder((1,), dtype=torch.float64)
    one = b.add(Linear(torch.ones(2, 1).double()), b.add(Relu(), 0))
    graph = b.build(b.add(Linear(double(1.0, -1.0)[None]), b.add(Relu(), one)))
    box = Box(double(1000.0)[None], double(1000.0)[None])
    spec = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    plain = float([*computed_values(graph, box, FLOAT32)][-1].error)
    errors = sharper(graph, box, spec)
    assert errors is not None
    # two sums of a term are rounded apart: 1000 U each at least; without the input's error
    assert 2 * 1000 * U <= float(errors) <= plain - 2 * 1000 * U


def test_a_relu_that_is_active_in_the_arithmetic_alone_counts() -> None:
    """The exact input is -1, the computed one may be 7."""
    graph = chain((1,), *CANCELLED, Relu(), Linear(double(1.0)[None]))
    assert weighted(graph, -1.0) >= 8


def test_a_difference_turns_the_sign_of_derivatives() -> None:
    """``x - (-x)``: the input's error counts twice, then the roundings of 1000 and 1000."""
    b = GraphBuilder((1,), dtype=torch.float64)
    x = b.add(Relu(), 0)
    graph = b.build(b.add(Sub(), x, b.add(Scale(double(-1.0), double(0.0)), x)))
    assert weighted(graph, 1000.0) >= 5.5 * 1000 * U


def test_a_function_may_fall() -> None:
    """``sin(x) - x`` at π, where its derivative is -2."""
    b = GraphBuilder((1,), dtype=torch.float64)
    graph = b.build(b.add(Sub(), b.add(Elementwise("sin"), 0), b.add(Reshape((1,)), 0)))
    assert weighted(graph, 3.141) >= 15 * U

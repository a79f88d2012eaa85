"""Errors in mixed precision: sums in float32, results stored in a half precision or not."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.bounds.test_forward_error import (
    NETWORKS,
    assert_within,
    boxes_of,
    double,
    exceeds,
    narrow,
    points_of,
)
from tests.computed_graph import Evaluation, ways
from tests.exact_graph import exact_values
from tests.networks_by_hand import chain
from verify_pipeline.bounds.forward_error import Computed, computed_values, greatest_softmax_tie
from verify_pipeline.bounds.forward_error.sensitivity import sensitivities
from verify_pipeline.network.arithmetic import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    MIXED_BFLOAT16,
    MIXED_FLOAT16,
    Arithmetic,
)
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.limits import AtLeast
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Constant,
    Div,
    Elementwise,
    LeakyRelu,
    Linear,
    MatMul,
    Mul,
    Normalisation,
    Op,
    Relu,
    Reshape,
    Scale,
    Slice,
    Softmax,
    Sub,
)
from verify_pipeline.problem import Box, Specification

U = MIXED_BFLOAT16.unit
"""2^-8: what storing changes, relative to a value."""

TINY = MIXED_FLOAT16.tiny
"""2^-14, which is a normal number of float32."""


def last(graph: Graph, *numbers: float, arithmetic: Arithmetic = MIXED_BFLOAT16) -> Computed:
    """What is known of the outputs at one point."""
    x = double(*numbers).reshape(1, *graph.input_shape)
    *_, found = computed_values(graph, Box(x, x), arithmetic)
    return found


def own(op: Op, *numbers: float, arithmetic: Arithmetic = MIXED_BFLOAT16) -> float:
    """The greatest error that an operation adds itself."""
    return float(last(chain((len(numbers),), op), *numbers, arithmetic=arithmetic).own.max())


def row(*weights: float, bias: float | None = None) -> Linear:
    return Linear(double(*weights)[None], None if bias is None else double(bias))


def norm(mean: float) -> Normalisation:
    """``(x - mean) + mean``."""
    return Normalisation(double(1.0), double(0.0), mean=double(mean), bias=double(mean))


# --- one formula, two unit roundoffs -----------------------------------------------------------


def test_roundings_of_sums_and_of_storing_are_counted_together() -> None:
    total = 100 * 2.0**-24 + 3 * 2.0**-8
    assert MIXED_BFLOAT16.gamma(100, stored=3) == pytest.approx(total / (1 - total), rel=1e-9)
    assert MIXED_BFLOAT16.gamma(100, stored=3) >= total / (1 - total)
    assert MIXED_BFLOAT16.gamma(0, stored=256) == math.inf
    assert BFLOAT16.gamma(100, stored=3) == BFLOAT16.gamma(100)
    assert BFLOAT16.gamma(256) == math.inf
    assert MIXED_BFLOAT16.gamma(256) == FLOAT32.gamma(256)


# --- results ----------------------------------------------------------------------------------


def test_a_result_is_stored_relative_to_its_value() -> None:
    assert 100 * U <= own(row(100.0), 1.0) <= 1.02 * 100 * U
    # not to its terms, which are 2e4; the error 2e4 u' of the inputs is stored as well
    assert own(row(1e4, -1e4), 1.0, 1.0) <= 1.1 * 2e4 * U * U


def test_sums_are_not_rounded_to_the_half_precision() -> None:
    """Of a thousand ones: plain bfloat16 has no bounded error."""
    graph = chain((1000,), Linear(torch.ones(1, 1000).double()))
    assert float(last(graph, *[1.0] * 1000).own) <= 1.1 * 1000 * U
    assert not bool(last(graph, *[1.0] * 1000, arithmetic=BFLOAT16).error.isfinite().any())


def test_a_sum_may_be_stored_before_its_bias_is_added() -> None:
    """``1002 - 1000``: 1002 is stored as 1000; the value 2 is exact."""
    found = Evaluation(MIXED_BFLOAT16).result(double(1002.0))
    assert float(found) == 1000.0
    assert 2 <= own(row(1002.0, bias=-1000.0), 1.0) <= 2.1 * 2002 * U


def test_constants_that_a_runtime_computes_may_be_stored() -> None:
    """A root, a quotient and products of a normalisation; weights of the file are not computed."""
    assert own(norm(0.0), 1000.0) >= 10 * 1000 * U
    assert own(Scale(double(1.0), double(0.0)), 1000.0) == 0
    assert 3000 * U <= own(Scale(double(3.0), double(0.0)), 1000.0) <= 1.1 * 3000 * U


def test_merged_weights_are_stored_relative_to_the_terms() -> None:
    difference = row(1e4, -1e4)
    assert float(last(chain((2,), difference, row(3.0)), 1.0, 1.0).own) >= 3 * 2e4 * U
    # a constant that is added leaves the weights what they are
    shifted = chain((2,), difference, Scale(double(1.0), double(1.0)))
    assert float(last(shifted, 1.0, 1.0).own) <= 3 * 2e4 * U * U


def test_two_constants_may_be_stored_as_their_sum() -> None:
    """``(0 + 1001) - 1000``."""
    graph = chain((1,), row(0.0, bias=1001.0), Scale(double(1.0), double(-1000.0)))
    assert float(last(graph, 0.0).own) >= 2001 * U
    b = GraphBuilder((1,), dtype=torch.float64)
    parts = [b.add(row(0.0, bias=c), 0) for c in (1001.0, -1000.0)]
    assert float(last(b.build(b.add(Add(), *parts)), 0.0).own) >= 2001 * U


def of_two(op: Op, *x: float) -> float:
    """The own error of an operation on two inputs."""
    b = GraphBuilder((2,), dtype=torch.float64)
    parts = [b.add(Reshape((1, 1)), b.add(Slice(0, place, place + 1), 0)) for place in (0, 1)]
    graph = b.build(b.add(Reshape((1,)), b.add(op, *parts)))
    values = list(computed_values(graph, Box(double(*x)[None], double(*x)[None]), MIXED_BFLOAT16))
    return float(values[-2].own)


@pytest.mark.parametrize(
    ("op", "size", "often"),
    [(Mul(), 1e4, 1), (MatMul(), 1e4, 1), (Add(), 1010.0, 1), (Sub(), 990.0, 1), (Div(), 100.0, 2)],
    ids=lambda one: type(one).__name__,
)
def test_results_of_two_values_are_stored(op: Op, size: float, often: int) -> None:
    """Of 1000 and 10; a quotient by way of a stored reciprocal."""
    assert often * size * U <= of_two(op, 1000.0, 10.0) <= 1.05 * often * size * U


def test_results_of_functions_are_stored() -> None:
    assert 0.5 * U <= own(Elementwise("sigmoid"), 0.0) <= 0.51 * U
    # the slope and the product; nothing where the value is not negative
    assert 2 * 300 * U <= own(LeakyRelu(0.3), -1000.0) <= 2.2 * 300 * U
    assert own(LeakyRelu(0.3), 1000.0) <= 1.1 * 0.3 * 2 * 1000 * U * U
    # an exponential of the share, one of the sum, and the share itself
    assert 3 * 0.5 * U <= own(Softmax(0), 1.0, 1.0) <= 1.2 * 3 * 0.5 * U


def test_a_mean_is_stored_once() -> None:
    pool = chain((1, 2, 2), AvgPool2d((2, 2), (2, 2)))
    assert 8 * U <= float(last(pool, 8.0, 8.0, 8.0, 8.0).own) <= 1.05 * 8 * U


@pytest.mark.parametrize("op", [Relu(), Reshape((1,)), AtLeast(double(0.5))], ids=lambda o: str(o))
def test_what_commutes_with_storing_is_not_charged(op: Op) -> None:
    assert own(op, 1000.0) <= 2 * FLOAT32.tiny


def test_a_limit_that_is_no_number_of_the_type_is_stored() -> None:
    assert own(AtLeast(double(1002.0)), 0.0) >= 2  # bfloat16 has 1000 and 1004
    assert own(AtLeast(double(-math.inf)), 0.0) <= 2 * FLOAT32.tiny


def test_two_users_may_take_a_value_stored_and_not() -> None:
    """``relu(x) - relu(x)``: 0 in every plain evaluation without denormals, not in a fused one."""
    b = GraphBuilder((1,), dtype=torch.float64)
    value = b.add(Relu(), b.add(row(1.0), 0))
    graph = b.build(b.add(Sub(), value, value))
    x = double(1000.0)[None]
    spec = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    for arithmetic, least in ((MIXED_BFLOAT16, 1000 * U), (BFLOAT16, 0.0)):
        values = list(computed_values(graph, Box(x, x), arithmetic))
        found = sensitivities(graph, values, spec, arithmetic)
        assert found is not None
        assert float(found) >= least


# --- overflow ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "x", "finite"),
    [
        (row(2.0), (32000.0,), True),
        (row(3.0), (32000.0,), False),
        # partial sums are float32 numbers
        (row(3.0, -3.0), (20000.0, 20000.0), True),
        # 80000 is stored before 60000 is taken away
        (row(4.0, bias=-60000.0), (20000.0,), False),
        (row(2.0, bias=-60000.0), (20000.0,), False),
        (row(2.0, bias=-20000.0), (20000.0,), True),
        # rounding alone: 65519 is stored as 65504, but an error may lead beyond
        (row(1.0), (65504.0,), False),
        (Elementwise("exp"), (11.0,), True),
        (Elementwise("exp"), (11.1,), False),
        (Elementwise("square"), (256.0,), False),
    ],
)
def test_a_stored_number_that_may_overflow_has_no_error(
    op: Op, x: tuple[float, ...], finite: bool
) -> None:
    found = last(chain((len(x),), op), *x, arithmetic=MIXED_FLOAT16)
    assert bool(found.error.isfinite().all()) == finite


def test_merged_weights_and_reciprocals_may_overflow() -> None:
    graph = chain((1,), row(300.0), row(300.0))
    assert not bool(last(graph, 1e-3, arithmetic=MIXED_FLOAT16).error.isfinite().any())
    b = GraphBuilder((1,), dtype=torch.float64)
    small = b.add(Scale(double(1.0), double(1.2e-5)), b.add(Relu(), 0))
    quotient = b.build(b.add(Div(), 0, small))
    found = last(quotient, 0.0, arithmetic=MIXED_FLOAT16)
    assert not bool(found.error.isfinite().any())


# --- denormals --------------------------------------------------------------------------------


def test_stored_numbers_may_be_flushed() -> None:
    assert own(row(1.0), TINY / 2, arithmetic=MIXED_FLOAT16) >= TINY / 2
    assert own(row(TINY / 2), 50.0, arithmetic=MIXED_FLOAT16) >= 50 * TINY / 2
    assert own(row(0.0, bias=TINY / 2), 1.0, arithmetic=MIXED_FLOAT16) >= TINY / 2
    error = last(chain((1,), Reshape((1,))), TINY / 2, arithmetic=MIXED_FLOAT16).error
    assert float(error) >= TINY / 2


def test_products_and_partial_sums_are_not_flushed() -> None:
    """A thousand products of 2^-16, which float16 has as denormals only."""
    weight = Linear(torch.full((1, 1000), 2.0**-8).double())
    x = [2.0**-8] * 1000
    assert own(weight, *x, arithmetic=FLOAT16) >= 1000 * 2.0**-16
    assert own(weight, *x, arithmetic=MIXED_FLOAT16) <= 2 * TINY


def test_weights_of_a_pool_are_not_flushed() -> None:
    pool = chain((1, 2, 2), AvgPool2d((2, 2), (2, 2)))
    found = last(pool, *[1000.0] * 4, arithmetic=MIXED_FLOAT16)
    assert float(found.own) <= 1.05 * 1000 * MIXED_FLOAT16.unit


# --- ends of networks -------------------------------------------------------------------------


@pytest.mark.parametrize("arithmetic", [MIXED_FLOAT16, MIXED_BFLOAT16], ids=lambda one: one.name)
def test_stored_shares_of_scores_that_differ_enough_differ(arithmetic: Arithmetic) -> None:
    rng = np.random.default_rng(0)
    least = greatest_softmax_tie(arithmetic, 6)
    for _ in range(300):
        others = torch.from_numpy(rng.uniform(-8, 0, 4))
        scores = torch.cat([double(0.0, -1.01 * least), others]).float()
        powers = scores.exp()
        for stored in (powers, powers.to(arithmetic.dtype).float()):
            shares = (stored / stored.sum()).to(arithmetic.dtype)
            assert shares[0] > shares[1]
    # a 32nd of it is too little
    powers = double(0.0, -least / 32).exp()
    shares = (powers / powers.sum()).to(arithmetic.dtype)
    assert shares[0] == shares[1]


def test_shares_of_many_scores_may_all_be_flushed() -> None:
    """Of 2^14 equal scores, the shares are 2^-14, rounded; less is flushed in float16."""
    assert greatest_softmax_tie(MIXED_FLOAT16, 1 << 14) == math.inf
    assert greatest_softmax_tie(MIXED_FLOAT16, 1 << 13) < 1
    assert greatest_softmax_tie(MIXED_BFLOAT16, 1 << 20) < 1


# --- evaluations in every order, stored or not ------------------------------------------------


@pytest.mark.parametrize("arithmetic", [MIXED_FLOAT16, MIXED_BFLOAT16], ids=lambda one: one.name)
@pytest.mark.parametrize("name", ["mlp", "convolutional", "residual", "batch norm", "products"])
def test_values_of_networks_are_within_their_errors(name: str, arithmetic: Arithmetic) -> None:
    graph = narrow(NETWORKS[name](1), arithmetic)
    for width in (0.0, 0.05):
        assert_within(graph, boxes_of(graph, width, 1, arithmetic), arithmetic, 1)


# --- float32 files whose weights are rounded first --------------------------------------------

CONVERTING = MIXED_BFLOAT16.converting


@pytest.mark.parametrize(
    ("op", "x", "least"),
    [
        (row(1002.0), 1.0, 2 * 1002 * U),
        (row(0.0, bias=1002.0), 1.0, 3 * 1002 * U),
        (Scale(double(3.0), double(0.0)), 1000.0, 2 * 3000 * U),
        (Scale(double(1.0), double(1002.0)), 0.0, 2 * 1002 * U),
        (norm(0.0), 1e3, 12 * 1000 * U),
        (norm(9.0), 0.0, 12 * 18 * U),
    ],
)
def test_constants_are_rounded_once_more(op: Op, x: float, least: float) -> None:
    assert own(op, x, arithmetic=CONVERTING) >= least
    assert own(op, x, arithmetic=MIXED_BFLOAT16) <= own(op, x, arithmetic=CONVERTING) - least / 20


def test_a_constant_summand_is_rounded() -> None:
    b = GraphBuilder((1,), dtype=torch.float64)
    graph = b.build(b.add(Constant(double(1002.0)), 0))
    for arithmetic, error in ((CONVERTING, 1002 * U), (MIXED_BFLOAT16, 0.0), (FLOAT32, 0.0)):
        assert float(last(graph, 0.0, arithmetic=arithmetic).error) == error


@pytest.mark.parametrize("arithmetic", [MIXED_FLOAT16, MIXED_BFLOAT16], ids=lambda one: one.name)
@pytest.mark.parametrize("name", ["mlp", "convolutional", "residual", "batch norm", "products"])
def test_converted_networks_are_within_the_errors(name: str, arithmetic: Arithmetic) -> None:
    graph = NETWORKS[name](2)
    converted = narrow(graph, arithmetic)
    box = boxes_of(graph, 0.05, 2, arithmetic)
    *_, known = computed_values(graph, box, arithmetic.converting)
    assert bool(known.error.isfinite().all())
    for point in points_of(box, arithmetic, 2):
        exact = exact_values(graph, point)[-1]
        for way in ways(arithmetic, 2):
            assert not exceeds(way.values(converted, point)[-1], exact, known.error[0])


def test_errors_are_far_below_those_of_the_plain_arithmetic() -> None:
    generator = torch.Generator().manual_seed(0)

    def weights(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(torch.float16).double()

    graph = chain((100,), Linear(weights(100, 100)), Relu(), Linear(weights(3, 100)))
    mixed, plain = (
        float(last(graph, *[0.5] * 100, arithmetic=one).error.max())
        for one in (MIXED_FLOAT16, FLOAT16)
    )
    assert mixed < plain / 20

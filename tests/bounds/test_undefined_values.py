"""Values that are undefined on a part of the box: no bound of the network may be finite again."""

import random
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.bounds.battery import node_bounds
from tests.outward import assert_just_below
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    StopRule,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
    needed_places,
    optimise,
)
from verify_pipeline.bounds.types import LARGEST
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.portfolio import relu_search
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.network.differences import with_score_differences
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    FUNCTIONS,
    Add,
    Div,
    Elementwise,
    LeakyRelu,
    Linear,
    MatMul,
    MaxPool2d,
    Mul,
    Op,
    Relu,
    Reshape,
    Scale,
    Softmax,
)
from verify_pipeline.problem import Box, Decision, Reason, Specification, Status

BUDGET = MemoryBudget(bytes=1 << 22)
SETTINGS = OptimiseSettings(iterations=2)
WIDTH = 4

Build = Callable[[GraphBuilder, int], int]


def _function(name: str) -> Build:
    return lambda b, x: b.add(Elementwise(name), x)


def _scaled(factor: float, shift: float = 0.0) -> Scale:
    return Scale(torch.tensor(factor).double(), torch.tensor(shift).double())


def _normalised(b: GraphBuilder, x: int) -> int:
    """``x / √(x²)``, a normalisation by a deviation that is 0 in the middle of the box."""
    deviation = b.add(Elementwise("sqrt"), b.add(Elementwise("square"), x))
    return b.add(Div(), x, deviation)


def _infinite_difference(b: GraphBuilder, x: int) -> int:
    """``e^(x + 400) - e^(x + 400)``: infinity less infinity in float32, and 0 in exact numbers."""
    grown = b.add(Elementwise("exp"), b.add(_scaled(1.0, 400.0), x))
    return b.add(Linear(torch.zeros(WIDTH, WIDTH).double()), grown)


def _huge(b: GraphBuilder, x: int) -> int:
    """An affine value beyond float32's range, and small again behind."""
    for factor in (1e30, 1e30, 1e-30, 1e-30):
        x = b.add(_scaled(factor, factor), x)
    return x


UNDEFINED: dict[str, tuple[Build, float, float]] = {
    "log": (_function("log"), -0.25, 1.0),
    "log of zero": (_function("log"), 0.0, 1.0),
    "sqrt": (_function("sqrt"), -0.25, 1.0),
    "reciprocal": (_function("reciprocal"), -0.5, 1.0),
    "reciprocal of zero": (_function("reciprocal"), 0.0, 1.0),
    "normalisation": (_normalised, -0.5, 0.5),
    "exp beyond float64": (_function("exp"), 1.0, 2000.0),
    "exp beyond float32": (_function("exp"), 1.0, 100.0),
    "square beyond float32": (_function("square"), 1.0, 1e20),
    "infinite difference": (_infinite_difference, -1.0, 1.0),
    "huge": (_huge, -1.0, 1.0),
}
"""What is not defined, or overflows, on a part of an interval."""


def _flattened(b: GraphBuilder, x: int) -> int:
    return b.add(Reshape((WIDTH,)), x)


def _clip(b: GraphBuilder, x: int) -> int:
    below = b.add(Relu(), b.add(_scaled(-1.0, 1.0), b.add(Relu(), x)))
    return b.add(_scaled(-1.0, 1.0), below)


def _short_softmax(b: GraphBuilder, x: int) -> int:
    rows = b.add(Reshape((2, WIDTH // 2)), x)
    return _flattened(b, b.add(Softmax(1), rows))


def _pooled(b: GraphBuilder, x: int) -> int:
    plane = b.add(Reshape((1, 2, 2)), x)
    pooled = b.add(Reshape((1,)), b.add(MaxPool2d((2, 2), (2, 2)), plane))
    return b.add(Linear(torch.ones(WIDTH, 1).double()), pooled)


def _squared_matrix(b: GraphBuilder, x: int) -> int:
    plane = b.add(Reshape((2, 2)), x)
    return _flattened(b, b.add(MatMul(), plane, plane))


FOLLOWERS: dict[str, Build] = {
    **{name: _function(name) for name in FUNCTIONS},
    "clip": _clip,
    "leaky": lambda b, x: b.add(LeakyRelu(0.1), x),
    "softmax": lambda b, x: b.add(Softmax(0), x),
    "softmax of differences": _short_softmax,
    "max pooling": _pooled,
    "times itself": lambda b, x: b.add(Mul(), x, x),
    "matrix product": _squared_matrix,
    "not looked at": lambda b, x: b.add(Linear(torch.zeros(WIDTH, WIDTH).double()), x),
}
"""What may stand behind; most answer with finite numbers whatever they are given."""


def network(undefined: Build, follower: Build) -> Graph:
    b = GraphBuilder((WIDTH,), dtype=torch.float64)
    mixed = b.add(Linear(torch.eye(WIDTH).double() * 0.5, torch.zeros(WIDTH).double()), 0)
    x = follower(b, undefined(b, b.add(_scaled(2.0), mixed)))
    x = b.add(Elementwise("sigmoid"), x)
    return with_score_differences(b.build(b.add(Linear(torch.ones(3, WIDTH).double()), x)))


def boxes(lower: float, upper: float) -> Box:
    """Three of which the middle one alone reaches all of [lower, upper], in one input."""
    start, end = torch.full((3, WIDTH), upper * 0.5), torch.full((3, WIDTH), upper * 0.5)
    start[1, 2], end[1, 2] = lower, upper
    return Box(start.double(), end.double())


def specification(count: int) -> Specification:
    """Rows that any finite bound of three sums of sigmoids proves."""
    rows = torch.eye(3, dtype=torch.float64).expand(count, 3, 3)
    return Specification(rows, torch.full((count, 3), 100.0, dtype=torch.float64))


def ascended(graph: Graph, box: Box, spec: Specification, bounds: NodeBounds) -> Tensor:
    never = StopRule(torch.full((len(box),), torch.inf, dtype=torch.float64))
    return optimise(graph, box, spec, bounds, SETTINGS, until=never)[0].lower


def all_margins(graph: Graph, box: Box, spec: Specification) -> dict[str, Tensor]:
    found = {"interval": interval_margins(graph, box, spec)}
    for method in ("interval", "crown", "alpha"):
        bounds = node_bounds(method, graph, box, SETTINGS).only(needed_places(graph))
        found[f"crown, {method}"] = crown_margins(graph, box, spec, bounds).lower
        if method == "crown":
            found["optimised"] = ascended(graph, box, spec, bounds)
    return found


@pytest.mark.parametrize("name", UNDEFINED)
@pytest.mark.parametrize("follower", FOLLOWERS)
def test_nothing_is_known_behind_an_undefined_value(name: str, follower: str) -> None:
    undefined, lower, upper = UNDEFINED[name]
    generator = torch.Generator().manual_seed(sum(map(ord, name + follower)))
    wider = (1 + torch.rand(2, generator=generator)).tolist()
    box = boxes(lower * wider[0], upper * wider[1])
    graph, spec = network(undefined, FOLLOWERS[follower]), specification(3)
    for method, margins in all_margins(graph, box, spec).items():
        assert (margins[1] == -torch.inf).all(), method
    root = node_bounds("crown", graph, box[1:2], SETTINGS).only(needed_places(graph))
    (found,) = searched(graph, box[1:2], spec[1:2], root)
    assert (found.status, found.reason) == (Status.UNKNOWN, Reason.NOT_FINITE)


def searched(graph: Graph, box: Box, spec: Specification, root: NodeBounds) -> list[Decision]:
    """What splits of ReLUs decide in ten seconds."""
    deadlines = Deadlines.alone(torch.full((len(box),), 10.0, dtype=torch.float64))
    query = SearchQuery(graph, box, spec, spec, root, deadlines)
    return list(relu_search(query, SearchSettings(), lambda *_: None, time.perf_counter).run())


def random_graph(seed: int) -> Graph:
    """A few operations of any kind, in any order, and a saturating one behind."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    b, values = GraphBuilder((3,), dtype=torch.float64), [0]
    for _ in range(chance.randint(3, 8)):
        x, y = chance.choice(values[-3:]), chance.choice(values)
        steep = chance.choice([1.0, 1.0, 5.0, 1e10])
        linear = Linear(torch.randn(3, 3).double() * steep, torch.randn(3).double())
        functions = [Elementwise(name) for name in chance.sample(list(FUNCTIONS), 4)]
        op: Op = chance.choice([linear, *functions, Relu(), Softmax(0), Mul(), Div(), Add()])
        both = isinstance(op, Mul | Div | Add)
        values.append(b.add(op, x, y) if both else b.add(op, x))
    last = b.add(Elementwise(chance.choice(["sigmoid", "tanh", "atan"])), values[-1])
    return b.build(b.add(Linear(torch.randn(3, 3).double()), last))


def is_undefined(graph: Graph, points: Tensor) -> Tensor:
    """Where a value is NaN, infinite or beyond float32, in float64 or float32; ``N`` booleans."""
    values = graph.values(points) + graph.to(torch.float32).values(points.float())
    wrong = [~(value.double().abs() <= LARGEST) for value in values]
    return torch.stack([value.flatten(1).any(1) for value in wrong]).any(0)


def test_bounds_of_random_networks_are_finite_only_where_all_is_defined() -> None:
    """Against dense sampling of boxes of four sizes: NaN anywhere, and nothing is known."""
    radius = torch.tensor([0.01, 0.1, 0.4, 1.0], dtype=torch.float64)[:, None]
    bounded, unknown = 0, 0
    for seed in range(80):
        graph = random_graph(seed)
        centre = torch.rand(4, 3).double() * 1.5
        box, spec = Box(centre - radius, centre + radius), specification(4)
        shares = torch.rand(2000, 4, 3).double()
        shares[:500] = shares[:500].round()
        points = (box.lower + shares * (box.upper - box.lower)).clamp(box.lower, box.upper)
        points = points.flatten(0, 1)
        undefined = is_undefined(graph, points).view(2000, 4).any(0)
        least = spec.values(graph(points).view(2000, 4, 3).amin(0))
        for method, margins in all_margins(graph, box, spec).items():
            finite = torch.isfinite(margins).all(1)
            assert not bool((finite & undefined).any()), (seed, method)
            assert bool((margins <= least)[finite].all()), (seed, method)
            bounded, unknown = bounded + int(finite.sum()), unknown + int((~finite).sum())
    assert bounded > unknown > 100


@pytest.mark.parametrize("unread", [False, True])
def test_an_affine_path_does_not_pass_what_overflows(unread: bool) -> None:
    """Values beyond float32's range on the way to a margin that no relaxation is a part of."""
    builder = GraphBuilder((1,), dtype=torch.float64)
    huge = builder.add(_scaled(1e30), builder.add(_scaled(1e30), 0))
    small = builder.add(_scaled(1e-30), builder.add(_scaled(1e-30), huge))
    if unread:
        builder.add(Relu(), small)
        beside = builder.add(Linear(torch.zeros(1, 1).double()), builder.add(Relu(), small))
        small = builder.add(Add(), small, beside)
    builder.add(Linear(torch.ones(1, 1).double(), torch.full((1,), 5.0).double()), small)
    graph = builder.build()
    box = Box(torch.tensor([[0.5], [0.0]]).double(), torch.tensor([[1.0], [1e-25]]).double())
    spec = Specification(torch.ones(2, 1, 1).double(), torch.zeros(2, 1).double())
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), BUDGET)
    bounds = bounds.only(needed_places(graph))
    found = crown_margins(graph, box, spec, bounds)
    assert_just_below(found.lower, [[-torch.inf], [5.0]])
    lower = optimise(graph, box, spec, bounds, SETTINGS)[0].lower
    again = crown_margins(graph, box, spec, bounds, optimise(graph, box, spec, bounds, SETTINGS)[1])
    assert_just_below(again.lower, [[-torch.inf], [5.0]])
    assert_just_below(lower[1], [5.0])
    ends = searched(graph, box, spec, bounds)
    statuses = {one.place: (one.status, one.reason) for one in ends}
    assert statuses[0] == (Status.UNKNOWN, Reason.NOT_FINITE)
    assert statuses[1][0] is Status.VERIFIED

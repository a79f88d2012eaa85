"""One instance's network without inactive neurons against the whole network."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from verify_pipeline.bounds import MemoryBudget, NodeBounds, crown_intermediate, interval_bounds
from verify_pipeline.bounds.intermediate import active_subnetwork as live
from verify_pipeline.bounds.intermediate import neuron_batches as layouts
from verify_pipeline.bounds.intermediate.active_subnetwork import (
    Put,
    Take,
    active_subnetwork,
    where_it_pays,
)
from verify_pipeline.bounds.intermediate.sparse_convolution import (
    Sparse,
    fits_sparse,
    sparse_convolution,
)
from verify_pipeline.bounds.linear.adjoint import adjoint
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph, linearise
from verify_pipeline.bounds.relaxations.relu import lines, without_choice
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Conv2d,
    LeakyRelu,
    Linear,
    LinearOp,
    Op,
    Relu,
    Reshape,
    Scale,
    size,
)
from verify_pipeline.problem import Box

F64 = torch.float64

needs_products = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="this torch has no fast sparse products"
)

# kernel, stride, padding, height and width of the input
CASES = (
    ((3, 3), (1, 1), (1, 1), (6, 5)),
    ((4, 4), (2, 2), (1, 1), (8, 8)),
    ((3, 5), (2, 2), (0, 2), (9, 10)),
    ((1, 2), (3, 2), (0, 1), (7, 6)),
    ((5, 3), (3, 4), (2, 0), (11, 12)),
)


def conv(out: int, into: int, kernel: int, stride: int = 1, padding: int = 0) -> Conv2d:
    weight = torch.randn(out, into, kernel, kernel) / (into * kernel**2) ** 0.5
    bias = torch.randn(out) / 2 - 0.2
    # channels that no input of the boxes below makes active
    bias[::3] = -20.0
    return Conv2d(weight * 1.5, bias, (stride,) * 2, (padding,) * 2)


def network(activation: Op, between: Callable[[int], Op | None], dead: bool = False) -> Graph:
    """Convolutions with inactive channels and neurons, and linear layers behind them."""
    b = GraphBuilder((2, 10, 10))
    x = b.add(Scale(torch.rand(2, 1, 1) + 0.5, torch.randn(2, 1, 1) / 4), 0)
    x = b.add(activation, b.add(conv(5, 2, 3, 1, 1), x))
    for operation in (conv(6, 5, 4, 2, 1), conv(7, 6, 3)):
        x = b.add(operation, x)
        more = between(b.shape(x)[0])
        x = b.add(activation, x if more is None else b.add(more, x))
    x = b.add(Reshape((size(b.shape(x)),)), x)
    for width in (20, 20):
        before = b.shape(x)[0]
        bias = torch.randn(width) - (60.0 if dead else 0.0)
        x = b.add(activation, b.add(Linear(torch.randn(width, before) / before**0.5 * 3, bias), x))
    return b.build(b.add(Linear(torch.randn(3, 20), torch.randn(3)), x)).to(F64)


NETWORKS: dict[str, Callable[[], Graph]] = {
    "plain": lambda: network(Relu(), lambda _: None),
    "leaky": lambda: network(LeakyRelu(0.2), lambda _: None),
    "dead": lambda: network(Relu(), lambda _: None, dead=True),
    "scaled": lambda: network(Relu(), lambda c: Scale(torch.rand(c, 1, 1), torch.randn(c, 1, 1))),
    "pooled": lambda: network(Relu(), lambda _: AvgPool2d((2, 2), (1, 1))),
    "grouped": lambda: network(
        Relu(), lambda c: Conv2d(torch.randn(c, 1, 2, 2), None, (1, 1), (0, 0), (1, 1), c)
    ),
}


def bounds_of(graph: Graph, box: Box) -> NodeBounds:
    return crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())


@pytest.fixture(params=NETWORKS)
def problem(request: pytest.FixtureRequest) -> tuple[Graph, Box]:
    torch.manual_seed(3)
    graph = NETWORKS[request.param]()
    return graph, Box.around(torch.rand(4, 2, 10, 10, dtype=F64), 0.03)


@needs_products
def test_bounds_are_those_of_the_whole_network(
    problem: tuple[Graph, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, box = problem
    made: list[LinearGraph] = []

    def spy(linear: LinearGraph, place: int) -> LinearGraph:
        made.append(active_subnetwork(linear, place))
        return made[-1]

    def pays(linear: LinearGraph, place: int, functionals: Tensor) -> Tensor:
        # the last instance goes through the whole network in any case
        return (functionals > 0) & (torch.arange(len(functionals)) < 3)

    monkeypatch.setattr(layouts, "receptive_field", lambda *_: None)
    monkeypatch.setattr(layouts, "active_subnetwork", spy)
    monkeypatch.setattr(layouts, "where_it_pays", lambda _, __, counts: counts < 0)
    whole = bounds_of(graph, box)
    assert not made
    monkeypatch.setattr(layouts, "where_it_pays", pays)
    found = bounds_of(graph, box)
    assert len(made) >= 6
    kinds = {type(node.op) for linear in made for node in linear.graph.nodes}
    assert kinds & {Sparse, Take}
    for side, expected in ((found.lower, whole.lower), (found.upper, whole.upper)):
        for place, bound in side.items():
            torch.testing.assert_close(bound, expected[place], rtol=1e-9, atol=1e-9)
    # bounds hold
    points = box.lower + (box.upper - box.lower) * torch.rand(200, *box.lower.shape, dtype=F64)
    for place, value in enumerate(graph.values(points.flatten(0, 1))):
        values = value.unflatten(0, (200, 4))
        assert (values >= found.lower[place] - 1e-9).all()
        assert (values <= found.upper[place] + 1e-9).all()


@needs_products
def test_a_live_network_computes_what_the_whole_one_does(problem: tuple[Graph, Box]) -> None:
    graph, box = problem
    place = len(graph.nodes) - 1
    linear = linearise(graph, bounds_of(graph, box))
    linear = LinearGraph(graph, without_choice(linear.relaxations))
    for n in range(4):
        live = active_subnetwork(linear[slice(n, n + 1)], place)
        low, high = box.lower[n], box.upper[n]
        points = low + (high - low) * torch.rand(50, *low.shape, dtype=F64)
        torch.testing.assert_close(live.graph(points), graph(points), rtol=1e-9, atol=1e-9)
        if not any(isinstance(node.op, LeakyRelu) for node in graph.nodes):
            relus = [node for node in graph.nodes if isinstance(node.op, Relu)]
            fewer = [node for node in live.graph.nodes if isinstance(node.op, Relu)]
            elements = sum(size(node.shape) for node in fewer)
            assert elements < 0.7 * sum(size(node.shape) for node in relus)


@needs_products
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("kernel", "stride", "padding", "plane"), CASES)
def test_sparse_convolutions_are_rows_and_columns(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    plane: tuple[int, int],
    share: float,
) -> None:
    torch.manual_seed(1)
    op = Conv2d(torch.randn(3, 4, *kernel), torch.randn(3), stride, padding)
    x = torch.randn(2, 4, *plane)
    y = op(x)
    one_hot = torch.eye(y[0].numel()).view(-1, *y.shape[1:])
    whole = adjoint.dispatch(LinearOp)(op, one_hot, x.shape[1:]).flatten(1).T
    kept = (torch.rand(x[0].numel()) < 0.6).nonzero().flatten()
    wanted = (torch.rand(y[0].numel()) < share).nonzero().flatten()
    with torch.sparse.check_sparse_tensor_invariants():
        found = sparse_convolution(op, x.shape[1:], y.shape[1:], kept, wanted)
        every = sparse_convolution(op, x.shape[1:], y.shape[1:], None, wanted)
    assert torch.equal(found.matrix.to_dense(), whole[kept][:, wanted])
    assert torch.equal(every.matrix.to_dense(), whole[:, wanted])
    torch.testing.assert_close(every(x), y.flatten(1)[:, wanted], rtol=1e-4, atol=1e-4)
    rows = torch.randn(5, len(wanted))
    pulled = adjoint(found, rows, (len(kept),))
    torch.testing.assert_close(pulled, rows @ whole[kept][:, wanted].T, rtol=1e-4, atol=1e-4)


def test_putting_and_taking_are_each_others_adjoints() -> None:
    places, x = torch.tensor([1, 4]), torch.tensor([[2.0, 3.0]])
    whole = torch.tensor([[[0.0, 2.0, 0.0], [0.0, 3.0, 0.0]]])
    assert torch.equal(Put(places, (2, 3))(x), whole)
    assert torch.equal(adjoint(Take(places), x, (2, 3)), whole)
    assert torch.equal(Take(places)(whole), x)
    assert torch.equal(adjoint(Put(places, (2, 3)), whole, (2,)), x)


@needs_products
def test_which_instances_it_pays_for() -> None:
    b = GraphBuilder((1, 4, 4))
    x = b.add(Relu(), b.add(Conv2d(torch.randn(2, 1, 3, 3), None, (1, 1), (1, 1)), 0))
    graph = b.build(b.add(Linear(torch.randn(5, 32)), b.add(Reshape((32,)), x))).to(F64)
    # a quarter is live: 288 multiplications, all candidates, of which 216 are spared
    upper = torch.full((2, 2, 4, 4), -1.0, dtype=F64)
    upper[:, 0, :2] = 1.0
    relaxations = without_choice({2: lines(0.0, torch.full_like(upper, -2.0), upper)})
    linear, place = LinearGraph(graph, relaxations), len(graph.nodes) - 1
    least = 64 * 288 // 216 + 1
    functionals = torch.tensor([least - 1, least])
    assert where_it_pays(linear, place, functionals).tolist() == [False, True]
    # neither where slopes are free, nor where the network is no chain
    free = LinearGraph(graph, {2: lines(0.0, torch.full_like(upper, -2.0), upper)})
    assert not where_it_pays(free, place, functionals).any()
    b = GraphBuilder((1, 4, 4))
    x = b.add(Relu(), b.add(Conv2d(torch.randn(2, 1, 3, 3), None, (1, 1), (1, 1)), 0))
    x = b.add(Reshape((32,)), b.add(Add(), x, x))
    branched = b.build(b.add(Linear(torch.randn(5, 32)), x)).to(F64)
    assert not where_it_pays(LinearGraph(branched, relaxations), place + 1, functionals).any()


def test_which_convolutions_fit() -> None:
    weight = torch.randn(2, 2, 3, 3)
    assert fits_sparse(Conv2d(weight)) == torch.backends.mkl.is_available()
    assert not fits_sparse(Conv2d(weight, dilation=(2, 1)))
    assert not fits_sparse(Conv2d(weight[:, :1], groups=2))


@needs_products
def test_no_network_is_made_once_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    graph = NETWORKS["plain"]()
    box = Box.around(torch.rand(4, 2, 10, 10, dtype=F64), 0.03)
    made: list[int] = []

    def spy(linear: LinearGraph, place: int) -> LinearGraph:
        made.append(place)
        return active_subnetwork(linear, place)

    monkeypatch.setattr(layouts, "receptive_field", lambda *_: None)
    monkeypatch.setattr(layouts, "active_subnetwork", spy)
    monkeypatch.setattr(layouts, "where_it_pays", lambda _, __, counts: counts > 0)
    start = interval_bounds(graph, box)
    for most in (0, 1, 2):  # time is up once so many are made
        made.clear()
        found = crown_intermediate(graph, box, start, MemoryBudget(), lambda: len(made) < most)  # noqa: B023
        assert len(made) == most
        assert all((found.lower[i] >= start.lower[i]).all() for i in start.lower)


def test_matrices_out_of_proportion_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many functionals there are: a network of 64 x 64 pixels took 15 s over its time."""
    graph = NETWORKS["plain"]()
    box = Box.around(torch.rand(2, 2, 10, 10, dtype=F64), 0.03)
    known = without_choice(linearise(graph, interval_bounds(graph, box)).relaxations)
    linear, place = LinearGraph(graph, known), len(graph.nodes) - 1
    many = torch.tensor([10**6, 10**6])
    pays = torch.backends.mkl.is_available()
    assert where_it_pays(linear, place, many).tolist() == [pays, pays]
    monkeypatch.setattr(live, "_MOST", 1000)
    assert not where_it_pays(linear, place, many).any()


def test_nobody_is_asked_what_is_wanted_once_time_is_up() -> None:
    """The answer takes bounds of the margins, layer by layer."""
    torch.manual_seed(3)
    graph = NETWORKS["plain"]()
    box = Box.around(torch.rand(4, 2, 10, 10, dtype=F64), 0.03)
    asked: list[int] = []

    def wanted(bounds: NodeBounds) -> Tensor:
        asked.append(len(bounds))
        return torch.ones(4, dtype=torch.bool)

    start = interval_bounds(graph, box)
    crown_intermediate(graph, box, start, MemoryBudget(), wanted=wanted)
    assert len(asked) > 1
    asked.clear()
    crown_intermediate(graph, box, start, MemoryBudget(), lambda: False, wanted=wanted)
    assert not asked

"""Bounds of outputs and of rows: sound, as tight as the method says, never NaN."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.outward import assert_just_above, assert_just_below
from verify_pipeline.certify import output_bounds as module
from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.certify.output_bounds import METHODS, OutputBounds, output_bounds
from verify_pipeline.errors import ConfigError, NetworkError
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.network import zoo
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Concat, Elementwise, Relu, Slice
from verify_pipeline.onnx import Network, network_from_module
from verify_pipeline.problem import Box, Specification

SHAPE = (1, 6, 6)
CPU = torch.device("cpu")
ROOM = 1 << 30
ROUNDING = 1e-12


class Residual(nn.Module):
    """A convolution around which its input goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Linear(108, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        y: Tensor = self.last((x + self.second(x)).relu().flatten(1))
        return y


MODULES: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4)
    ),
    "residual": Residual,
    "pool": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    ),
    "smooth": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 6), nn.Sigmoid(), nn.Linear(6, 4)
    ),
    "softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Softmax(1)),
    "affine": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4)),
}


@pytest.fixture(params=MODULES, scope="module")
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(1)
    return network_from_module(MODULES[request.param](), SHAPE)


@pytest.fixture(scope="module")
def mlp() -> Network:
    torch.manual_seed(1)
    return network_from_module(MODULES["mlp"](), SHAPE)


def boxes(count: int = 5) -> Box:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)
    widths = torch.linspace(0, 0.2, count, dtype=torch.float64).view(-1, 1, 1, 1)
    return Box.around(images, widths)


def random_rows(count: int, rows: int = 3, outputs: int = 4) -> Specification:
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(count, rows, outputs, generator=generator, dtype=torch.float64)
    return Specification(matrix, torch.randn(count, rows, generator=generator).double())


def of(
    network: Certifiable, box: Box, spec: Specification, method: str, room: int = ROOM
) -> Tensor:
    """Lower and upper bounds, ``2 x N x S``."""
    found = output_bounds(network, box, spec, method, CPU, room)
    assert found.lower.dtype == found.upper.dtype == torch.float64
    assert not bool(found.lower.isnan().any() or found.upper.isnan().any())
    assert bool((found.lower <= found.upper).all())
    return torch.stack([found.lower, found.upper])


@pytest.mark.parametrize("method", METHODS)
def test_values_at_sampled_points_lie_inside(network: Network, method: str) -> None:
    box = boxes()
    spec = random_rows(len(box))
    lower, upper = of(network, box, spec, method)
    assert bool(torch.isfinite(lower).all() and torch.isfinite(upper).all())
    share = torch.rand(400, *box.lower.shape, generator=torch.Generator().manual_seed(3)).double()
    share[:200] = share[:200].round()
    points = box.lower + share * (box.upper - box.lower)
    outputs = network.graph(points.flatten(0, 1)).unflatten(0, points.shape[:2])
    values = torch.einsum("nsk,cnk->cns", spec.rows, outputs) + spec.offsets
    assert bool((values >= lower).all() and (values <= upper).all())


def test_each_method_is_at_least_as_tight_as_the_one_before(network: Network) -> None:
    box = boxes()
    spec = random_rows(len(box))
    found = [of(network, box, spec, method) for method in METHODS]
    for looser, tighter in pairwise(found):
        assert bool((tighter[0] >= looser[0] - ROUNDING).all())
        assert bool((tighter[1] <= looser[1] + ROUNDING).all())


def test_methods_differ() -> None:
    torch.manual_seed(1)
    network = network_from_module(MODULES["mlp"](), SHAPE)
    box = boxes()[3:]
    ibp, crown, alpha = (of(network, box, random_rows(2), method) for method in METHODS)
    for looser, tighter in ((ibp, crown), (crown, alpha)):
        assert bool(((tighter[1] - tighter[0]) < (looser[1] - looser[0])).all())


def test_a_point_has_its_value_as_both_bounds(network: Network) -> None:
    box = boxes(1)
    value = network.graph(box.lower)
    spec = Specification(torch.eye(4).double().unsqueeze(0), torch.zeros(1, 4).double())
    for method in METHODS:
        lower, upper = of(network, box, spec, method)
        assert_just_below(lower, value)
        assert_just_above(upper, value)


def test_by_hand() -> None:
    # y = relu(a + b) + relu(a - b) over [-1, 1]²: each ReLU's input is in [-2, 2]
    first, last = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        last.weight.fill_(1.0)
    network = network_from_module(nn.Sequential(first, nn.ReLU(), last), (2,))
    box = Box(torch.full((1, 2), -1.0).double(), torch.ones(1, 2).double())
    spec = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    # intervals: 0 to 2 + 2; CROWN's upper line z/2 + 1 of each adds up to a + 2
    for method, most in (("ibp", 4.0), ("crown", 3.0)):
        lower, upper = of(network, box, spec, method)
        assert_just_below(lower, [[0.0]])
        assert_just_above(upper, [[most]])


def test_crown_is_at_least_as_tight_as_that_of_auto_lirpa() -> None:
    torch.manual_seed(1)
    made = MODULES["residual"]().eval()
    network, box = network_from_module(made, SHAPE), boxes()
    spec = random_rows(len(box))
    theirs = AutoLirpaBounder(made, SHAPE).crown(box.to(torch.float32), spec.rows.float())
    ours = of(network, box, spec, "crown")[0]
    assert bool((ours >= theirs.detach() + spec.offsets - 1e-5).all())
    # and not by much: the same method
    assert float((ours - theirs.detach() - spec.offsets)[1].abs().max()) < 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_small_batches_give_the_same(
    mlp: Network, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, spec = boxes(5), random_rows(5, rows=3)
    whole = of(mlp, box, spec, method)
    # a kilobyte is less than one functional: row by row, box by box
    assert_same = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
    assert_same(of(mlp, box, spec, method, 1 << 10), whole)
    monkeypatch.setattr(module, "usual_batch", lambda device: 2)
    assert_same(of(mlp, box, spec, method), whole)


@pytest.mark.parametrize("method", METHODS)
def test_rows_for_all_boxes_are_those_of_each(mlp: Network, method: str) -> None:
    box, one = boxes(3), random_rows(1)
    each = Specification(one.rows.repeat(3, 1, 1), one.offsets.repeat(3, 1))
    assert torch.equal(of(mlp, box, one, method), of(mlp, box, each, method))


def test_memory_that_runs_out_makes_batches_smaller(
    mlp: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, seen = METHODS["crown"], []

    def failing(
        subject: object, box: Box, spec: Specification, neurons: object
    ) -> Tensor:  # memory for one box only
        seen.append(len(box))
        if len(box) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual.rows(subject, box, spec, neurons)  # type: ignore[arg-type]

    monkeypatch.setitem(module.METHODS, "crown", replace(usual, rows=failing))
    box, spec = boxes(4), random_rows(4)
    room = 1 << 26
    found = of(mlp, box, spec, "crown", room)
    assert max(seen) > 1
    monkeypatch.undo()
    torch.testing.assert_close(found, of(mlp, box, spec, "crown", room))


def test_too_little_memory_for_anything_is_an_error(
    mlp: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Tensor:
        raise MemoryError

    broken = replace(METHODS["ibp"], rows=failing)
    monkeypatch.setitem(module.METHODS, "ibp", broken)
    with pytest.raises(ConfigError, match="enough memory for one box"):
        of(mlp, boxes(), random_rows(5), "ibp")


@dataclass(frozen=True)
class InMemory:
    """A graph as a network that no file is compared with."""

    graph: Graph
    path: Path | None = None
    digest: str = "0" * 64
    metadata: Mapping[str, str] = field(default_factory=dict)
    input_dtype: torch.dtype = torch.float32
    compared: bool = False
    written: None = None

    @property
    def replay(self) -> Callable[[Tensor], Tensor]:
        return self.graph.to(torch.float32)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_known_where_a_value_may_be_undefined(method: str) -> None:
    b = GraphBuilder((2,), dtype=torch.float64)
    first, rest = b.add(Slice(0, 0, 1), 0), b.add(Slice(0, 1, 2), 0)
    total = b.add(Add(), b.add(Elementwise("log"), first), b.add(Relu(), rest))
    network = InMemory(b.build(b.add(Concat(0), total, rest)))
    box = Box(
        torch.tensor([[-0.1, -0.3], [0.1, -0.3]]).double(),
        torch.tensor([[0.2, 0.3], [0.2, 0.3]]).double(),
    )
    spec = Specification(torch.eye(2).double().expand(2, -1, -1), torch.zeros(2, 2).double())
    lower, upper = of(network, box, spec, method)
    # of the whole instance: also of the output that the logarithm is no part of
    assert bool((lower[0] == -torch.inf).all() and (upper[0] == torch.inf).all())
    assert bool(torch.isfinite(lower[1]).all() and torch.isfinite(upper[1]).all())


def test_a_graph_that_is_not_the_files_is_refused(mlp: Network) -> None:
    torch.manual_seed(2)
    other = network_from_module(MODULES["mlp"](), SHAPE)
    with pytest.raises(NetworkError, match="a graph that computes what onnxruntime does"):
        of(replace(mlp, graph=other.graph), boxes(), random_rows(5), "ibp")


@pytest.mark.parametrize("name", ["cnn7", "vit"])
def test_networks_of_the_zoo(name: str) -> None:
    torch.manual_seed(0)
    shape = (3, 16, 16)
    made = zoo.build(name, shape, 10, (0.5,) * 3, (0.25,) * 3, 1 / 16, None)
    network = network_from_module(made, shape)
    image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).double()
    spec = Specification(torch.eye(10).double().expand(2, -1, -1), torch.zeros(2, 10).double())
    value = network.graph(image)
    widths = []
    for method in METHODS:
        lower, upper = of(network, Box.around(image, 1 / 255), spec, method)
        assert bool((lower <= value).all() and (value <= upper).all())
        widths.append(float((upper - lower).mean()))
    assert widths[0] > widths[1] >= widths[2]


def test_bounds_on_each_device(mlp: Network, device: torch.device) -> None:
    box, spec = boxes(), random_rows(5)
    found = output_bounds(mlp, box, spec, "alpha-crown", device, ROOM)
    assert found.lower.device.type == device.type
    torch.testing.assert_close(
        torch.stack([found.lower.cpu(), found.upper.cpu()]),
        of(mlp, box, spec, "alpha-crown"),
        rtol=1e-4,
        atol=1e-5,
    )


def test_its_repr_is_a_line() -> None:
    shown = repr(OutputBounds(torch.zeros(3, 10), torch.ones(3, 10)))
    assert shown == "OutputBounds(3 x 10, mean width 1)"

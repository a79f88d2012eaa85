"""The frontier: nothing lost, nothing twice, fair shares; and domains' columns."""

from __future__ import annotations

import torch

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.tree.frontier import Frontier, Subproblems
from verify_pipeline.branching.tree.subproblems import Domains, Neurons, OpenRows, split
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Linear, Relu

COLUMNS = 3
INSTANCES = 8
EVERYBODY = torch.ones(INSTANCES, dtype=torch.bool)
NOTHING_YET = torch.zeros(INSTANCES)


def domains(instance: list[int], lower: list[float], open_row: list[int] | None = None) -> Domains:
    """Domains whose columns tell their bounds; half an instance each."""
    count = len(instance)
    marks = torch.tensor(lower, dtype=torch.float32).unsqueeze(1).expand(count, COLUMNS)
    return Domains(
        instance=torch.tensor(instance, dtype=torch.int64),
        lower=torch.tensor(lower, dtype=torch.float32),
        share=torch.full((count,), 0.5, dtype=torch.float64),
        open_row=torch.tensor(open_row or instance, dtype=torch.int64),
        splits=torch.zeros(count, COLUMNS, dtype=torch.int8),
        alpha=marks.clone(),
        beta=2 * marks,
        below=marks - 1,
        above=marks + 1,
    )


def frontier(instance: list[int], lower: list[float]) -> Frontier[Domains]:
    made = Frontier(domains([0], [0.0]), INSTANCES)
    made.push(domains(instance, lower))
    return made


def pairs(popped: Subproblems) -> list[tuple[int, float]]:
    """Instances and bounds, in order."""
    return list(zip(popped.instance.tolist(), popped.lower.tolist(), strict=True))


def test_the_worst_subproblem_of_each_instance_comes_before_any_second_worst() -> None:
    made = frontier([0, 0, 0, 1, 2, 2], [-9, -8, -7, -1, -3, -2])
    popped = made.pop(4, NOTHING_YET, EVERYBODY)
    assert sorted(pairs(popped)) == [(0, -9.0), (0, -8.0), (1, -1.0), (2, -3.0)]
    assert sorted(pairs(popped)[:3]) == [(0, -9.0), (1, -1.0), (2, -3.0)]


def test_open_rows_of_one_instance_share_its_turn() -> None:
    made = Frontier(domains([0], [0.0]), 2)
    made.push(domains([0, 0, 0, 1], [-1, -5, -4, -2], open_row=[0, 1, 1, 2]))
    popped = made.pop(2, torch.zeros(2), EVERYBODY[:2])
    assert sorted(popped.open_row.tolist()) == [1, 2]


def test_the_instance_that_was_served_least_comes_first() -> None:
    made = frontier([0, 1, 2], [-1, -2, -3])
    served = torch.tensor([2.0, 0.5, 3.0] + [0.0] * 5)
    order = [made.pop(1, served, EVERYBODY).instance.item() for _ in range(3)]
    assert order == [1, 0, 2]


def test_an_instance_that_rests_keeps_its_subproblems() -> None:
    made = frontier([0, 1, 2, 1], [-1, -2, -3, -4])
    going = EVERYBODY.clone()
    going[1] = False
    popped = made.pop(9, NOTHING_YET, going)
    assert sorted(popped.instance.tolist()) == [0, 2]
    assert made.counts.tolist() == [0, 2, 0, 0, 0, 0, 0, 0]
    assert made.shares.tolist() == [0.0, 1.0] + [0.0] * 6


class OnlySome(Subproblems):
    """Those whose bound is below -1 can be split."""

    @property
    def can_be_split(self) -> torch.Tensor:
        return self.lower < -1


def test_what_cannot_be_split_stays_open() -> None:
    lower = torch.tensor([-1.0, -2.0, -0.5])
    some = OnlySome(torch.tensor([0, 0, 1]), lower, torch.ones(3, dtype=torch.float64))
    made = Frontier(some, 2)
    made.push(some)
    assert pairs(made.pop(9, torch.zeros(2), EVERYBODY[:2])) == [(0, -2.0)]
    assert len(made.pop(9, torch.zeros(2), EVERYBODY[:2])) == 0
    assert pairs(made.all()) == [(0, -1.0), (1, -0.5)]


def test_every_subproblem_comes_out_once_with_its_own_columns() -> None:
    generator = torch.Generator().manual_seed(0)
    made, inside, out = frontier([], []), set(), set()
    mark = 0.0
    for _ in range(60):
        count = int(torch.randint(0, 9, (), generator=generator))
        lower = [mark + i for i in range(count)]
        mark += count
        made.push(domains(torch.randint(0, 8, (count,), generator=generator).tolist(), lower))
        inside |= set(lower)
        size = int(torch.randint(1, 7, (), generator=generator))
        popped = made.pop(size, NOTHING_YET, EVERYBODY)
        assert torch.equal(popped.alpha[:, 0], popped.lower)
        assert torch.equal(popped.beta[:, 2], 2 * popped.lower)
        values = set(popped.lower.tolist())
        assert not values & out
        out |= values
        assert len(made) == len(inside) - len(out)
        assert set(made.all().lower.tolist()) == inside - out
        assert float(made.shares.sum()) == 0.5 * len(made)
    assert out <= inside


def test_a_dropped_instance_has_no_subproblem_left() -> None:
    made = frontier([0, 1, 0, 2], [-1, -2, -3, -4])
    made.drop(0)
    assert made.counts.tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert 0 not in made.all().instance
    assert sorted(made.pop(9, NOTHING_YET, EVERYBODY).instance.tolist()) == [1, 2]
    assert len(made) == 0


def test_slots_of_the_dropped_are_used_again() -> None:
    made = frontier([0, 1], [-1, -2])
    made.drop(0)
    made.push(domains([3], [-7]))
    assert sorted(pairs(made.all())) == [(1, -2.0), (3, -7.0)]
    assert made.pop(1, NOTHING_YET, EVERYBODY).alpha[:, 0].tolist() in ([-2.0], [-7.0])


def test_memory_is_counted_by_open_subproblems() -> None:
    made = frontier([0, 1], [-1, -2])
    per_domain = 8 + 4 + 8 + 8 + COLUMNS * (1 + 4 * 4)
    assert made.bytes == 2 * per_domain
    made.drop(1)
    assert made.bytes == per_domain


def test_a_split_halves_the_share() -> None:
    children = split(domains([4, 5], [-1, -2]), torch.tensor([0, 2]))
    assert children.instance.tolist() == [4, 5, 4, 5]
    assert children.share.tolist() == [0.25] * 4
    assert children.splits.tolist() == [[1, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]]


def open_rows() -> OpenRows:
    """Two instances of a network of 2 + 3 neurons: 3 unstable in the first, 1 in the second."""
    builder = GraphBuilder((2,))
    first = builder.add(Relu(), builder.add(Linear(torch.eye(2)), 0))
    builder.add(Relu(), builder.add(Linear(torch.ones(3, 2)), first))
    neurons = Neurons.of(builder.build())
    lower = {1: torch.tensor([[-1.0, 0.0], [-2.0, 1.0]]), 3: torch.tensor([[-1.0, -1.0, -1.0]] * 2)}
    upper = {
        1: torch.tensor([[1.0, 5.0], [-1.0, 2.0]]),
        3: torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]),
    }
    unstable = neurons.unstable(NodeBounds(lower, upper))
    assert unstable.int().tolist() == [[1, 0, 1, 0, 1], [0, 0, 0, 1, 0]]
    return OpenRows.of(neurons, unstable, torch.tensor([[True, False], [True, True]]))


def test_columns_of_open_rows_are_their_unstable_neurons() -> None:
    made = open_rows()
    assert made.instance.tolist() == [0, 1, 1]
    assert made.row.tolist() == [0, 0, 1]
    assert made.columns.tolist() == [[0, 2, 4], [3, 5, 5], [3, 5, 5]]


def test_columns_go_out_to_layers_and_back() -> None:
    made = open_rows()
    open_row = torch.tensor([0, 2])
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
    layers = made.expand(open_row, values)
    assert layers[2].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert layers[4].tolist() == [[2.0, 0.0, 3.0], [0.0, 4.0, 0.0]]
    assert torch.equal(made.compress(open_row, made.neurons.flatten(layers, values)), values)


def test_columns_that_fill_up_cannot_be_split() -> None:
    made = open_rows()
    some = domains([0, 1], [0, 0])
    some.splits[0, 1] = -1
    assert made.undecided(some).tolist() == [[True, False, True], [True, False, False]]

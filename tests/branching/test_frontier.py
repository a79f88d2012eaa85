"""The frontier: nothing lost, nothing twice, fair shares; and domains' columns."""

from __future__ import annotations

import torch

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.tree.frontier import Frontier
from verify_pipeline.branching.tree.subproblems import Domains, Neurons, OpenRows
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Linear, Relu

COLUMNS = 3
ONE_TO_ONE = torch.arange(8)
EVERYBODY = torch.ones(8, dtype=torch.bool)


def domains(open_row: list[int], lower: list[float]) -> Domains:
    count = len(open_row)
    marks = torch.tensor(lower, dtype=torch.float32).unsqueeze(1).expand(count, COLUMNS)
    return Domains(
        torch.tensor(open_row, dtype=torch.int64),
        torch.tensor(lower, dtype=torch.float32),
        torch.zeros(count, COLUMNS, dtype=torch.int8),
        marks.clone(),
        2 * marks,
        marks - 1,
        marks + 1,
    )


def frontier(open_row: list[int], lower: list[float]) -> Frontier:
    made = Frontier(domains([0], [0.0]))
    made.push(domains(open_row, lower))
    return made


def test_the_worst_domain_of_each_instance_comes_before_any_second_worst() -> None:
    popped = frontier([0, 0, 0, 1, 2, 2], [-9, -8, -7, -1, -3, -2]).pop(
        4, ONE_TO_ONE, torch.zeros(8), EVERYBODY
    )
    assert sorted(zip(popped.open_row.tolist(), popped.lower.tolist(), strict=True)) == [
        (0, -9.0),
        (0, -8.0),
        (1, -1.0),
        (2, -3.0),
    ]


def test_goals_of_one_instance_share_its_turn() -> None:
    instance_of = torch.tensor([0, 0, 1])
    popped = frontier([0, 1, 1, 2], [-1, -5, -4, -2]).pop(
        2, instance_of, torch.zeros(2), EVERYBODY[:2]
    )
    assert sorted(popped.open_row.tolist()) == [1, 2]


def test_the_instance_that_was_served_least_comes_first() -> None:
    made = frontier([0, 1, 2], [-1, -2, -3])
    served = torch.tensor([2.0, 0.5, 3.0])
    order = [made.pop(1, torch.arange(3), served, EVERYBODY[:3]).open_row.item() for _ in range(3)]
    assert order == [1, 0, 2]


def test_an_instance_that_rests_keeps_its_domains() -> None:
    made = frontier([0, 1, 2, 1], [-1, -2, -3, -4])
    going = torch.tensor([True, False, True])
    popped = made.pop(9, torch.arange(3), torch.zeros(3), going)
    assert sorted(popped.open_row.tolist()) == [0, 2]
    assert made.counts(torch.arange(3), 3).tolist() == [0, 2, 0]


def test_every_domain_comes_out_once_with_its_own_columns() -> None:
    generator = torch.Generator().manual_seed(0)
    made, inside, out = frontier([], []), set(), set()
    mark = 0.0
    for _ in range(60):
        count = int(torch.randint(0, 9, (), generator=generator))
        lower = [mark + i for i in range(count)]
        mark += count
        made.push(domains(torch.randint(0, 8, (count,), generator=generator).tolist(), lower))
        inside |= set(lower)
        popped = made.pop(
            int(torch.randint(1, 7, (), generator=generator)),
            ONE_TO_ONE,
            torch.zeros(8),
            EVERYBODY,
        )
        assert torch.equal(popped.alpha[:, 0], popped.lower)
        assert torch.equal(popped.beta[:, 2], 2 * popped.lower)
        values = set(popped.lower.tolist())
        assert not values & out
        out |= values
        assert len(made) == len(inside) - len(out)
    assert out <= inside


def test_a_dropped_goal_has_no_domain_left() -> None:
    made = frontier([0, 1, 0, 2], [-1, -2, -3, -4])
    gone = torch.tensor([True, False, False, False, False, False, False, False])
    made.drop(gone)
    assert made.counts(ONE_TO_ONE, 3).tolist() == [0, 1, 1]
    assert len(made.of(gone)) == 0
    assert sorted(made.pop(9, ONE_TO_ONE, torch.zeros(8), EVERYBODY).open_row.tolist()) == [1, 2]
    assert len(made) == 0


def test_memory_is_counted_by_open_domains() -> None:
    made = frontier([0, 1], [-1, -2])
    per_domain = 8 + 4 + COLUMNS * (1 + 4 * 4)
    assert made.bytes == 2 * per_domain


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
    unstable = neurons.unstable(NodeBounds(lower, upper), 2)
    assert unstable.int().tolist() == [[1, 0, 1, 0, 1], [0, 0, 0, 1, 0]]
    return OpenRows.of(neurons, unstable, torch.tensor([[True, False], [True, True]]))


def test_goals_are_the_open_rows_and_columns_the_unstable_neurons() -> None:
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
    assert torch.equal(made.compress(open_row, made.neurons.flatten(layers, 2)), values)


def test_columns_that_fill_up_cannot_be_split() -> None:
    made = open_rows()
    some = domains([0, 1], [0, 0])
    some.splits[0, 1] = -1
    assert made.undecided(some).tolist() == [[True, False, True], [True, False, False]]

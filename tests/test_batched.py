"""Properties of many things: indexed and joined together, whatever they are kept in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds import NodeBounds


@dataclass(frozen=True, eq=False)
class Things(Batched):
    """Numbered ones."""

    number: Tensor
    bounds: NodeBounds
    splits: dict[int, Tensor]


def things(*numbers: int) -> Things:
    """The thing ``n`` has the value ``10 n + place`` at each place."""
    number = torch.tensor(numbers)
    values = {place: (10 * number + place).unsqueeze(1).expand(-1, 2) for place in (1, 4)}
    bounds = NodeBounds(values, {place: value + 0.5 for place, value in values.items()})
    return Things(number, bounds, dict(values))


def same(first: Things, second: Things) -> bool:
    pairs = [
        (first.number, second.number),
        *((first.bounds.lower[p], second.bounds.lower[p]) for p in second.bounds.lower),
        *((first.bounds.upper[p], second.bounds.upper[p]) for p in second.bounds.upper),
        *((first.splits[p], second.splits[p]) for p in second.splits),
    ]
    return all(one.equal(other) for one, other in pairs)


def test_every_property_goes_where_its_thing_goes() -> None:
    some = things(3, 1, 4, 1, 5)
    assert len(some) == 5
    assert same(some[torch.tensor([4, 0, 0])], things(5, 3, 3))
    assert same(some[1:3], things(1, 4))
    assert same(some[some.number == 1], things(1, 1))


def test_parts_are_joined_in_order() -> None:
    assert same(things(3, 1).with_more(things(4)), things(3, 1, 4))
    assert same(Things.cat([things(3), things(), things(1, 4)]), things(3, 1, 4))
    assert len(Things.cat([things(), things()])) == 0


def test_nothing_is_asked_of_an_empty_part() -> None:
    """Its bounds may be of no node."""
    nothing = Things(torch.zeros(0, dtype=torch.long), NodeBounds({}, {}), {})
    assert same(nothing.with_more(things(2, 7)), things(2, 7))
    assert same(things(2, 7).with_more(nothing), things(2, 7))


def test_some_are_written_over_and_the_others_stay() -> None:
    some, index = things(3, 1, 4), torch.tensor([2, 0])
    assert same(some.with_put(index, things(7, 8)), things(8, 1, 7))
    assert same(some, things(3, 1, 4))
    # each property has its own memory, as in a frontier
    own = some.map(torch.clone)
    own.put(index, things(7, 8))
    assert same(own, things(8, 1, 7))


def test_a_change_is_made_of_every_property() -> None:
    doubled = things(3, 1).map(lambda values: 2 * values)
    assert doubled.number.tolist() == [6, 2]
    assert doubled.bounds.upper[4].tolist() == [[69.0, 69.0], [29.0, 29.0]]
    assert doubled.splits[1].tolist() == [[62, 62], [22, 22]]


def test_one_of_them_takes_what_its_properties_do() -> None:
    integers, floats = 8 * (1 + 2 * 2 + 2 * 2), 4 * 2 * 2  # upper bounds are floats
    assert things(3, 1).bytes_each == integers + floats
    assert things(3, 1)[:0].bytes_each == integers + floats

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

"""What stages leave for later ones comes back as it was, or not at all."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from verify_pipeline.bounds import Multipliers, NodeBounds
from verify_pipeline.certify.knowledge import Knowledge, Learned, RowBounds
from verify_pipeline.problem import Specification

CPU = torch.device("cpu")


def learned(first: float, count: int, places: tuple[int, ...] = (2,)) -> Learned:
    values = torch.arange(count, dtype=torch.float64).reshape(count, 1) + first
    alpha = {place: values.float().unsqueeze(1) for place in places}
    return Learned(NodeBounds({1: values}, {1: values + 1}), Multipliers(alpha, {}))


def test_it_puts_together_what_was_learned_in_different_batches() -> None:
    store = Knowledge(1 << 20, CPU)
    store.remember([5, 6], learned(0.0, 2))
    store.remember([7], learned(10.0, 1))
    found = store.recall([7, 5])
    assert found is not None
    assert found.bounds.lower[1].flatten().tolist() == [10.0, 0.0]
    assert found.bounds.upper[1].flatten().tolist() == [11.0, 1.0]
    assert found.multipliers is not None
    assert found.multipliers.alpha[2].flatten().tolist() == [10.0, 0.0]


def test_the_unknown_of_one_makes_it_unknown_of_all() -> None:
    store = Knowledge(1 << 20, CPU)
    store.remember([1], learned(0.0, 1))
    assert store.recall([1, 2]) is None
    store.forget(1)
    assert store.recall([1]) is None
    assert store.recall([]) is None


def test_multipliers_of_different_nodes_are_left_out() -> None:
    store = Knowledge(1 << 20, CPU)
    store.remember([1], learned(0.0, 1))
    store.remember([2], learned(0.0, 1, places=(2, 4)))
    found = store.recall([1, 2])
    assert found is not None
    assert found.multipliers is None


def test_a_full_store_takes_nothing_more_and_forgetting_makes_room() -> None:
    one = 8 + 8 + 4
    store = Knowledge(2 * one, CPU)
    store.remember([1, 2, 3], learned(0.0, 3))
    assert store.recall([1, 2]) is not None
    assert store.recall([3]) is None
    store.remember([1], learned(5.0, 1))
    store.forget(2)
    store.remember([3], learned(9.0, 1))
    found = store.recall([1, 3])
    assert found is not None
    assert found.bounds.lower[1].flatten().tolist() == [5.0, 9.0]


def test_what_does_not_fit_is_kept_without_multipliers() -> None:
    bounds, multipliers = 8 + 8, 4
    store = Knowledge(2 * bounds + multipliers, CPU)
    store.remember([1], replace(learned(0.0, 1), multipliers=None))
    store.remember([2], learned(1.0, 1))
    store.remember([1], learned(2.0, 1))  # in place of the first
    found = store.recall([1, 2])
    assert found is not None
    assert found.multipliers is None
    assert found.bounds.lower[1].flatten().tolist() == [2.0, 1.0]
    both = store.recall([2])
    assert both is not None
    assert both.multipliers is not None
    assert 1 in store
    assert 3 not in store


def test_an_entry_does_not_hold_its_batch_in_memory() -> None:
    store = Knowledge(1 << 20, CPU)
    batch = learned(0.0, 3)
    values = StorageWeakRef(batch.bounds.lower[1].untyped_storage())
    store.remember([1], batch)
    assert not values.expired()
    del batch
    assert values.expired()
    assert store.recall([1]) is not None


def rows(*lower: float) -> RowBounds:
    """Bounds of one row of each instance, with offset 0."""
    values = torch.tensor(lower, dtype=torch.float64).unsqueeze(1)
    return RowBounds(values, torch.zeros_like(values))


def test_bounds_of_rows_are_recalled_if_every_instance_has_them() -> None:
    store = Knowledge(1 << 20, CPU)
    store.remember([1, 2], replace(learned(0.0, 2), rows=rows(-1.0, -2.0)))
    found = store.recall([2, 1])
    assert found is not None
    assert found.rows is not None
    assert found.rows.lower.flatten().tolist() == [-2.0, -1.0]
    store.remember([1], learned(0.0, 1))
    for order in ([1, 2], [2, 1]):
        found = store.recall(order)
        assert found is not None
        assert found.rows is None
        assert found.multipliers is not None


def test_bounds_of_rows_take_memory() -> None:
    one, slopes = 8 + 8 + 4 + 8 + 8, 4
    store = Knowledge(2 * one - slopes - 1, CPU)
    store.remember([1, 2], replace(learned(0.0, 2), rows=rows(-1.0, -2.0)))
    assert store.recall([1]) is not None
    assert store.recall([2]) is None


def with_offset(offset: float) -> Specification:
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    return Specification(one, offset * one[:, :, 0])


def test_rows_with_the_same_offsets_keep_their_bounds() -> None:
    assert float(rows(0.3).of(with_offset(0.0))) == 0.3


@pytest.mark.parametrize("lower", [0.1, -1e-9, 1e16, -3.7e-300])
@pytest.mark.parametrize("offset", [0.1, -0.1, 1e-17, -1e-17, 3e15 + 1, -5e-324])
def test_rows_with_other_offsets_move_with_them_and_are_rounded_down(
    lower: float, offset: float
) -> None:
    for before in (0.0, 0.7, -1e-12):
        known = RowBounds(rows(lower).lower, rows(before).lower)
        found = float(known.of(with_offset(offset)))
        exact = Fraction(lower) + Fraction(offset) - Fraction(before)
        assert Fraction(found) < exact
        assert exact - Fraction(found) <= Fraction(2.0**-50) * (
            abs(Fraction(lower)) + abs(Fraction(offset)) + abs(Fraction(before))
        ) + Fraction(1e-323)


@pytest.mark.parametrize("unknown", [-torch.inf, torch.nan])
def test_what_is_unknown_of_rows_stays_unknown(unknown: float) -> None:
    for offset in (0.0, 1.0, 1e308):
        assert not float(rows(unknown).of(with_offset(offset))) > -torch.inf


def test_a_bound_beyond_all_numbers_is_a_number_below_it() -> None:
    known = RowBounds(rows(1.0).lower, rows(-1e308).lower)
    assert 1e308 < float(known.of(with_offset(1e308))) < torch.inf

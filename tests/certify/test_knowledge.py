"""What stages leave for later ones comes back as it was, or not at all."""

import torch

from verify_pipeline.bounds import Multipliers, NodeBounds
from verify_pipeline.certify.knowledge import Knowledge, Learned

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

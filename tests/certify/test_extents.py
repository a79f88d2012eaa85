"""Sets of images as a ledger writes them."""

import pytest

from verify_pipeline.certify.extents import Extent, asked_again


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        (range(60), "0:60"),
        ([5], "5"),
        ([7, 3, 4, 5, 3], "3:6,7"),
        (range(0, 30, 10), "0,10,20"),
    ],
)
def test_a_set_is_written_and_read_back(indices: list[int], text: str) -> None:
    found = Extent.of(indices)
    assert found.text == text
    assert Extent.parse(text) == found
    assert len(found) == len(set(indices))


def test_what_was_asked_twice_counts_once() -> None:
    first, second = Extent.of(range(180)), Extent.of(range(150, 360))
    assert first.union(second) == Extent.of(range(360))
    assert len(first.union(first)) == 180
    assert first.union(second).covers(second)
    assert not first.covers(second)


@pytest.mark.parametrize(
    "text", ["", "a", "3:3", "5:2", "-1:3", "0:5,3:9", "0:3,3:5", "1,", "9" * 19, "0:60 "]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"places|order"):
        Extent.parse(text)


def test_a_run_of_unknown_extent_is_known_once_all_its_verdicts_are_asked_for() -> None:
    decided, few, all_ = Extent.of([0, 9]), Extent.of(range(5)), Extent.of(range(10))
    assert asked_again(None, decided, few) is None
    assert asked_again(None, decided, all_) == all_
    assert asked_again(few, decided, Extent.of([7])) == Extent.of([0, 1, 2, 3, 4, 7])

"""Fronts, dominated volumes and attainment: computed by hand, and by counting cells."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify_pipeline.sweeps.pareto import (
    Point,
    attainment,
    dominates,
    front_indices,
    hypervolume,
    hypervolume_growth,
    pareto_front,
)

SIZE = 5
points_2d = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=8)
points_3d = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=6)
repetitions = st.lists(points_2d, min_size=1, max_size=4)


def test_dominance() -> None:
    assert dominates((2.0, 1.0), (1.0, 1.0))
    assert not dominates((1.0, 1.0), (1.0, 1.0))
    assert not dominates((2.0, 0.0), (1.0, 1.0))


def test_a_front_by_hand() -> None:
    points = [(0.9, 0.1), (0.5, 0.5), (0.4, 0.4), (0.1, 0.9), (0.5, 0.5), (0.1, 0.8)]
    assert front_indices(points) == (0, 1, 3)
    assert pareto_front(points) == ((0.9, 0.1), (0.5, 0.5), (0.1, 0.9))
    assert pareto_front([]) == ()


def test_hypervolumes_by_hand() -> None:
    assert hypervolume([(3.0, 1.0), (1.0, 3.0)], (0.0, 0.0)) == 3 + 3 - 1
    assert hypervolume([(3.0, 1.0), (1.0, 3.0)], (0.0, 1.0)) == 2.0  # (3, 1) lies on the edge
    assert hypervolume([(3.0, 1.0)], (4.0, 0.0)) == 0.0
    assert hypervolume([], (0.0, 0.0)) == 0.0
    assert hypervolume([(3.0,), (2.0,)], (1.0,)) == 2.0
    # two boxes of 1 x 2 x 3 and 2 x 1 x 3 that share 1 x 1 x 3
    assert hypervolume([(1.0, 2.0, 3.0), (2.0, 1.0, 3.0)], (0.0, 0.0, 0.0)) == 9.0


def test_growth_by_hand() -> None:
    points = [(1.0, 1.0), (0.5, 0.5), (2.0, 0.5)]
    assert hypervolume_growth(points, (0.0, 0.0)) == [1.0, 1.0, 1.5]


def cells(points: list[Point], dimensions: int, size: int) -> set[tuple[int, ...]]:
    """The unit cells that lie below some point."""
    grid = itertools.product(range(size), repeat=dimensions)
    return {c for c in grid if any(all(a < b for a, b in zip(c, p, strict=True)) for p in points)}


@given(points_2d)
def test_an_area_is_the_number_of_dominated_cells(points: list[Point]) -> None:
    assert hypervolume(points, (0.0, 0.0)) == len(cells(points, 2, SIZE))


@given(points_3d)
def test_a_volume_is_the_number_of_dominated_cells(points: list[Point]) -> None:
    assert hypervolume(points, (0.0, 0.0, 0.0)) == len(cells(points, 3, 4))


@given(points_2d)
def test_a_front_dominates_as_much_as_all_points(points: list[Point]) -> None:
    front = pareto_front(points)
    assert hypervolume(front, (0.0, 0.0)) == hypervolume(points, (0.0, 0.0))
    assert not any(dominates(a, b) for a in front for b in front)
    assert {points[place] for place in front_indices(points)} == set(front)


def test_attainment_by_hand() -> None:
    first, second, third = [(4.0, 1.0), (2.0, 3.0)], [(3.0, 2.0)], [(1.0, 4.0)]
    fronts = [first, second, third]
    assert attainment(fronts, 0.0) == ((4.0, 1.0), (3.0, 2.0), (2.0, 3.0), (1.0, 4.0))
    # two of the three attain (3, 1), (2, 2) and (1, 3)
    assert attainment(fronts, 0.5) == ((3.0, 1.0), (2.0, 2.0), (1.0, 3.0))
    assert attainment(fronts, 1.0) == ((1.0, 2.0),)
    assert attainment([[], [(1.0, 1.0)]], 1.0) == ()


@given(repetitions, st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_a_surface_covers_the_cells_that_enough_repetitions_cover(
    fronts: list[list[Point]], share: float
) -> None:
    counted = [cells(points, 2, SIZE) for points in fronts]
    wanted = {
        cell
        for cell in itertools.product(range(SIZE), repeat=2)
        if sum(cell in each for each in counted) >= max(1, share * len(fronts))
    }
    assert cells(list(attainment(fronts, share)), 2, SIZE) == wanted


@pytest.mark.parametrize("count", [3, 10, 25, 50])
def test_a_share_of_many_repetitions_is_not_rounded_up_by_float_arithmetic(count: int) -> None:
    fronts = [[(1.0, float(place))] for place in range(count)]
    for needed in range(1, count + 1):
        assert attainment(fronts, needed / count) == ((1.0, float(count - needed)),)

"""Grids of ε, distances of counterexamples, and what verdicts at several ε say together."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from verify_pipeline.certify.boxes import exact_box
from verify_pipeline.certify.brackets import Bracket, distance, epsilon_grid, meant_fraction
from verify_pipeline.certify.perturbations import LinfBall, OwnBalls
from verify_pipeline.errors import ConfigError
from verify_pipeline.settings import number

GRID = tuple(float(k) for k in range(1, 17))


@pytest.mark.parametrize(
    ("largest", "steps", "typed"),
    [
        ("16/255", 16, [f"{k}/255" for k in range(1, 17)]),
        ("2/255", 4, ["1/510", "1/255", "3/510", "2/255"]),
        ("0.1", 10, [f"0.{k:02}" for k in range(1, 10)] + ["0.1"]),
        ("0.3", 3, ["0.1", "0.2", "0.3"]),
        ("1/3", 2, ["1/6", "1/3"]),
        ("1", 1, ["1"]),
    ],
)
def test_a_grid_has_the_numbers_that_one_would_type(
    largest: str, steps: int, typed: list[str]
) -> None:
    assert epsilon_grid(number(largest), steps) == tuple(map(number, typed))


def test_what_was_typed_is_found_again() -> None:
    assert meant_fraction(16 / 255) == Fraction(16, 255)
    assert meant_fraction(0.1) == Fraction(1, 10)
    assert meant_fraction(0.123456789) == Fraction(123456789, 10**9)


@pytest.mark.parametrize(
    ("largest", "steps"),
    [(0.0, 4), (-0.1, 4), (1.1, 4), (math.nan, 4), (0.1, 0), (0.1, 10**9), (5e-324, 2)],
)
def test_an_impossible_grid_is_refused(largest: float, steps: int) -> None:
    with pytest.raises(ConfigError):
        epsilon_grid(largest, steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_point_lies_in_every_box_from_its_distance_on(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (200, 1, 3, 3)
    pixels, points = (torch.rand(shape, generator=generator, dtype=dtype) for _ in range(2))
    points[:50] = pixels[:50] + 1e-9 * points[:50]  # differences that float64 has to round
    points = points.clamp(0, 1)
    for image, point in zip(pixels, points, strict=True):
        away = distance(point, image)
        box = exact_box(image.unsqueeze(0), away)
        assert bool(box.contains(point.double().unsqueeze(0)))
        exact = max(
            abs(Fraction(a) - Fraction(b))
            for a, b in zip(point.flatten().tolist(), image.flatten().tolist(), strict=True)
        )
        assert exact <= Fraction(away) <= exact * (1 + Fraction(1, 10**15))


def test_a_distance_that_float64_rounds_down_is_rounded_up() -> None:
    """3/4 less 3/4 of a unit in its last place: the nearest float64 number is a whole unit less."""
    point, image = (torch.tensor([value], dtype=torch.float64) for value in (0.75, 0.75 * 2**-53))
    assert float(point - image) < Fraction(3, 4) * (1 - Fraction(1, 2**53))
    assert Fraction(distance(point, image)) >= Fraction(3, 4) * (1 - Fraction(1, 2**53))


def test_an_image_is_at_distance_zero_from_itself() -> None:
    pixels = torch.rand(1, 3, 3)
    assert distance(pixels, pixels) == 0.0


def test_own_balls_are_bit_for_bit_the_balls_of_their_epsilon() -> None:
    pixels = torch.rand(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    epsilons = dict(enumerate((1 / 255, 0.1, 0.3, 2 / 255)))
    together = OwnBalls(epsilons).box(pixels, range(4))
    for index, epsilon in epsilons.items():
        one = slice(index, index + 1)
        alone = LinfBall(epsilon).box(pixels[one], [index])
        assert same(together.lower[one], alone.lower)
        assert same(together.upper[one], alone.upper)


def same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


def searched(radius: float, bracket: Bracket | None = None) -> tuple[Bracket, list[float]]:
    """Bisect with a verifier that decides everything; the ε that it was asked."""
    found, asked = bracket or Bracket(), []
    while (epsilon := found.next_epsilon(GRID)) is not None:
        asked.append(epsilon)
        proves = epsilon < radius
        found = found.with_proof(epsilon) if proves else found.with_counterexample(epsilon)
    return found, asked


@pytest.mark.parametrize("radius", [0.5, 1.5, 7.5, 8.5, 15.5, 99.0])
def test_bisection_asks_few_epsilons(radius: float) -> None:
    found, asked = searched(radius)
    assert found.lower == min(math.floor(radius), 16)
    assert found.falsified == (math.inf if radius > 16 else math.ceil(radius))
    assert len(asked) <= math.log2(len(GRID)) + 1
    assert len(set(asked)) == len(asked)


def test_a_near_counterexample_saves_questions() -> None:
    start = Bracket().with_counterexample(2.3)
    found, asked = searched(1.5, start)
    assert asked == [2.0, 1.0]
    assert (found.lower, found.falsified) == (1.0, 2.0)
    assert searched(2.3, start.with_proof(2.0)) == (start.with_proof(2.0), [])


def test_proofs_and_counterexamples_outside_of_the_grid_count() -> None:
    start = Bracket().with_proof(40.0)
    assert start.next_epsilon(GRID) is None
    assert start.lower == 40.0
    assert Bracket().with_counterexample(0.0).next_epsilon(GRID) is None


def test_both_sides_of_an_unknown_are_searched() -> None:
    """Verified to 3, falsified from 12, and nothing is decided between."""
    found, asked = Bracket(), []
    while (epsilon := found.next_epsilon(GRID)) is not None:
        asked.append(epsilon)
        if epsilon <= 3:
            found = found.with_proof(epsilon)
        elif epsilon >= 12:
            found = found.with_counterexample(epsilon)
        else:
            found = found.with_failure(epsilon, "timeout")
    assert (found.lower, found.falsified) == (3.0, 12.0)
    assert set(asked) >= {3.0, 4.0, 11.0, 12.0}
    assert len(asked) < len(GRID)
    assert list(found.failures) == sorted(found.failures)
    assert set(found.failures.values()) == {"timeout"}


def test_an_unknown_outside_of_the_interval_is_no_gap() -> None:
    found = Bracket().with_failure(5.0, "timeout").with_proof(7.0)
    assert found.failures == {}
    assert found.next_epsilon((5.0, 6.0, 7.0, 8.0)) == 8.0
    at_the_ends = Bracket().with_failure(5.0, "a").with_failure(7.0, "b")
    assert at_the_ends.with_proof(5.0).with_counterexample(7.0).failures == {}


def test_where_both_contradict_the_counterexample_counts() -> None:
    found = Bracket().with_proof(3.0).with_proof(6.0).with_counterexample(5.0)
    assert found.contradicted
    assert (found.lower, found.falsified) == (3.0, 5.0)
    assert not Bracket().with_proof(3.0).with_counterexample(5.0).contradicted
    both = Bracket().with_proof(5.0).with_counterexample(5.0)
    assert (both.contradicted, both.lower) == (True, 0.0)


def test_the_nearest_counterexample_counts() -> None:
    found = Bracket().with_counterexample(2.0).with_counterexample(3.0, tied=True)
    assert (found.falsified, found.tied) == (2.0, False)
    nearer = found.with_counterexample(1.0, tied=True)
    assert (nearer.falsified, nearer.tied, nearer.contradicted) == (1.0, True, False)

"""Boxes, specifications, verdicts: what they are, and what cannot be made."""

import math

import pytest
import torch

from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.problem import (
    Box,
    Counterexample,
    Reason,
    Specification,
    Status,
    Verdict,
    margin_matrix,
)


class TestBox:
    def test_around_is_cut_to_valid_pixels(self) -> None:
        box = Box.around(torch.tensor([[0.0, 0.5, 0.95]]), 0.1)
        torch.testing.assert_close(box.lower, torch.tensor([[0.0, 0.4, 0.85]]))
        torch.testing.assert_close(box.upper, torch.tensor([[0.1, 0.6, 1.0]]))

    def test_per_channel_epsilon(self) -> None:
        epsilon = torch.tensor([0.1, 0.2]).view(2, 1, 1)
        box = Box.around(torch.full((3, 2, 1, 1), 0.5), epsilon)
        torch.testing.assert_close(box.radius[0].flatten(), torch.tensor([0.1, 0.2]))

    def test_contains_is_exact(self) -> None:
        box = Box(torch.zeros(2, 2), torch.ones(2, 2))
        points = torch.tensor([[0.0, 1.0], [0.5, 1.0 + 1e-7]])
        assert box.contains(points).tolist() == [True, False]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("side", ["lower", "upper"])
    def test_not_finite(self, value: float, side: str) -> None:
        limits = {"lower": torch.zeros(2, 3), "upper": torch.ones(2, 3)}
        limits[side][1, 2] = value
        with pytest.raises(DataError):
            Box(**limits)

    def test_empty_and_misshapen(self) -> None:
        with pytest.raises(DataError, match="empty interval"):
            Box(torch.tensor([[1.0]]), torch.tensor([[0.5]]))
        with pytest.raises(DataError, match="one shape"):
            Box(torch.zeros(1, 2), torch.zeros(1, 3))

    @pytest.mark.parametrize("epsilon", [-0.1, math.nan])
    def test_epsilon_below_zero(self, epsilon: float) -> None:
        with pytest.raises(ConfigError, match="epsilon"):
            Box.around(torch.zeros(1, 1), epsilon)


class TestSpecification:
    def test_margins_by_hand(self) -> None:
        rows = margin_matrix(torch.tensor([1]), 3)
        assert rows.tolist() == [[[-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]]
        specification = Specification.margins(torch.tensor([1]), 3)
        assert specification.values(torch.tensor([[1.0, 5.0, 2.0]])).tolist() == [[4.0, 3.0]]

    @pytest.mark.parametrize("label", [-1, 3])
    def test_label_out_of_range(self, label: int) -> None:
        with pytest.raises(DataError, match="from 0 to 2"):
            Specification.margins(torch.tensor([0, label]), 3)

    def test_not_finite(self) -> None:
        with pytest.raises(DataError, match="finite"):
            Specification(torch.full((1, 1, 2), math.nan), torch.zeros(1, 1))

    def test_at_least_one_row(self) -> None:
        with pytest.raises(DataError, match="at least one row"):
            Specification(torch.zeros(1, 0, 2), torch.zeros(1, 0))
        assert len(Specification(torch.zeros(0, 1, 2), torch.zeros(0, 1))) == 0


class TestVerdict:
    @pytest.mark.parametrize("bound", [None, 0.0, -1.0, math.nan, math.inf])
    def test_verified_needs_a_finite_positive_bound(self, bound: float | None) -> None:
        with pytest.raises(ValueError, match="without evidence"):
            Verdict(Status.VERIFIED, "ibp", 0.1, bound=bound)

    def test_falsified_needs_a_counterexample(self) -> None:
        with pytest.raises(ValueError, match="without evidence"):
            Verdict(Status.FALSIFIED, "attack", 0.1)

    def test_unknown_needs_a_reason(self) -> None:
        with pytest.raises(ValueError, match="without evidence"):
            Verdict(Status.UNKNOWN, "bab", 0.1)

    def test_with_evidence(self) -> None:
        example = Counterexample(torch.zeros(2), torch.zeros(3), 0.0)
        assert Verdict(Status.VERIFIED, "ibp", 0.1, bound=1e-9).bound == 1e-9
        assert Verdict(Status.FALSIFIED, "attack", 0.1, counterexample=example)
        assert Verdict(Status.UNKNOWN, "bab", 0.1, reason=Reason.TIMEOUT, bound=-0.5)

    @pytest.mark.parametrize("margin", [1e-9, math.nan])
    def test_a_counterexample_breaks_something(self, margin: float) -> None:
        with pytest.raises(ValueError, match="no counterexample"):
            Counterexample(torch.zeros(2), torch.zeros(3), margin)


def test_exact_margins_have_the_sign_that_rounding_loses() -> None:
    rows = torch.tensor([[[1.0, 1.0, -1.0], [1.0, -1.0, 0.0]]], dtype=torch.float64)
    outputs = torch.tensor([[1e-20, 1.0, 1.0]], dtype=torch.float64)
    spec = Specification(rows, torch.zeros(1, 2, dtype=torch.float64))
    assert spec.values(outputs)[0, 0] == 0
    assert spec.exact_values(outputs)[0, 0] == 1e-20
    assert spec.exact_values(outputs)[0, 1] == pytest.approx(-1.0)
    least = torch.tensor([[2.0**-1074, 0.0, 0.0]], dtype=torch.float64)
    halved = Specification(rows / 2, torch.zeros(1, 2, dtype=torch.float64))
    assert halved.exact_values(least)[0, 0] > 0

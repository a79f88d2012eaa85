"""The gradient connector, the gradient's weight, and TAPS's product, by hand and as its authors."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.losses import connected, gradient_weighted, taps_loss


def side_gradients(point: float, lower: float, upper: float, share: float) -> tuple[float, float]:
    """What one coordinate with gradient 1 passes to the lower and the upper side."""
    sides = [torch.tensor([[value]], requires_grad=True) for value in (lower, upper)]
    connected(torch.tensor([[[point]]]), *sides, share).sum().backward()
    (low, high) = (side.grad for side in sides)
    assert low is not None
    assert high is not None
    return low.item(), high.item()


class TestConnector:
    @pytest.mark.parametrize(
        ("point", "share", "expected"),
        [
            (0.0, 0.5, (1.0, 0.0)),
            (4.0, 0.5, (0.0, 1.0)),
            (0.5, 0.5, (0.75, 0.0)),
            (1.0, 0.5, (0.5, 0.0)),
            (2.0, 0.5, (0.0, 0.0)),
            (3.5, 0.5, (0.0, 0.75)),
            (3.5, 0.25, (0.0, 0.5)),
            (2.5, 0.25, (0.0, 0.0)),
            (1.0, 1.0, (0.75, 0.25)),
            (2.0, 0.75, (1 / 3, 1 / 3)),
        ],
    )
    def test_by_hand(self, point: float, share: float, expected: tuple[float, float]) -> None:
        # the box is [0, 4]
        assert side_gradients(point, 0.0, 4.0, share) == pytest.approx(expected)

    def test_the_box_may_be_anywhere(self) -> None:
        assert side_gradients(-2.5, -3.0, 1.0, 0.5) == pytest.approx((0.75, 0.0))

    def test_a_box_of_no_width_halves_the_gradient(self) -> None:
        assert side_gradients(0.3, 0.3, 0.3, 0.5) == (0.5, 0.5)

    def test_points_are_unchanged_and_each_adds_to_the_gradients_of_its_box(self) -> None:
        lower = torch.tensor([[0.0, 1.0], [2.0, 2.0]], requires_grad=True)
        upper = torch.tensor([[2.0, 3.0], [4.0, 6.0]], requires_grad=True)
        points = torch.tensor([[[0.0, 3.0], [2.0, 2.0]], [[2.5, 6.0], [2.0, 3.0]]])
        weights = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
        found = connected(points, lower, upper, 0.5)
        assert torch.equal(found, points)
        (found * weights).sum().backward()
        assert lower.grad is not None
        assert upper.grad is not None
        assert lower.grad.tolist() == [[1.0, 0.0], [0.5 * 5 + 7, 0.5 * 8]]
        assert upper.grad.tolist() == [[3.0, 2.0], [0.0, 6.0]]

    def test_a_side_without_gradient_needs_none(self) -> None:
        points = torch.rand(2, 3, 4)
        assert not connected(points, torch.zeros(2, 4), torch.ones(2, 4), 0.5).requires_grad

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_is_the_authors(self, share: float) -> None:
        """As in CTBench: masks and slopes of the thresholds u - c (u - l) and l + c (u - l)."""
        random = np.random.default_rng(0)
        low = random.normal(size=(5, 7))
        high = low + 0.1 + random.random((5, 7))
        x = low[:, None] + random.random((5, 3, 7)) * (high - low)[:, None]
        x[:, 0] = low
        x[:, 1, ::2] = high[:, ::2]
        incoming = random.normal(size=x.shape)
        slack = share * (high - low)[:, None]
        near_high = x >= high[:, None] - slack
        near_low = x <= low[:, None] + slack
        of_high = incoming * near_high * (x - high[:, None] + slack) / slack
        of_low = incoming * near_low * (low[:, None] + slack - x) / slack
        sides = [torch.tensor(side, requires_grad=True) for side in (low, high)]
        (connected(torch.tensor(x), *sides, share) * torch.tensor(incoming)).sum().backward()
        for side, expected in zip(sides, (of_low, of_high), strict=True):
            assert side.grad is not None
            np.testing.assert_allclose(side.grad.numpy(), expected.sum(1), atol=1e-12)


def test_a_weighted_gradient_leaves_the_value() -> None:
    x = torch.tensor([3.0, -0.1], requires_grad=True)
    y = gradient_weighted(x, 5.0)
    assert torch.equal(y, x)
    (y * torch.tensor([1.0, 2.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [5.0, 10.0]


def test_the_product_by_hand() -> None:
    # e^-z_latent = 1 and 3: log 2 and log 4; e^-z_ibp = 3 and 7: log 4 and log 8
    latent = -torch.tensor([[1.0], [3.0]], dtype=torch.float64).log()
    ibp = -torch.tensor([[3.0], [7.0]], dtype=torch.float64).log()
    unit = math.log(2)
    assert taps_loss(latent, ibp).item() == pytest.approx(1.5 * unit * 2.5 * unit)


@pytest.mark.parametrize("weight", [0.5, 1.0, 4.0])
def test_the_gradient_is_the_authors_and_the_papers(weight: float) -> None:
    generator = torch.Generator().manual_seed(1)
    latent, ibp = (
        torch.randn(6, 9, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(2)
    )

    def of_upper_bounds(margins: Tensor) -> Tensor:
        """CTBench: cross-entropy, with label 0, of 0 and upper bounds of f_i - f_y."""
        padded = torch.cat([margins.new_zeros(len(margins), 1), -margins], 1)
        return F.cross_entropy(padded, torch.zeros(len(margins), dtype=torch.long))

    attacked, bounded = of_upper_bounds(latent), of_upper_bounds(ibp)
    (of_latent,) = torch.autograd.grad(attacked, latent)
    (of_ibp,) = torch.autograd.grad(bounded, ibp)
    value = taps_loss(gradient_weighted(latent, weight), ibp)
    torch.testing.assert_close(value, attacked * bounded)
    got = torch.autograd.grad(value, [latent, ibp])
    torch.testing.assert_close(got[0], weight * of_latent * bounded.detach())
    torch.testing.assert_close(got[1], of_ibp * attacked.detach())
    alpha = weight / (1 + weight)  # the paper's: 2 α and 2 - 2 α
    factor = 2 - 2 * alpha
    torch.testing.assert_close(factor * got[0], 2 * alpha * of_latent * bounded.detach())

"""Transposed convolutions against the derivative of the convolution."""

import pytest
import torch
from torch import Tensor

from verify_pipeline.bounds.linear.adjoint import adjoint
from verify_pipeline.network.ops import Conv2d, LinearOp

# kernel, stride, padding, height and width of the input
CASES = (
    ((4, 4), (2, 2), (1, 1), (8, 8)),
    ((4, 5), (2, 2), (0, 2), (9, 10)),
    ((7, 6), (3, 2), (2, 1), (12, 11)),
    ((6, 9), (3, 4), (0, 3), (6, 13)),
    ((8, 4), (4, 2), (3, 0), (5, 4)),
)


@pytest.mark.parametrize(("kernel", "stride", "padding", "plane"), CASES)
def test_adjoints_are_the_derivative(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    plane: tuple[int, int],
) -> None:
    torch.manual_seed(1)
    op = Conv2d(torch.randn(3, 7, *kernel, dtype=torch.float64), None, stride, padding)
    x = torch.randn(2, 7, *plane, dtype=torch.float64)
    coefficients = torch.randn_like(op.linear(x))
    expected = adjoint.dispatch(LinearOp)(op, coefficients, (7, *plane))
    found = adjoint(op, coefficients, x.shape[1:])
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    # what an adjoint is
    assert (found * x).sum().item() == pytest.approx((coefficients * op.linear(x)).sum().item())


def test_adjoints_can_be_differentiated_twice() -> None:
    torch.manual_seed(1)
    op = Conv2d(torch.randn(2, 5, 4, 4, dtype=torch.float64), None, (2, 2), (1, 1))
    rows = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def squared(coefficients: Tensor) -> Tensor:
        return adjoint(op, coefficients, (5, 4, 4)).square()

    assert torch.autograd.gradcheck(squared, rows)
    assert torch.autograd.gradgradcheck(squared, rows)

"""Functions of onnxruntime and torch in float32 stay within the assumptions about them."""

import onnxruntime
import pytest
import torch
from torch import Tensor

from tests.onnx_networks import node, onnx_file
from verify_pipeline.bounds.forward_error.functions import LIBRARY, SLOPES, slope
from verify_pipeline.network.arithmetic import FLOAT32
from verify_pipeline.network.ops import FUNCTIONS

OPERATORS = {
    "exp": "Exp",
    "reciprocal": "Reciprocal",
    "sqrt": "Sqrt",
    "atan": "Atan",
    "log": "Log",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "erf": "Erf",
    "softplus": "Softplus",
    "sin": "Sin",
    "cos": "Cos",
    "elu": "Elu",
    "gelu": "Gelu",
    "hardswish": "HardSwish",
}
"""onnxruntime's operator of each function that it has."""


SLACK = 1e-15
"""The error of automatic derivatives in float64, which subtract numbers near 1."""


def arguments(function: str) -> Tensor:
    """Arguments from 2^-30 to the greatest that counts, of both signs, and some in between."""
    powers = torch.linspace(-30, 13 if function in ("sin", "cos") else 6, 4001).double().exp2()
    positive = torch.cat([powers, torch.linspace(1e-3, 20, 4001).double()])
    positive = positive[positive <= 80] if function == "exp" else positive
    if function in ("log", "reciprocal", "sqrt"):
        return positive.float()
    return torch.cat([positive, -positive]).float()


def by_onnxruntime(function: str, x: Tensor) -> Tensor:
    opset = 20 if function == "gelu" else 14
    data = onnx_file([node(OPERATORS[function], "x", "y")], ("n", 1), opset=opset)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x[:, None].numpy()})[0])[:, 0]


def assert_within(function: str, x: Tensor, computed: Tensor) -> None:
    exact = FUNCTIONS[function](x.double())
    library = LIBRARY[function]
    allowed = library.of_value * exact.abs() + library.absolute + library.of_argument * x.abs()
    error = (computed.double() - exact).abs()
    worst = (error / (FLOAT32.unit * allowed + FLOAT32.tiny)).max()
    assert float(worst) <= 1


@pytest.mark.parametrize("function", sorted(LIBRARY))
def test_torch_is_within_the_assumption(function: str) -> None:
    x = arguments(function)
    assert_within(function, x, FUNCTIONS[function](x))
    # a single number takes another path than a vector
    for one in x[:: len(x) // 7]:
        assert_within(function, one, FUNCTIONS[function](one))


@pytest.mark.parametrize("function", sorted(OPERATORS))
def test_onnxruntime_is_within_the_assumption(function: str) -> None:
    x = arguments(function)
    assert_within(function, x, by_onnxruntime(function, x))


@pytest.mark.parametrize("function", sorted(SLOPES))
def test_slopes_are_at_least_the_derivatives(function: str) -> None:
    x = arguments(function).double().sort().values.requires_grad_()
    (derivative,) = torch.autograd.grad(FUNCTIONS[function](x).sum(), x)
    x = x.detach()
    assert bool((slope(function, (x, x)) >= derivative.abs() - SLACK).all())
    wide = slope(function, (x[:-100], x[100:]))
    most = derivative.abs().unfold(0, 101, 1).amax(1)
    assert bool((wide >= most - SLACK).all())


def test_slopes_where_a_function_may_be_undefined_are_infinite() -> None:
    interval = torch.tensor([-1.0]).double(), torch.tensor([1.0]).double()
    for function in ("log", "reciprocal", "sqrt"):
        assert slope(function, interval).isinf().all()
    far = torch.tensor([1e5]).double()
    assert slope("sin", (far, far)).isinf().all()

"""Small networks whose values and bounds are worked out by hand, that tests share; float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Elementwise, Linear, Op, Relu

F64 = torch.float64


def chain(input_shape: tuple[int, ...], *ops: Op, dtype: torch.dtype = F64) -> Graph:
    """Operations of one input each, one after the other; the first is node 1."""
    builder, place = GraphBuilder(input_shape, dtype=dtype), 0
    for op in ops:
        place = builder.add(op.to(dtype), place)
    return builder.build(place)


def linear(weight: Sequence[Sequence[float]], bias: Sequence[float] | None = None) -> Linear:
    """A linear layer of these numbers."""
    shift = None if bias is None else torch.tensor(bias, dtype=F64)
    return Linear(torch.tensor(weight, dtype=F64), shift)


def sum_of_inputs(inputs: int) -> Graph:
    """``f(x) = Σ x_i``: over ``[-1, 1]`` in each input, from ``-inputs`` to ``inputs``."""
    return chain((inputs,), linear([[1.0] * inputs]))


def two_neurons() -> Graph:
    """``f(x) = relu(x1 + x2) + relu(x1 - x2)``; the ReLUs are node 2.

    Over ``[-1, 1]²`` both are unstable with inputs in [-2, 2], and f is in [0, 2]: 0 where x1 <= 0
    and x2 = 0, 2 where x1 = 1. Intervals say [0, 4], CROWN [0, 3], as ``f <= x1 + 2``.
    """
    return chain((2,), linear([[1, 1], [1, -1]]), Relu(), linear([[1, 1]]))


def absolute_value(activation: Op | None = None, shift: float = -0.25) -> Graph:
    """``f(x) = act(x) + act(-x) + shift``, which with ReLUs (None) is ``|x| + shift``; node 2.

    Over [-1, 1], ``|x|`` is in [0, 1]; intervals say [0, 2], CROWN [0, 1].
    A leaky ReLU of slope s makes it ``(1 - s) |x| + shift``.
    """
    return chain((1,), linear([[1], [-1]]), activation or Relu(), linear([[1, 1]], [shift]))


def at_least_one() -> Graph:
    """``f(x) = relu(x - 1) - 1 = max(x, 1) - 2``; over [0, 4] the ReLU's input is in [-1, 3].

    f is in [-1, 2], and 0 at x = 2; the chord is ``relu(z) <= 3 (z + 1) / 4``.
    """
    return chain((1,), linear([[1]], [-1]), Relu(), linear([[1]], [-1]))


def ramp(inputs: int = 1) -> Graph:
    """``f(x) = m + relu(m - 0.3) - relu(m - 0.6)`` of the inputs' mean m.

    Over [0, 1] it is in [0, 1.3], and least at 0. CROWN says [-0.3, 1.7]; at α = 0 its lower bound
    is ``(1 - 0.4) m``, which is exact at the least value.
    """
    each = [[1 / inputs] * inputs] * 3
    return chain((inputs,), linear(each, [0, -0.3, -0.6]), Relu(), linear([[1, 1, -1]]))


def zero_of_relus(inputs: int) -> Graph:
    """``f(x) = Σ 2 relu(x_i) - relu(2 x_i) = 0``.

    Over [-1, 1] each i costs CROWN's lower bound 2, or 1 at the best slope α = 1/2 of its first
    ReLU, until both its ReLUs are split.
    """
    eye = torch.eye(inputs)
    last = linear([[2.0] * inputs + [-1.0] * inputs])
    return chain((inputs,), Linear(torch.cat([eye, 2 * eye])), Relu(), last)


def zero_of_sigmoids(inputs: int) -> Graph:
    """``f(x) = Σ σ(relu(x_i)) - σ(relu(x_i)) = 0``, where every bound with lines has a gap."""
    eye = torch.eye(inputs)
    last = linear([[1.0] * inputs + [-1.0] * inputs])
    first = Linear(torch.cat([eye, eye]))
    return chain((inputs,), first, Relu(), Elementwise("sigmoid"), last)


def narrowly_below_zero() -> Graph:
    """``f(x) = 2^-25 + (1 + 2^-11) x0 - w relu(w x0)``, plus a 0 of ReLUs of x1; w = 1 + 2^-12.

    ``w² = 1 + 2^-11 + 2^-24``, so ``f = -2^-25`` at x0 = 1. Float32 rounds w² to ``1 + 2^-11``, and
    f to ``2^-25``: what it proves is wrong. Every weight is a float32 number.
    """
    w = 1 + 2**-12
    b = GraphBuilder((2,), dtype=F64)
    h = b.add(Relu(), b.add(linear([[w, 0], [0, 1], [0, -1], [0, 2], [0, -2]]), 0))
    falling = b.add(linear([[-w, 2, 2, -1, -1]]), h)
    rising = b.add(linear([[1 + 2**-11, 0]], [2**-25]), 0)
    return b.build(b.add(Add(), falling, rising))

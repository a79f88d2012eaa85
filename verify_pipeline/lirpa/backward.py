"""CROWN's backward pass over the nodes of auto_LiRPA 0.3, with gradients, for training steps.

CROWN-IBP (Zhang et al. 2020, arXiv:1906.06316) needs one backward pass after IBP: a lower bound
``A x + b`` of the rows is carried from the outputs to the input, node by node. Release 0.3 takes
more passes over memory for each operation, and repeats IBP. The pass here starts from the bounds
that IBP has left at the nodes. It goes through linear layers of one input, ReLUs and sums of two
branches; networks with other nodes are left to auto_LiRPA.

A coefficient has the shape ``N x S x *V`` of a node's value with the rows in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.lirpa.quick_ops import quick_ops

Rule = Callable[[Any, Tensor], tuple[list[tuple[Any, Tensor]], Tensor | float]]
"""From a node and its coefficient to (input, the input's coefficient) and a constant ``N x S``."""

LEAST_WIDTH = 1e-8
"""Of the interval that a ReLU's line is drawn over, as in auto_LiRPA."""


class BackwardPass:
    """The backward pass of one bounded network.

    Args:
        bounded: auto_LiRPA's ``BoundedModule`` with the package's quick rules.
        rules: as :func:`backward_rules` makes them.
    """

    def __init__(self, bounded: Any, rules: dict[type, Rule]) -> None:
        self._rules = rules
        self._input = bounded[bounded.root_name[0]]
        self._output = bounded[bounded.final_name]
        self._nodes = _between(self._input, self._output, list(bounded._modules.values()))

    @property
    def is_complete(self) -> bool:
        """Whether there is a rule for every node; otherwise the pass cannot be run."""
        varying = {self._input, *self._nodes}
        return all(self._is_known(node, varying) for node in self._nodes)

    def _is_known(self, node: Any, varying: set[Any]) -> bool:
        """Whether there is a rule for the node, and it is of the kind that the rule is for."""
        rule = self._rules.get(type(node))
        first, *others = (each in varying for each in node.inputs)
        if rule in _ELEMENTWISE and any(
            each.output_shape != node.output_shape for each in node.inputs if each in varying
        ):
            return False  # a value is repeated along an axis: its coefficients have to be added up
        if rule is _sum:
            return first and all(others)
        plain = rule is not _linear or _is_plain(node)
        return rule is not None and plain and first and not any(others)

    def lower(self, rows: Tensor) -> Tensor:
        """Lower bounds ``N x S`` of ``rows · f`` over the boxes of the last IBP.

        Args:
            rows: ``N x S x K``.
        """
        constant: Tensor | float = 0.0
        coefficients: dict[Any, Tensor] = {self._output: rows}
        for node in reversed(self._nodes):
            found = coefficients.pop(node, None)
            if found is None:  # a convolution that its batch normalisation has passed over
                continue
            before, more = self._rules[type(node)](node, found)
            constant = constant + more
            for place, coefficient in before:
                old = coefficients.get(place)
                coefficients[place] = coefficient if old is None else old + coefficient
        coefficient = coefficients[self._input].flatten(2)
        lower, upper = self._input.lower.flatten(1), self._input.upper.flatten(1)
        middle, radius = ((upper + lower) / 2).unsqueeze(2), ((upper - lower) / 2).unsqueeze(2)
        least: Tensor = (coefficient @ middle - coefficient.abs() @ radius).squeeze(2)
        return least + constant


def backward_rules(operators: Any) -> dict[type, Rule]:
    """The rules of the nodes that the pass goes through, by type.

    Args:
        operators: the module ``auto_LiRPA.bound_ops``.
    """
    quick = quick_ops()
    return {
        operators.BoundLinear: _linear,
        quick["onnx::Conv"]: _convolution,
        quick["onnx::BatchNormalization"]: _batch_norm,
        operators.BoundRelu: _relu,
        operators.BoundFlatten: _reshape,
        operators.BoundReshape: _reshape,
        operators.BoundAdd: _sum,
        operators.BoundSub: _difference,
        quick["onnx::Div"]: _quotient,
    }


def _between(first: Any, last: Any, nodes: Iterable[Any]) -> list[Any]:
    """The nodes from the input (left out) to the output whose values depend on the input."""
    reached: dict[Any, None] = {first: None}
    for node in nodes:
        if any(each in reached for each in node.inputs):
            reached[node] = None
    needed = {last}
    for node in reversed(reached):
        if node in needed:
            needed.update(each for each in node.inputs if each in reached)
    return [node for node in reached if node in needed and node is not first]


def _is_plain(linear: Any) -> bool:
    """Whether a linear node is ``x W^T + b``."""
    return (linear.transA, linear.transB, linear.alpha, linear.beta) == (0, 1, 1.0, 1.0)


def _parameter(node: Any) -> Tensor:
    """The value of a node that does not depend on the input, as the last IBP has read it."""
    value: Tensor = node.interval[0]
    return value


def _linear(node: Any, a: Tensor) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    before, weight, *bias = node.inputs
    constant = a @ _parameter(bias[0]) if bias else 0.0
    return [(before, a @ _parameter(weight))], constant


def _convolution(node: Any, a: Tensor) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    bias = _parameter(node.inputs[2]) if node.has_bias else None
    return _transposed(node, a, _parameter(node.inputs[1]), bias)


def _batch_norm(node: Any, a: Tensor) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    scale, shift = node.scale_and_shift(*(_parameter(each) for each in node.inputs[1:]))
    if node.convolution is None:
        return [(node.inputs[0], a * _channels(scale, a))], _of_channels(a) @ shift
    return _transposed(node.convolution, a, *node.folded(scale, shift))


def _transposed(
    node: Any, a: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    """Back through a convolution with this weight and bias."""
    before = node.inputs[0]
    where = (node.stride, node.padding, node.dilation)
    # pixels that the last step of the kernel does not reach, which the output's size does not tell
    rest = tuple(
        (size + 2 * padding - dilation * (kernel - 1) - 1) % stride
        for size, kernel, stride, padding, dilation in zip(
            before.lower.shape[2:], weight.shape[2:], *where, strict=True
        )
    )
    made = F.conv_transpose2d(
        a.flatten(0, 1), weight, None, node.stride, node.padding, rest, node.groups, node.dilation
    )
    constant = 0.0 if bias is None else _of_channels(a) @ bias
    return [(before, made.unflatten(0, a.shape[:2]))], constant


def _relu(node: Any, a: Tensor) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    """Zhang et al. 2018 (arXiv:1811.00866): the chord above; below, a line of slope 0 or 1."""
    before = node.inputs[0]
    low, high = _in_order(before.lower).clamp(max=0), _in_order(before.upper).clamp(min=0)
    high = torch.maximum(high, low + LEAST_WIDTH)
    above = high / (high - low)
    below = (above > 0.5).to(a.dtype)
    made, constant = _Lines.apply(a, below, above, -low * above)  # type: ignore[no-untyped-call]
    return [(before, made)], constant


class _Lines(torch.autograd.Function):
    """``a⁺ below + a⁻ above`` and ``a⁻ · intercept``: fewer passes over memory than in parts.

    Coefficients are ``N x S x *V``, lines ``N x *V``; the constant is ``N x S``.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, below: Tensor, above: Tensor, intercept: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, below, above, intercept)
        negative = a.clamp(max=0)
        made = a.clamp(min=0).mul_(below.unsqueeze(1)).addcmul_(negative, above.unsqueeze(1))
        return made, _totals(negative.mul_(intercept.unsqueeze(1)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        a, below, above, intercept = ctx.saved_tensors
        of_made, of_constant = gradients
        of_constant = of_constant.view(*of_constant.shape, *[1] * (a.dim() - 2))
        of_negative = torch.addcmul(
            of_made * above.unsqueeze(1), of_constant, intercept.unsqueeze(1)
        )
        of_positive = of_made * below.unsqueeze(1)
        # the difference where a > 0, else 0
        change = torch.ops.aten.threshold_backward(of_positive.sub_(of_negative), a, 0)
        negative = a.clamp(max=0)
        of_intercept = (of_constant * negative).sum(1)
        return of_negative.add_(change), None, negative.mul_(of_made).sum(1), of_intercept


def _reshape(node: Any, a: Tensor) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    before = node.inputs[0]
    made = _in_order(a.reshape(-1, *before.lower.shape[1:]))
    return [(before, made.unflatten(0, a.shape[:2]))], 0.0


def _sum(node: Any, a: Tensor) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    return [(each, a) for each in node.inputs], 0.0


def _difference(node: Any, a: Tensor) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    """From a value that does not change."""
    before, fixed = node.inputs
    return [(before, a)], -_totals(a * _parameter(fixed))


def _quotient(node: Any, a: Tensor) -> tuple[list[tuple[Any, Tensor]], Tensor | float]:
    """By numbers that do not change."""
    before, fixed = node.inputs
    return [(before, a / _parameter(fixed))], 0.0


_ELEMENTWISE = (_sum, _difference, _quotient)
"""Rules that pass a coefficient on in its shape."""


def _in_order(values: Tensor) -> Tensor:
    """Images in the order in memory in which a CPU's convolutions are twice as fast."""
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values ``C`` so that they broadcast against ``N x S x C x …``."""
    return values.view(-1, *[1] * (like.dim() - 3))


def _of_channels(a: Tensor) -> Tensor:
    """The sum over all but the channels, ``N x S x C``."""
    return a.sum(tuple(range(3, a.dim()))) if a.dim() > 3 else a


def _totals(a: Tensor) -> Tensor:
    """The sum for each row, ``N x S``."""
    return a.sum(tuple(range(2, a.dim())))

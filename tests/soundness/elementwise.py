"""Steps of small networks that look at one element at a time (``steps.py`` has the others)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.soundness.building import FileBuilder
from tests.soundness.contract import Array
from tests.soundness.evaluations import Number, Way

FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Exp": torch.exp,
    "Softplus": functional.softplus,
}


@dataclass(frozen=True)
class Function:
    """An elementwise function."""

    name: str

    def write(self, net: FileBuilder, x: str) -> str:
        """One node."""
        return net.add(self.name, x)

    def value(self, way: Way, x: Tensor) -> Tensor:
        """ReLUs are exact."""
        found = FUNCTIONS[self.name](x)
        return way.result(way.round(found)) if self.name == "Relu" else way.function(found, x)

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        return FUNCTIONS[self.name](x)

    def rounded(self, number: Number) -> Function:
        """Without constants."""
        del number
        return self


@dataclass(frozen=True)
class LeakyRelu:
    """A leaky ReLU, whose slope is an attribute of the file and stays float32."""

    slope: float = 0.125

    def write(self, net: FileBuilder, x: str) -> str:
        """One node."""
        return net.add("LeakyRelu", x, alpha=self.slope)

    def value(self, way: Way, x: Tensor) -> Tensor:
        """The slope is rounded to the narrow type, or not."""
        slope = torch.tensor(self.slope, dtype=torch.float64)
        slope = way.constant(slope) if way.merged else slope
        return torch.where(x < 0, way.result(way.round(slope * x)), x)

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        return functional.leaky_relu(x, self.slope)

    def rounded(self, number: Number) -> LeakyRelu:
        """A number of float32."""
        del number
        return replace(self, slope=float(np.float32(self.slope)))


@dataclass(frozen=True, eq=False)
class Quotient:
    """``x / d``.

    Attributes:
        divisor: ``I``.
    """

    divisor: Array

    def write(self, net: FileBuilder, x: str) -> str:
        """One node."""
        return net.add("Div", x, self.divisor)

    def value(self, way: Way, x: Tensor) -> Tensor:
        """Divided, or multiplied with a reciprocal."""
        divisor = way.constant(torch.from_numpy(self.divisor).double())
        if way.merged:
            return way.result(way.round(x * way.result(way.round(1 / divisor))))
        return way.result(way.round(x / divisor))

    def native(self, x: Tensor) -> Tensor:
        """Torch's."""
        return x / torch.from_numpy(self.divisor).to(x)

    def rounded(self, number: Number) -> Quotient:
        """One instead of what becomes zero."""
        divisor = number(self.divisor)
        return Quotient(np.where(divisor == 0, np.float32(1), divisor))

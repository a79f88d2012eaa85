"""Numbers of ONNX files that tests make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]


@pytest.fixture
def normal() -> Callable[..., Array]:
    """Draws float32 normal numbers of a shape, the same in each test."""
    generator = np.random.default_rng(0)
    return lambda *shape: generator.normal(size=shape).astype(np.float32)

"""The networks of the battery, one test for each."""

from __future__ import annotations

import pytest

from tests.bounds.battery import NETWORKS, PIECEWISE, Case


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    """Each network of the battery."""
    return Case(request.param)


@pytest.fixture(params=PIECEWISE)
def piecewise_case(request: pytest.FixtureRequest) -> Case:
    """Each network of the battery whose nonlinear operations are piecewise linear."""
    return Case(request.param)


@pytest.fixture
def affine_case() -> Case:
    """The network without nonlinear operations."""
    return Case("affine")

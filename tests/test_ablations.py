"""What `benchmarks/ablations.py` turns off is there."""

import pkgutil

import pytest
from ablating.mechanisms import MECHANISMS, PACKAGE, Mechanism

from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.certify.settings import ALL_STAGES


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda one: one.name)
def test_a_mechanism_can_be_turned_off(mechanism: Mechanism) -> None:
    """Its functions, files and stage exist, and something differs without it."""
    for name in (mechanism.part, *mechanism.also):
        assert callable(pkgutil.resolve_name(f"verify_pipeline.{name}"))
    assert all((PACKAGE / name).is_file() for name in mechanism.files)
    usual = SearchSettings()
    without = usual if mechanism.search is None else mechanism.search(usual)
    assert mechanism.instead or mechanism.also or mechanism.stage in ALL_STAGES or without != usual


def test_functions_are_replaced_for_a_while() -> None:
    (one,) = (m for m in MECHANISMS if m.name == "receptive fields")
    name = f"verify_pipeline.{one.part}"
    before = pkgutil.resolve_name(name)
    with one.off():
        assert pkgutil.resolve_name(name) is one.instead
    assert pkgutil.resolve_name(name) is before

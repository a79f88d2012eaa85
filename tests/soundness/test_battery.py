"""A small part of the battery: no verdict of any family is false."""

from __future__ import annotations

import warnings

import pytest

from tests.soundness.battery import run_family
from tests.soundness.contract import Answer, Family
from tests.soundness.families import FAMILIES

SEED = 15

ASKED = [pytest.param(family, id=family.name) for family in FAMILIES if not family.missing]


@pytest.mark.parametrize("family", ASKED)
def test_no_verdict_is_false(family: Family) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numbers that overflow are meant
        tally = run_family(family, SEED, 0.0, family.small)
    assert tally.trials == family.small
    assert tally.false == 0, tally.lies
    assert tally.answers[Answer.FAILED] == 0, tally.tags
    # a battery to which nothing is ever proved would see nothing
    assert tally.answers[Answer.VERIFIED] > 0

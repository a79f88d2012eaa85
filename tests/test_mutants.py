"""What `benchmarks/mutants.py` replaces is there, once, and so are the tests that may notice it."""

from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant, paths

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_can_be_made(mutant: Mutant) -> None:
    text = (ROOT / "verify_pipeline" / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.before) == 1
    assert mutant.before != mutant.after
    assert all((ROOT / path).is_file() for path in paths(mutant))

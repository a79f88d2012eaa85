"""Every experiment that is a sweep says runs that its recipes take."""

import runpy

import pytest

from tests.documents import ROOT
from verify_pipeline.errors import ConfigError
from verify_pipeline.figures.drawings import KINDS
from verify_pipeline.reporting.groups import NAMES
from verify_pipeline.sweeps.grid import check_runs, runs_of
from verify_pipeline.sweeps.interface import _text, _texts

SCRIPT = runpy.run_path(str(ROOT / "experiments" / "run.py"))
DATA = ("digits", "mnist", "cifar10")
PLANS = [(name, data) for name in SCRIPT["experiments"]() for data in DATA]


@pytest.mark.parametrize(("name", "data"), PLANS)
def test_every_run_of_an_experiment_is_a_recipe(name: str, data: str) -> None:
    plan = SCRIPT["read"](name, data)
    assert set(plan.figures) <= set(KINDS)
    assert all(each in NAMES or each.startswith("train.") for each in plan.by)
    for sweep, values in plan.grids.items():
        grid = {key: tuple(map(_text, each)) for key, each in values.items()}
        runs = runs_of(grid, 0, plan.seeds)
        overrides = _texts(plan.overrides[sweep])
        assert len(check_runs(plan.recipe, overrides, runs)) == len(runs)


def test_unknown_experiments_and_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of alpha-one, alpha-zero, architectures"):
        SCRIPT["read"]("beta", "digits")
    with pytest.raises(ConfigError, match="one of digits, mnist, cifar10"):
        SCRIPT["read"]("alpha-zero", "svhn")

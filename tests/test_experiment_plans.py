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
PLANS = [
    (name, data)
    for name in SCRIPT["experiments"]()
    for data in SCRIPT["read"](name, "digits")["data"]
]


@pytest.mark.parametrize(("name", "data"), PLANS)
def test_every_run_of_an_experiment_is_a_recipe(name: str, data: str) -> None:
    plan = SCRIPT["read"](name, data)
    assert set(plan["figures"]) <= set(KINDS)
    assert all(each in NAMES or each.startswith("train.") for each in plan.get("by", ()))
    base = plan["data"][data]
    for sweep in plan["sweeps"]:
        grid = {key: tuple(map(_text, values)) for key, values in sweep["grid"].items()}
        runs = runs_of(grid, 0, plan["seeds"])
        overrides = _texts({**base.get("set", {}), **sweep.get("set", {})})
        assert len(check_runs(base["recipe"], overrides, runs)) == len(runs)


def test_unknown_experiments_and_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of alpha-one, alpha-zero, architectures"):
        SCRIPT["read"]("beta", "digits")
    with pytest.raises(ConfigError, match="one of digits, mnist, cifar10"):
        SCRIPT["read"]("alpha-zero", "svhn")

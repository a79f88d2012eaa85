"""Every experiment that is a sweep says runs that its recipes take."""

import runpy

import pandas as pd
import pytest

from tests.documents import ROOT
from verify_pipeline.config import load_recipe
from verify_pipeline.errors import ConfigError
from verify_pipeline.figures.drawings import KINDS
from verify_pipeline.reporting.groups import NAMES
from verify_pipeline.sweeps.grid import check_runs, runs_of
from verify_pipeline.sweeps.interface import _text, _texts
from verify_pipeline.sweeps.space import check_space, read_space
from verify_pipeline.sweeps.trial import check_objectives

FRONTS = runpy.run_path(str(ROOT / "experiments" / "fronts.py"))
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "run.py"))
TINY = runpy.run_path(str(ROOT / "experiments" / "tinyimagenet.py"))
DATA = ("digits", "mnist", "cifar10")
PLANS = [(name, data) for name in SCRIPT["experiments"]() for data in DATA]


@pytest.mark.parametrize(("name", "data"), PLANS)
def test_every_run_of_an_experiment_is_a_recipe(name: str, data: str) -> None:
    plan = SCRIPT["read"](name, data)
    assert set(plan.figures) <= set(KINDS)
    assert all(each in NAMES or each.startswith("train.") for each in plan.by)
    for sweep, values in plan.grids.items():
        grid = {key: tuple(_text(key, value) for value in each) for key, each in values.items()}
        runs = runs_of(grid, 0, plan.seeds)
        overrides = _texts(plan.overrides[sweep])
        assert len(check_runs(plan.recipe, overrides, runs)) == len(runs)


@pytest.mark.parametrize("method", TINY["METHODS"])
@pytest.mark.parametrize("epochs", [3, 20])
def test_shortened_recipes_of_tinyimagenet_are_valid(method: str, epochs: int) -> None:
    optimiser = TINY["shortened"](method, epochs).train.optimiser
    assert optimiser.epochs == epochs
    assert all(milestone < epochs for milestone in optimiser.milestones)


def test_unknown_experiments_and_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of alpha-one, alpha-zero, architectures"):
        SCRIPT["read"]("beta", "digits")
    with pytest.raises(ConfigError, match="one of digits, mnist, cifar10"):
        SCRIPT["read"]("alpha-zero", "svhn")


@pytest.mark.parametrize("data", DATA)
def test_every_search_of_the_fronts_is_of_a_recipe_and_has_a_space(data: str) -> None:
    tunings = FRONTS["tunings"](data)
    assert len(tunings) == 45 == len({each.folder for each in tunings})
    for each in tunings:
        overrides = _texts(each.overrides)
        loss = load_recipe(each.recipe, overrides).train.loss.name
        assert loss == each.method.lower()
        check_objectives(("standard", "verified"), each.estimate)
        check_space(read_space(None, loss), each.recipe, overrides)


def test_fronts_are_compared_with_complete_verifications() -> None:
    rows = [
        {"method": "IBP", "estimate": "complete", "trials": 4, "area": 0.5, "best_verified": 70.0},
        {"method": "IBP", "estimate": "crown", "trials": 4, "area": 0.45, "best_verified": 69.0},
        {"method": "SABR", "estimate": "crown", "trials": 4, "area": 0.7, "best_verified": 80.0},
        {"method": "SABR", "estimate": "complete", "trials": 4, "area": 0.6, "best_verified": 78.0},
    ]
    frame = FRONTS["with_gap"](pd.DataFrame(rows))
    assert frame["gap"].round(6).tolist() == [0, 0.05, -0.1, 0]
    assert "| SABR | crown | 4 | 0.7000 | -0.1000 |" in FRONTS["markdown"](
        frame.assign(area_std=None, best_standard=90.0), "made"
    )

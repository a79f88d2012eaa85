"""``api.sweep``, ``api.tune`` and ``api.front``: mistakes of callers are told by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verify_pipeline import api
from verify_pipeline.errors import ConfigError
from verify_pipeline.sweeps.interface import _grid

pytest.importorskip("sklearn")

ALPHA = "train.loss.alpha"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({ALPHA: 0.1}, "grid, train.loss.alpha; expected a list of values; got 0.1"),
        ({ALPHA: "0.1"}, "grid, train.loss.alpha; expected a list of values; got '0.1'"),
        (
            {ALPHA: None},
            "grid, train.loss.alpha; expected a list of values; got a value of",
        ),
        (
            {ALPHA: {0.1: 1}},
            "train.loss.alpha; expected a list of values; got a value of ty",
        ),
        ({3: [1]}, "grid; expected dotted keys; got 3"),
        ([ALPHA], "grid; expected a mapping by dotted keys; got a value of type list"),
        ({ALPHA: []}, "grid, train.loss.alpha; expected at least one value; got none"),
        ({ALPHA: [{"a": 1}]}, "grid, train.loss.alpha; expected a number, a text, .*type dict"),
        ({ALPHA: [[object()]]}, "grid, train.loss.alpha; expected a number, .*type object"),
    ],
)
def test_grids_that_are_none_are_refused(tmp_path: Path, grid: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        api.sweep("digits-cc-ibp", grid, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["3", 1.5, None, True])
@pytest.mark.parametrize("name", ["seeds", "jobs"])
def test_counts_of_a_sweep_that_are_none_are_refused(
    tmp_path: Path, name: str, wrong: object
) -> None:
    given: dict[str, Any] = {name: wrong}
    with pytest.raises(ConfigError, match=f"{name}; expected a whole number; got {wrong!r}"):
        api.sweep("digits-cc-ibp", {ALPHA: [0.1]}, tmp_path / "out", **given)


def test_overrides_that_no_recipe_has_are_refused(tmp_path: Path) -> None:
    wrong = {ALPHA: {"a": 1}}
    with pytest.raises(ConfigError, match=r"overrides, train\.loss\.alpha; expected a number"):
        api.sweep("digits-cc-ibp", {}, tmp_path / "out", overrides=wrong)
    with pytest.raises(ConfigError, match=r"overrides, train\.loss\.alpha; expected a number"):
        api.tune("digits-cc-ibp", tmp_path / "out", 1, overrides=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": "standard"}, "objectives: input should be a valid tuple; got 'standard'"),
        ({"timeot": 3}, r"timeot: unknown key; .*did you mean timeout"),
        ({"timeout": "soon"}, "timeout: input should be a valid number"),
        ({"seed": "1"}, "seed: input should be a valid integer; got '1'"),
        ({"pruning": True}, "pruning: expected a mapping of keys to values; got True"),
    ],
)
def test_options_of_a_tuning_that_are_none_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        api.tune("digits-cc-ibp", tmp_path / "out", 1, **options)
    assert str(error.value).startswith("api.tune: 1 error\n")


@pytest.mark.parametrize("wrong", ["3", 1.5])
def test_trials_that_are_no_count_are_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f"trials; expected a whole number; got {wrong!r}"):
        api.tune("digits-cc-ibp", tmp_path / "out", wrong)


def test_one_text_is_no_list_of_folders() -> None:
    with pytest.raises(ConfigError, match="folders; expected a list, or lists by name; got 'runs"):
        api.front("runs/cc")
    with pytest.raises(ConfigError, match="CC; expected a list of values; got 'runs/cc'"):
        api.front({"CC": "runs/cc"})


def test_values_become_texts_of_yaml() -> None:
    grid = {
        "numbers": np.array([0.1, 0.5]),
        "counts": np.arange(2),
        "others": ("2/255", 1e-5, True, None, [1, (2.0, "x")]),
    }
    assert _grid(grid) == {
        "numbers": ("0.1", "0.5"),
        "counts": ("0", "1"),
        "others": ("2/255", "1e-05", "true", "null", "[1, [2.0, x]]"),
    }

"""Grids: values as typed, names of runs, and mistakes that are all told at once."""

import pytest

from verify_pipeline.errors import ConfigError
from verify_pipeline.sweeps.grid import LONGEST_NAME, GridRun, check_runs, read_grid, runs_of


def names(grid: dict[str, tuple[str, ...]], seeds: int = 1) -> list[str]:
    return [run.name for run in runs_of(grid, 0, seeds)]


def test_values_are_split_at_commas_outside_of_brackets_and_quotes() -> None:
    assert read_grid(["a.b=0, 0.1,1", "c=[1, 2],[3]", "d='x,y',{e: [1,2]}"]) == {
        "a.b": ("0", "0.1", "1"),
        "c": ("[1, 2]", "[3]"),
        "d": ("'x,y'", "{e: [1,2]}"),
    }


@pytest.mark.parametrize("option", ["a", "a=", "=1", "a=1,,2", "a=1,"])
def test_an_option_that_is_no_grid_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=r"--grid; expected KEY=VALUE,VALUE"):
        read_grid([option])


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a once; got twice"):
        read_grid(["a=1", "a=2"])


def test_names_say_what_differs() -> None:
    assert names({"train.loss.alpha": ("0.01", "1")}, 2) == [
        "alpha=0.01_seed=0",
        "alpha=0.01_seed=1",
        "alpha=1_seed=0",
        "alpha=1_seed=1",
    ]
    assert [run.name for run in runs_of({}, 7, 2)] == ["seed=7", "seed=8"]
    assert names({"train.epsilon.target": ("2/255",), "train.seed": ("3", "5")}) == [
        "target=2-255_seed=3",
        "target=2-255_seed=5",
    ]
    assert names({"train.optimiser.milestones": ("[5, 8]",)}) == ["milestones=[5,8]_seed=0"]


def test_names_have_as_much_of_a_key_as_tells_it_from_others() -> None:
    grid = {"train.epsilon.start": ("1",), "train.loss.alpha_ramp.start": ("2",)}
    assert names(grid) == ["epsilon.start=1_alpha_ramp.start=2_seed=0"]


def test_values_of_a_run() -> None:
    (run,) = runs_of({"train.loss.alpha": ("0.5",)}, 4, 1)
    assert run == GridRun("alpha=0.5_seed=4", {"train.loss.alpha": "0.5", "train.seed": "4"})


def test_seeds_in_two_places_and_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="seeds in one place"):
        runs_of({"train.seed": ("1",)}, 0, 2)
    with pytest.raises(ConfigError, match=r"--seeds; expected at least 1; got 0"):
        runs_of({}, 0, 0)


def test_equal_values_and_long_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="each combination once; got alpha=1_seed=0 twice"):
        runs_of({"train.loss.alpha": ("1", "1")}, 0, 1)
    with pytest.raises(ConfigError, match=f"at most {LONGEST_NAME} characters"):
        runs_of({"train.loss.alpha": ("1" * LONGEST_NAME,)}, 0, 1)


def test_values_that_are_written_in_two_ways_are_one_run() -> None:
    runs = runs_of({"train.loss.alpha": ("0.1", "1e-1")}, 0, 1)
    with pytest.raises(ConfigError, match=r"got alpha=0.1_seed=0 and alpha=1e-1_seed=0, equal"):
        check_runs("digits-cc-ibp", {}, runs)


def test_all_mistakes_are_told_at_once_and_once() -> None:
    grid = {"train.loss.alpha": ("0.1", "2", "x"), "train.optimiser.epochs": ("40", "20")}
    with pytest.raises(ConfigError) as error:
        check_runs("digits-cc-ibp", {}, runs_of(grid, 0, 2))
    first, *lines = str(error.value).splitlines()
    assert first == "--grid, with recipe digits-cc-ibp: 3 errors"
    assert "optimiser.epochs = 20, got 28, 35" in lines[0]
    assert lines[1].startswith("  train.loss.alpha (--grid): input should be less than or equal")
    assert "'x'" in lines[2]


def test_unknown_keys_are_told() -> None:
    runs = runs_of({"train.loss.alhpa": ("0.1",)}, 0, 1)
    with pytest.raises(ConfigError, match=r"train.loss.alhpa \(--grid\): unknown key"):
        check_runs("digits-cc-ibp", {}, runs)


def test_epsilon_of_the_certification_follows_that_of_the_training() -> None:
    runs = runs_of({"train.epsilon.target": ("2/255", "0.1")}, 0, 1)
    recipes = check_runs("digits-cc-ibp", {"train.loss.alpha": "0.3"}, runs)
    assert [recipe.certify.epsilon for recipe in recipes.values()] == [2 / 255, 0.1]
    assert {recipe.train.loss.alpha for recipe in recipes.values()} == {0.3}
    assert recipes["target=0.1_seed=0"].name == "digits-cc-ibp_target=0.1_seed=0"

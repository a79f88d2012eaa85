"""Search spaces: what they may say, and that those of the package fit its recipes."""

from pathlib import Path
from typing import Any

import pytest

from verify_pipeline import losses
from verify_pipeline.errors import ConfigError
from verify_pipeline.sweeps.space import Range, Space, check_space, draw_all, read_space

LIST = (Range(low=0.5, high=0.8, of="epochs"), Range(low=0.8, high=0.95, of="epochs"))
SPACE = Space(
    parameters={
        "train.optimiser.milestones": LIST,
        "train.loss.alpha": Range(low=1e-3, high=1, log=True),
        "train.attack.steps": Range(low=1, high=8, integer=True),
        "train.data.augment": Range(choices=(True, False)),
        "train.optimiser.epochs": Range(low=10, high=40, integer=True),
    }
)


def chosen(**changed: Any) -> dict[str, Any]:
    values = {
        "train.optimiser.epochs": 20,
        "train.optimiser.milestones[0]": 0.5,
        "train.optimiser.milestones[1]": 0.89,
        "train.loss.alpha": 0.25,
        "train.attack.steps": 3,
        "train.data.augment": False,
    }
    return values | changed


def test_values_are_texts_of_the_recipe() -> None:
    assert SPACE.values(chosen(), 99) == {
        "train.optimiser.milestones": "[10, 17]",
        "train.loss.alpha": "0.25",
        "train.attack.steps": "3",
        "train.data.augment": "false",
        "train.optimiser.epochs": "20",
    }


def test_milestones_that_coincide_are_one_and_in_order() -> None:
    second, first = "train.optimiser.milestones[1]", "train.optimiser.milestones[0]"
    assert SPACE.values(chosen(**{second: 0.5}), 0)["train.optimiser.milestones"] == "[10]"
    values = SPACE.values(chosen(**{first: 0.8, second: 0.45}), 0)
    assert values["train.optimiser.milestones"] == "[9, 16]"


def test_shares_are_of_the_recipes_epochs_unless_the_space_chooses_them() -> None:
    space = Space(parameters={"train.epsilon.length": Range(low=0, high=1, of="epochs")})
    assert space.values({"train.epsilon.length": 0.49}, 10) == {"train.epsilon.length": "4"}


def test_epochs_are_drawn_first() -> None:
    drawn: list[str] = []
    draw_all(SPACE, lambda name, each: drawn.append(name))
    assert drawn[0] == "train.optimiser.epochs"
    assert sorted(drawn) == sorted(chosen())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected low and high, or choices"),
        ({"low": 1}, "expected low and high, or choices"),
        ({"low": 2, "high": 1}, "expected low <= high; got 2 and 1"),
        ({"low": 0, "high": 1, "log": True}, "expected low <= high and low > 0; got 0 and 1"),
        ({"low": 0.5, "high": 2, "integer": True}, "expected whole limits"),
        ({"low": 0.5, "high": 2, "of": "epochs"}, "expected shares of the epochs"),
        ({"low": 0.5, "high": 2, "choices": (1,)}, "got both"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Range(**fields)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_each_loss_has_a_space_that_its_recipes_take(loss: str) -> None:
    check_space(read_space(None, loss), "digits-cc-ibp", {"train.loss.name": loss})


def test_keys_and_limits_that_the_recipe_refuses_are_told_at_once() -> None:
    space = Space(
        parameters={
            "train.loss.alpha": Range(low=0.1, high=2),
            "train.loss.alhpa": Range(low=0.1, high=1),
        }
    )
    with pytest.raises(ConfigError) as error:
        check_space(space, "digits-cc-ibp", {})
    assert "train.loss.alhpa (--space): unknown key; expected one of name, alpha" in str(
        error.value
    )
    assert "train.loss.alpha (--space): input should be less than or equal to 1" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: {}", "parameters"),
        ("params: {}", "params.*unknown key"),
        ("parameters: {train.loss.alpha: {low: 1, hihg: 2}}", "hihg"),
        ("parameters: {train.loss.alpha: 3}", "train.loss.alpha"),
        ("- a", "expected a mapping"),
    ],
)
def test_files_that_are_no_space_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_space(path, "ibp")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{low: 1, hihg: 2}", "parameters.train.loss.alpha.hihg (line 1): unknown key; expected"),
        ("{low: 2, high: 1}", "parameters.train.loss.alpha (line 1): expected low <= high; got 2"),
        ("[{low: 2, high: 1}]", "parameters.train.loss.alpha[0] (line 1): expected low <= high"),
        ("3", "parameters.train.loss.alpha (line 1): expected a mapping of keys to values; got 3"),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(f"parameters: {{train.loss.alpha: {text}}}", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_space(path, "ibp")
    _, *told = str(error.value).splitlines()
    assert len(told) == 1
    assert told[0].strip().startswith(line)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_space(tmp_path / "none.yaml", "ibp")


@pytest.mark.parametrize(
    "key",
    [
        "certify.epsilon",
        "certify.timeout",
        "train.data.validation",
        "train.seed",
        "train.watch.every",
    ],
)
def test_what_is_measured_is_not_searched(key: str) -> None:
    space = Space(parameters={key: Range(choices=(1, 2))})
    with pytest.raises(ConfigError, match=f"settings of the training; got {key}"):
        check_space(space, "digits-cc-ibp", {})


def test_texts_where_numbers_belong_are_the_recipes_mistakes() -> None:
    space = Space(
        parameters={
            "train.optimiser.epochs": Range(choices=("a", 3)),
            "train.optimiser.milestones": (Range(choices=("b", 2)),),
        }
    )
    with pytest.raises(ConfigError, match="milestones") as error:
        check_space(space, "digits-cc-ibp", {})
    assert "train.optimiser.epochs (--space)" in str(error.value)

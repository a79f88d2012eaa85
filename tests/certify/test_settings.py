"""Certification's settings: what is refused, what makes two runs one."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from verify_pipeline.attacks.falsify import FalsifySettings
from verify_pipeline.branching import SearchSettings
from verify_pipeline.branching.config.search_settings import AttackChoice
from verify_pipeline.certify.settings import (
    ALL_STAGES,
    CertifySettings,
    StageName,
    asking_abcrown,
    parse_indices,
    plan,
)
from verify_pipeline.certify.stage_verdicts import DECIDES, IN_PLACE_OF
from verify_pipeline.errors import ConfigError
from verify_pipeline.problem import Status


@pytest.mark.parametrize(
    ("text", "count", "places"),
    [
        (":", 3, [0, 1, 2]),
        ("1:3", 10, [1, 2]),
        ("0:10:4", 10, [0, 4, 8]),
        (":2", 10, [0, 1]),
        ("8:100", 10, [8, 9]),
        ("7, 3,3", 10, [3, 7]),
        ("5", 10, [5]),
    ],
)
def test_indices(text: str, count: int, places: list[int]) -> None:
    assert parse_indices(text, count) == places


@pytest.mark.parametrize("text", ["a:b", "1:2:3:4", "::0", "1,x", "", "-1", "10", "0:3:-1"])
def test_impossible_indices(text: str) -> None:
    with pytest.raises(ConfigError, match="indices"):
        parse_indices(text, 10)


def test_more_images_than_there_are_may_be_an_index_and_both_readings_are_named() -> None:
    assert parse_indices(":10", 10) == list(range(10))
    with pytest.raises(ConfigError) as caught:
        parse_indices(":11", 10)
    for part in ("at most 10 images", "11, which is read as a count", "Image 11 alone", "11:12"):
        assert part in str(caught.value)


def test_values_come_as_a_recipe_has_them() -> None:
    made = TypeAdapter(CertifySettings).validate_python(
        {
            "epsilon": "2/255",
            "stages": ["clean", "ibp"],
            "indices": 100,
            "attack": {"steps": 5},
            "search": {"batch": 7},
        }
    )
    assert made.epsilon == 2 / 255
    assert made.indices == ":100"
    assert made.stages == ("clean", "ibp")
    assert made.attack == FalsifySettings(steps=5)
    assert made.search == SearchSettings(batch=7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": -0.1},
        {"epsilon": 1.5},
        {"epsilon": float("nan")},
        {"epsilon": True},
        {"stages": ("ibp",)},
        {"stages": ()},
        {"stages": ("clean", "ibp", "ibp")},
        {"stages": ("clean", "crown", "ibp")},
        {"stages": ("clean", "branch-and-bound", "attack")},
        {"stages": ("clean", "magic")},
        {"timeout": 0},
        {"give_up": 0},
        {"memory": 0},
        {"indices": "x"},
        {"indices": True},
        {"unknown": 1},
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(CertifySettings).validate_python({"epsilon": 0.1, **wrong})


def test_time_room_and_images_do_not_make_another_run() -> None:
    settings = CertifySettings(epsilon=0.1)
    same = replace(settings, timeout=5.0, memory=10, batch=3, indices=":7", retry=True, give_up=9.0)
    assert plan(same).digest == plan(settings).digest
    for other in (
        replace(settings, stages=("clean", "ibp")),
        replace(settings, attack=FalsifySettings(seed=1)),
        replace(settings, search=SearchSettings(max_domains=5)),
    ):
        assert plan(other).digest != plan(settings).digest


def test_a_search_file_is_its_content(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("bab:\n  timeout: 7\nattack:\n  pgd_steps: 9\n  pgd_restarts: 7\n")
    made = plan(CertifySettings(epsilon=0.1, search=str(path)))
    assert made.timeout == 7.0
    # Seven starting points are three rounds of three targeted rows.
    assert (made.attack.steps, made.attack.restarts, made.attack.targets) == (9, 3, 3)
    assert plan(CertifySettings(epsilon=0.1, search=str(path), timeout=3.0)).timeout == 3.0


@pytest.mark.parametrize("stages", [ALL_STAGES, ("clean", "attack")])
def test_a_search_file_that_skips_the_attack_leaves_its_stage_out(
    tmp_path: Path, stages: tuple[StageName, ...]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("attack: {pgd_order: before}")
    settings = CertifySettings(epsilon=0.1, stages=stages, search=str(path))
    before = plan(settings)
    assert before.stages == stages
    path.write_text("attack: {pgd_order: skip}")
    skipped = plan(settings)
    assert skipped.stages == tuple(name for name in stages if name != "attack")
    assert skipped.digest != before.digest
    asked_for = replace(settings, attack=FalsifySettings())
    assert plan(asked_for).stages == stages  # the stage's own settings come before the file's


def test_settings_of_the_search_are_obeyed_as_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("attack: {pgd_order: skip, pgd_steps: 9, pgd_restarts: 7}")
    choice = AttackChoice(order="skip", steps=9, restarts=7)
    settings = CertifySettings(epsilon=0.1, search=SearchSettings(attack=choice))
    assert plan(settings) == plan(CertifySettings(epsilon=0.1, search=str(path)))
    assert "attack" not in plan(settings).stages
    assert plan(settings).attack.steps == 9
    assert plan(CertifySettings(epsilon=0.1)).attack == FalsifySettings()
    late = SearchSettings(attack=AttackChoice(order="after"))
    assert plan(replace(settings, search=late)).ignored == ("attack.pgd_order: after",)


def test_a_plan_names_what_it_ignores_unless_the_other_engine_follows_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("general: {conv_mode: matrix}\nattack: {pgd_order: middle}")
    settings = CertifySettings(epsilon=0.1, search=str(path))
    assert plan(settings).ignored == ("general.conv_mode", "attack.pgd_order: middle")
    assert plan(asking_abcrown(settings)).ignored == ()
    path.write_text("bab: {timeout: 3}")
    assert plan(settings).ignored == ()


def test_a_search_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="no-such-search"):
        plan(CertifySettings(epsilon=0.1, search="no-such-search"))


def test_a_search_file_that_is_no_text_is_named_for_the_other_engine_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"bab: \xff")
    with pytest.raises(ConfigError, match="readable UTF-8"):
        plan(CertifySettings(epsilon=0.1, stages=("clean", "abcrown"), search=str(path)))


def test_every_stage_says_which_verdicts_it_can_give() -> None:
    assert set(DECIDES) == {*get_args(StageName), *IN_PLACE_OF}
    assert all(DECIDES.values())
    assert Status.UNKNOWN not in frozenset().union(*DECIDES.values())

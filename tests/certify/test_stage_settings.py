"""Settings of single stages: defaults, what is refused, and that each is part of the run's key."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import nn

from verify_pipeline.attacks.falsify import FalsifySettings
from verify_pipeline.bounds import OptimiseSettings
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import CertifySettings, StageName, plan
from verify_pipeline.certify.stage_settings import (
    AlphaCrownSettings,
    FewInputSettings,
    StageShares,
)
from verify_pipeline.config import load_recipe
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.onnx import network_from_module

PLAIN = CertifySettings(epsilon=0.1)
PARTS = ("shares", "alpha_crown", "input_split")


def changed() -> Iterator[Any]:
    """The settings with one number of one part halved."""
    for name in PARTS:
        part = getattr(PLAIN, name)
        for field in fields(part):
            value = getattr(part, field.name)
            other: object
            if isinstance(value, OptimiseSettings):
                other = replace(value, iterations=1)
            else:
                other = type(value)(value / 2)
            new = replace(part, **{field.name: other})
            yield pytest.param(replace(PLAIN, **{name: new}), id=f"{name}.{field.name}")


@pytest.mark.parametrize("settings", list(changed()))
def test_each_of_them_makes_another_run(settings: CertifySettings) -> None:
    assert plan(settings).digest != plan(PLAIN).digest


def test_each_number_of_the_attack_makes_another_run() -> None:
    for field in fields(FalsifySettings):
        value = getattr(FalsifySettings(), field.name)
        other = value + 1 if isinstance(value, int) else value / 2
        attack = replace(FalsifySettings(), **{field.name: other})
        assert plan(replace(PLAIN, attack=attack)).digest != plan(PLAIN).digest, field.name


def test_the_key_of_a_run_holds_every_number() -> None:
    tried = json.loads(plan(PLAIN).tried)
    assert tried["shares"] == {"attack": 0.25, "crown": 0.75, "alpha_crown": 0.5}
    assert tried["input_split"] == {
        "few_inputs": 16,
        "very_few_inputs": 4,
        "affordable": 0.005,
        "patience": 3.0,
    }
    assert tried["alpha_crown"]["neurons"]["iterations"] == 5
    assert tried["alpha_crown"]["stop_above"] == 1e-4
    assert tried["attack"]["samples"] == 1024


def test_a_stage_without_a_share_may_take_everything() -> None:
    assert StageShares().of("branch-and-bound") == 1.0
    assert StageShares(alpha_crown="1/3").of("alpha-crown") == 1 / 3  # type: ignore[arg-type]


RECIPE = "digits-cc-ibp"


def test_a_recipe_says_them() -> None:
    recipe = load_recipe(
        RECIPE,
        {
            "certify.shares.crown": "1/2",
            "certify.input_split.few_inputs": "8",
            "certify.alpha_crown.neurons.iterations": "2",
        },
    )
    assert recipe.certify.shares == StageShares(crown=0.5)
    assert recipe.certify.input_split == FewInputSettings(few_inputs=8)
    assert recipe.certify.alpha_crown.neurons.iterations == 2
    assert load_recipe(RECIPE).certify.alpha_crown == AlphaCrownSettings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shares.crown", "0"),
        ("shares.crown", "1.5"),
        ("shares.ibp", "0.5"),
        ("input_split.few_inputs", "-1"),
        ("input_split.patience", "0"),
        ("alpha_crown.stop_above", "-1e-4"),
        ("alpha_crown.neuron_walks", "0"),
    ],
)
def test_impossible_values_are_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        load_recipe(RECIPE, {f"certify.{key}": value})


def test_inputs_are_split_only_where_few_of_them_are_free() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())
    module.append(nn.Linear(12, 2))
    network = network_from_module(module, (2,))
    pixels = torch.rand(12, 2)
    labels = network.replay(pixels).argmax(1)
    images = ImageSet("toy", "test", pixels, labels, 2)
    stages: tuple[StageName, ...] = ("clean", "branch-and-bound")
    settings = CertifySettings(epsilon=0.4, stages=stages, timeout=60.0)
    found = {}
    for few in (2, 1):
        chosen = replace(settings, input_split=FewInputSettings(few_inputs=few))
        records = certify_set(network, images, chosen).records
        found[few] = {record.stage for record in records}
    assert "input-split" in found[2]
    assert "input-split" not in found[1]
    assert "branch-and-bound" in found[1]

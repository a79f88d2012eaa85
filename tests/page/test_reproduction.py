"""What a reader needs to make a run again."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
from typer.main import get_command

from tests.page.conftest import CertifiedRun
from tests.reporting.runs import run
from verify_pipeline.certify.settings import CertifySettings, plan
from verify_pipeline.certify.tally import Summary
from verify_pipeline.cli.app import app
from verify_pipeline.page import RunEvidence
from verify_pipeline.page.reproduction import reproduction

STAGES = ("clean", "ibp", "attack", "crown")


def of_defaults(summary: Summary) -> Summary:
    """The run as the defaults of `certify` make it with these stages."""
    chosen = plan(CertifySettings(epsilon=summary.info.epsilon or 0.0, stages=STAGES))
    key = replace(summary.info.run, settings=chosen.digest)
    return replace(summary, info=replace(summary.info, run=key))


def test_the_command_is_understood_and_asks_the_same() -> None:
    summary = run(3, data="tinyimagenet:published", epsilon=2 / 255)
    (command,) = reproduction(RunEvidence(summary)).commands.values()
    program, name, *arguments = shlex.split(command)
    assert (program, name) == ("verify-pipeline", "certify")
    typed = get_command(app).commands[name].make_context(name, arguments).params  # type: ignore[attr-defined]
    assert (typed["data"], typed["class_order"]) == ("tinyimagenet", "published")
    assert (typed["epsilon"], typed["indices"]) == ("2/255", "0:10")
    assert typed["stages"].split(",") == list(STAGES)
    assert typed["timeout"] == "10"


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_command_names_the_split(split: str) -> None:
    summary = run(3)
    key = replace(summary.info.run, split=split)
    other = replace(summary, info=replace(summary.info, run=key))
    (command,) = reproduction(RunEvidence(other)).commands.values()
    _, name, *arguments = shlex.split(command)
    typed = get_command(app).commands[name].make_context(name, arguments).params  # type: ignore[attr-defined]
    assert (typed["split"] or "test") == split


def test_the_command_says_whether_the_run_had_other_settings() -> None:
    (title,) = reproduction(RunEvidence(run(3))).commands
    assert "other settings" in title
    (title,) = reproduction(RunEvidence(of_defaults(run(3)))).commands
    assert title == "Certify the network again"


def test_other_questions_have_no_command() -> None:
    for changes in ({"specification": "top-3"}, {"perturbation": "linf by pixel " + "a" * 32}):
        summary = run(3)
        key = replace(summary.info.run, **changes)
        other = replace(summary, info=replace(summary.info, run=key, epsilon=None))
        assert reproduction(RunEvidence(other)).commands == {}


def test_hashes_seeds_and_versions_are_there(certified: CertifiedRun) -> None:
    summary = certified.summary
    facts = dict(reproduction(RunEvidence(summary)).facts)
    assert facts["SHA-256 of the network"] == summary.info.run.network
    assert facts["Digest of the settings"] == summary.info.run.settings
    assert facts["Seed of the attack"] == "0"
    assert "onnxruntime" in facts["Versions"]
    assert facts["Data"] == "images, arrays, images 0:80"
    assert dict(reproduction(RunEvidence(run(3))).facts)["Seed of the training"] == "0"


def test_settings_are_json_and_a_recipe_replaces_the_notes_of_the_training() -> None:
    texts = reproduction(RunEvidence(run(3))).texts
    assert json.loads(texts["Settings of the certification (JSON)"])["stages"] == list(STAGES)
    assert json.loads(texts["Settings of the training (JSON)"])["loss"]["alpha"] == 0.1
    assert list(reproduction(RunEvidence(run(3), recipe="name: x\n")).texts) == [
        "Recipe (YAML)",
        "Settings of the certification (JSON)",
    ]


def test_stages_of_another_version_are_other_settings() -> None:
    summary = run(3)
    other = replace(summary, info=replace(summary.info, settings='{"stages": ["clean", "new"]}'))
    (title,) = reproduction(RunEvidence(other)).commands
    assert "other settings" in title

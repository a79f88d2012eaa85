"""Tunings: chosen on validation images, reported on test images."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.sweeps.conftest import Here, Told
from verify_pipeline import api, data
from verify_pipeline.certify.settings import ALL_STAGES
from verify_pipeline.config import load_recipe
from verify_pipeline.data import registry
from verify_pipeline.errors import ConfigError, DependencyError, StudyError, TrainingError
from verify_pipeline.sweeps import tuning_report
from verify_pipeline.sweeps.machine import Machine
from verify_pipeline.sweeps.pareto import hypervolume, pareto_front
from verify_pipeline.sweeps.processes import RunJob
from verify_pipeline.sweeps.pruning import PruningRule
from verify_pipeline.sweeps.results import TuneResult
from verify_pipeline.sweeps.study import Study
from verify_pipeline.sweeps.trial import TrialOutcome, read_outcome, validation_settings
from verify_pipeline.sweeps.tune_plan import TuneRequest, plan_tuning
from verify_pipeline.sweeps.tuner import tune

pytest.importorskip("optuna")


def search(
    recipe: Path, space: Path, out: Path, trials: int, told: Told | None = None, **options: Any
) -> TuneResult:
    return tune(TuneRequest(recipe, space=space, **options), out, trials, Machine(), told)


def test_a_tuning_chooses_on_validation_and_reports_test_images(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    result = search(recipe, space, out, 4)
    assert [trial.state for trial in result.trials] == ["complete"] * 4
    points = [trial.objectives for trial in result.trials if trial.objectives is not None]
    assert [trial.objectives for trial in result.front] == list(pareto_front(points))
    assert list(result.hypervolume) == [0, 1, 2, 3]
    assert result.hypervolume[3] == hypervolume(points, (0.0, 0.0))
    for trial in result.trials:
        assert trial.outcome is not None
        assert trial.outcome.counts["images"] == 30
        assert (trial.summary is not None) == trial.on_front
    for trial in result.front:
        assert trial.summary is not None
        assert trial.summary.info.run.split == "test"
        assert trial.summary.tally.images == 20
    report = (out / "report.md").read_text()
    assert "The choice was made on 30 validation images" in report
    stages = "by the recipe's stages (clean, ibp, attack), which have no branch and bound"
    assert f"Verified accuracy in the search: {stages}; at most 5 s for each image." in report
    assert "* Tested on 20 images of digits, ε = 0.03125; clean, ibp, attack; at most 5 s" in report
    assert "test images | test standard % |" in report
    tally = result.front[0].summary.tally if result.front[0].summary else None
    assert tally is not None
    assert f"| 20 | {100 * tally.right / 20:.2f} | {100 * tally.proved / 20:.2f} |" in report
    frame = pd.read_csv(out / "trials.csv")
    assert frame["validation_images"].tolist() == [30] * 4
    assert frame["test_images"].notna().tolist() == frame["on_front"].tolist()
    assert len(pd.read_csv(out / "front.csv")) == len(result.front)
    assert api.front([out]).question == "20 images of digits, ε = 0.03125"
    growth = pd.read_csv(out / "hypervolume.csv")
    assert growth["hypervolume"].is_monotonic_increasing
    # the same command adds nothing; more trials are added, and none is done again
    told = Told()
    assert search(recipe, space, out, 4, told).to_frame().equals(result.to_frame())
    assert told.names("started") == []
    told = Told()
    search(recipe, space, out, 5, told)
    assert told.names("started")[0] == "trial=0004"


def test_names_and_errors_stay_text_in_the_report(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    def fails(job: RunJob) -> None:
        raise TrainingError("a file <script>alert(1)</script> | of others")

    here.before = fails
    named = recipe.rename(recipe.with_name("tiny<b>|x.yaml"))
    search(named, space, tmp_path / "out", 1)
    report = (tmp_path / "out" / "report.md").read_text()
    assert report.startswith("# Tuning of tiny&lt;b>\\|x\n")
    assert "a file &lt;script>alert(1)&lt;/script> \\| of others" in report


def test_validation_images_are_the_held_out_ones(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    search(recipe, space, tmp_path / "out", 1)
    (held,) = api.read_ledgers([tmp_path / "out" / "trials" / "0000" / "validation.sqlite"])
    assert held.info.run.split == "validation"
    images = data.load("digits", "train")
    _, validation = data.split_validation(images, 30, load_recipe(recipe).train.seed)
    assert [record.label for record in held.records] == validation.labels.tolist()


def test_a_fifth_is_held_out_and_at_most_a_thousand(
    recipe: Path, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, held_out in ((4995, 999), (6000, 1000), (60000, 1000)):
        monkeypatch.setattr(registry, "load", lambda *_, count=count: range(count))
        asked = TuneRequest(recipe, {"train.data.validation": "0"}, space=space)
        plan = plan_tuning(asked, tmp_path / "out")
        assert plan.base.train.data.validation == held_out
        assert f": {held_out} of its {count} training images" in plan.notes[0]


def test_recipes_of_an_earlier_front_are_removed(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    front = tmp_path / "out" / "front"
    front.mkdir(parents=True)
    for name in ("trial-0099.yaml", "mine.yaml"):
        (front / name).touch()
    result = search(recipe, space, tmp_path / "out", 1)
    assert set(front.iterdir()) == {*result.recipes.values(), front / "mine.yaml"}


def on_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every trial be on the front."""
    monkeypatch.setattr(tuning_report, "front_indices", lambda points: range(len(points)))


def test_two_commands_certify_the_test_images_of_a_trial_once(
    recipe: Path, space: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_front(monkeypatch)
    out, first, second = tmp_path / "out", Told(), Told()

    def another_command(job: RunJob) -> None:
        if job.name.startswith("test images") and not second.lines:
            assert search(recipe, space, out, 2, second).files == ()

    here.before = another_command
    result = search(recipe, space, out, 2, first)
    started = [*first.names("started"), *second.names("started")]
    tests = [name for name in started if str(name).startswith("test images")]
    assert sorted(map(str, tests)) == ["test images of trial=0000", "test images of trial=0001"]
    (note,) = second.names("noted")
    assert str(note).startswith("Networks whose test images other commands certify: 1.")
    assert result.files
    assert all(trial.summary is not None for trial in result.front)


def test_a_test_that_was_stopped_frees_its_trial(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    def stop(job: RunJob) -> None:
        if job.name.startswith("test"):
            raise KeyboardInterrupt

    here.before = stop
    with pytest.raises(KeyboardInterrupt):
        search(recipe, space, tmp_path / "out", 1)
    here.before = lambda job: None
    assert search(recipe, space, tmp_path / "out", 1).front[0].summary is not None


def test_a_trial_that_fails_is_told_and_does_not_end_the_study(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    def fails(job: RunJob) -> None:
        if job.name == "trial=0001":
            raise TrainingError("a loss of nan")

    here.before = fails
    told, out = Told(), tmp_path / "out"
    result = search(recipe, space, out, 3, told)
    assert [trial.state for trial in result.trials] == ["complete", "failed", "complete"]
    assert result.trials[1].error == "error: a loss of nan"
    assert ("ended", "trial=0001", "error: a loss of nan") in told.lines
    assert "Trial 1 failed: error: a loss of nan" in (out / "report.md").read_text()


def test_a_process_without_an_outcome_is_a_failed_trial(
    recipe: Path, space: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verify_pipeline.sweeps.worker.do", lambda job: None)
    result = search(recipe, space, tmp_path / "out", 1)
    assert result.trials[0].state == "failed"
    assert "expected an outcome in outcome.json" in (result.trials[0].error or "")
    assert result.front == ()
    assert "no trial is complete" in (tmp_path / "out" / "report.md").read_text()


def test_a_damaged_outcome_is_a_failed_trial(
    recipe: Path, space: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = TrialOutcome(None, {}, {"images": 30}, {})
    monkeypatch.setattr("verify_pipeline.sweeps.trial.run_trial", lambda *_, **__: damaged)
    result = search(recipe, space, tmp_path / "out", 1)
    assert result.trials[0].state == "failed"
    assert "an outcome in outcome.json; got no count of right" in (result.trials[0].error or "")


def test_a_trial_that_was_stopped_goes_on(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    def stop(job: RunJob) -> None:
        raise KeyboardInterrupt

    here.before = stop
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        search(recipe, space, out, 2)
    here.before = lambda job: None
    told = Told()
    result = search(recipe, space, out, 2, told)
    assert told.names("started")[:2] == ["trial=0000", "trial=0001"]
    whole = search(recipe, space, tmp_path / "whole", 2)
    assert [t.values for t in result.trials] == [t.values for t in whole.trials]
    assert [t.objectives for t in result.trials] == [t.objectives for t in whole.trials]


def test_a_recipe_of_the_front_makes_the_network_that_was_tuned(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    result = search(recipe, space, tmp_path / "out", 1)
    chosen = load_recipe(result.recipes[0])
    assert chosen.train.watch == load_recipe(recipe).train.watch
    tuned = api.load_trained(tmp_path / "out" / "trials" / "0000").module.state_dict()
    again = api.train(chosen).module.state_dict()
    assert tuned.keys() == again.keys()
    assert all(torch.equal(tuned[name], again[name]) for name in tuned)


def test_trainings_that_are_far_behind_are_ended(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    known: list[dict[str, Any]] = []

    def ahead(job: RunJob) -> None:
        rivals = job.content.get("rivals")
        if rivals is not None:
            known.append(rivals["rungs"])
        if job.name == "trial=0001":
            job.content["rivals"] = {"rule": {"rivals": 1}, "rungs": {"2": [[1.0, 1.0]]}}

    here.before = ahead
    told = Told()
    result = search(recipe, space, tmp_path / "out", 3, told)
    first, ended, _ = result.trials
    assert ended.state == "pruned"
    assert ended.outcome is not None
    assert ended.outcome.pruned == 2
    assert set(ended.outcome.rungs) == {1, 2}
    assert ended.outcome.counts == {}
    assert read_outcome(tmp_path / "out" / "trials" / "0001") == ended.outcome
    # rivals are the trainings that went to the end
    assert first.outcome is not None
    rungs = {rung: (point,) for rung, point in first.outcome.rungs.items()}
    assert known == [{}, rungs, rungs]
    assert ended.number not in result.hypervolume


def test_pruning_can_be_switched_off(recipe: Path, space: Path, tmp_path: Path, here: Here) -> None:
    def ahead(job: RunJob) -> None:
        if "rivals" in job.content:
            job.content["rivals"]["rungs"] = {"1": [[1.0, 1.0]] * 9}

    here.before = ahead
    rule = PruningRule(active=False)
    result = search(recipe, space, tmp_path / "out", 2, pruning=rule)
    assert [trial.state for trial in result.trials] == ["complete"] * 2
    report = (tmp_path / "out" / "report.md").read_text()
    # two trainings, so no three rivals
    assert "The rule would have ended 0 of 2, 0 of them on the front, and saved 0 %" in report


@pytest.mark.parametrize(
    ("estimate", "stages"),
    [
        ("complete", ALL_STAGES),
        ("crown", ("clean", "ibp", "crown")),
        ("ibp", ("clean", "ibp")),
    ],
)
def test_what_an_estimate_runs(estimate: str, stages: tuple[str, ...]) -> None:
    settings = validation_settings(load_recipe("digits-cc-ibp"), estimate, 3.0)
    assert (settings.stages, settings.timeout, settings.indices) == (stages, 3.0, ":")


def test_an_estimate_is_certified_on_test_images_by_the_whole_cascade(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    result = search(recipe, space, tmp_path / "out", 1, estimate="ibp")
    (trial,) = result.front
    assert trial.summary is not None
    assert trial.summary.stages == ("clean", "ibp", "attack")
    assert "an estimate by IBP bounds alone" in (tmp_path / "out" / "report.md").read_text()


def test_a_recipe_without_held_out_images_gets_a_share_and_a_note() -> None:
    pytest.importorskip("sklearn")
    plan = plan_tuning(TuneRequest("digits-cc-ibp"), Path("none"))
    assert plan.base.train.data.validation == 287  # a fifth of 1437
    (note,) = plan.notes
    assert "287 of its 1437 training images" in note
    assert plan.said["timeout"] == 10.0
    assert plan.lines[0] == note
    assert plan.verified.startswith("by the recipe's stages (clean, ibp, attack, crown, alpha-cro")
    assert plan.verified.endswith(
        "branch-and-bound): complete verification; at most 10 s for each image"
    )
    assert f"verified accuracy: {plan.verified}" in plan.lines
    assert "train.loss.alpha: 0.001 to 1, logarithmic" in plan.lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ("standard", "speed")}, "some of standard, attack-robust, verified"),
        ({"objectives": ("standard", "standard")}, "each once; got standard, standard"),
        ({"objectives": ()}, "got none"),
        ({"estimate": "guess"}, "one of complete, crown, ibp; got 'guess'"),
        ({"objectives": ("attack-robust",), "estimate": "ibp"}, "expected --estimate complete"),
        (
            {"objectives": ("attack-robust",), "overrides": {"certify.stages": "[clean, ibp]"}},
            "attack-robust; expected a recipe with attack among certify.stages; got clean, ibp",
        ),
        (
            {"overrides": {"certify.stages": "[clean, attack]"}},
            "--objectives verified; expected a recipe with ibp or crown or .*; got clean, attack",
        ),
        ({"timeout": 0.0}, "--timeout; expected finite seconds > 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(ConfigError, match=message):
        plan_tuning(TuneRequest("digits-cc-ibp", **options), Path("none"))


def test_mistakes_of_a_space_name_where_it_comes_from(recipe: Path) -> None:
    short = {"train.epsilon.start": "2", "train.epsilon.length": "1"}
    with pytest.raises(ConfigError) as error:
        plan_tuning(TuneRequest(recipe, short), Path("none"))
    assert str(error.value).startswith("search space of cc-ibp, with recipe tiny: ")
    with pytest.raises(ConfigError) as error:
        plan_tuning(TuneRequest(api.load_recipe(recipe), {"train.loss.alpha": "2"}), Path("none"))
    assert str(error.value).startswith("recipe tiny: 1 error\n")


def test_another_tuning_is_refused(recipe: Path, space: Path, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "out"
    search(recipe, space, out, 1)
    with pytest.raises(StudyError, match="the estimate that it was begun with, complete; got ibp"):
        search(recipe, space, out, 1, estimate="ibp")
    with pytest.raises(StudyError, match="the seed that it was begun with, 0; got 1"):
        search(recipe, space, out, 1, seed=1)
    other = tmp_path / "other.yaml"
    other.write_text(space.read_text().replace("2e-2", "5e-2"), encoding="utf-8")
    changed = r"parameters\.train\.optimiser\.learning_rate\.high"
    differs = rf"the space that it was begun with, {changed}=0\.02; got {changed}=0\.05\. Name"
    with pytest.raises(StudyError, match=differs):
        search(recipe, other, out, 1)
    with pytest.raises(StudyError, match=r"with, active=True; got active=False\. Name"):
        search(recipe, space, out, 1, pruning=PruningRule(active=False))
    with pytest.raises(StudyError, match=r"with, standard, verified; got verified\. Name"):
        search(recipe, space, out, 1, objectives=("verified",))
    with pytest.raises(StudyError, match=r"with sweep\.json; got one with tune\.json"):
        api.sweep(recipe, {}, out)


def test_a_command_that_ends_while_others_work_leaves_the_report_to_them(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    search(recipe, space, out, 1)
    plan = plan_tuning(TuneRequest(recipe, space=space), out)
    with Study(out, 2, 0) as other:
        assert other.next(2, plan.space, 3) is not None
        told = Told()
        result = search(recipe, space, out, 2, told)
    assert result.files == ()
    assert "Trials that other commands work on: 1." in str(told.names("noted")[-1])


def test_a_missing_optuna_is_told_before_anything_is_written(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DependencyError, match="optuna is not installed"):
        tune(TuneRequest(recipe), tmp_path / "out", 1, Machine())
    assert not (tmp_path / "out").exists()


def test_the_api_takes_options_of_the_request(
    recipe: Path, space: Path, tmp_path: Path, here: Here
) -> None:
    overrides = {"train.optimiser.epochs": 2}
    result = api.tune(
        recipe, tmp_path / "out", 1, overrides=overrides, space=space, objectives=("verified",)
    )
    assert result.objectives == ("verified",)
    assert repr(result) == f"TuneResult({tmp_path / 'out'}: 1 trials, 1 on the front)"
    said = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert said["set"] == {"train.optimiser.epochs": "2"}

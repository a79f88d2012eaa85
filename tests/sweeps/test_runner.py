"""Sweeps: what is run, continued, retried and refused."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from tests.sweeps.conftest import RECIPE, Here, Told
from verify_pipeline import api
from verify_pipeline.errors import ConfigError, StudyError, TrainingError
from verify_pipeline.sweeps.locks import FileLock
from verify_pipeline.sweeps.machine import Machine
from verify_pipeline.sweeps.processes import RunJob
from verify_pipeline.sweeps.runner import SweepRequest, plan_sweep, run_sweep

ALPHA = "train.loss.alpha"


def request(recipe: Path, *alphas: str, seeds: int = 1) -> SweepRequest:
    return SweepRequest(recipe, {ALPHA: alphas}, seeds)


def test_a_sweep_runs_each_combination_once(recipe: Path, tmp_path: Path, here: Here) -> None:
    pytest.importorskip("matplotlib")
    told, out = Told(), tmp_path / "out"
    result = run_sweep(request(recipe, "0.1", "1", seeds=2), out, Machine(), told)
    names = ["alpha=0.1_seed=0", "alpha=0.1_seed=1", "alpha=1_seed=0", "alpha=1_seed=1"]
    assert [run.name for run in result.runs] == names
    assert told.names("started") == names
    assert told.names("planned") == [4]
    assert told.names("left") == [3, 2, 1]
    assert {run.state for run in result.runs} == {"done"}
    networks = {run.summary.info.network_name for run in result.runs if run.summary}
    assert networks == {f"tiny_{name}" for name in names}
    frame = result.to_frame()
    assert frame[ALPHA].tolist() == ["0.1", "0.1", "1", "1"]
    assert frame["train.seed"].tolist() == ["0", "1", "0", "1"]
    assert frame["images"].tolist() == [20] * 4
    summary = result.runs[0].summary
    assert summary is not None
    how = ["data_set", "epsilon", "places", "stages", "timeout", "settings"]
    asked = ("digits", 1 / 32, "0:20", "clean ibp attack", 5.0, summary.info.run.settings)
    assert set(frame[how].itertuples(index=False, name=None)) == {asked}
    tally = result.runs[3].summary.tally if result.runs[3].summary else None
    assert tally is not None
    assert frame["standard"][3] == 100 * tally.right / 20
    assert frame["verified"][3] == 100 * tally.proved / 20
    table = pd.read_csv(out / "table.csv")  # a row for each α, of two seeds
    assert table["alpha"].tolist() == [0.1, 1.0]
    assert (out / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (out / "figure.svg").read_text()
    written = pd.read_csv(out / "runs.csv", dtype=str)
    assert written["run"].tolist() == names
    assert api.front([out]).question == "20 images of digits, ε = 0.03125"
    # the same command does nothing again
    told = Told()
    again = run_sweep(request(recipe, "0.1", "1", seeds=2), out, Machine(), told)
    assert told.lines == [("planned", 4, 4)]
    assert again.to_frame().equals(frame)


def test_more_values_and_seeds_are_added_and_fewer_take_none_away(
    recipe: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    run_sweep(request(recipe, "0.1"), out, Machine())
    told = Told()
    result = run_sweep(request(recipe, "0.5", seeds=2), out, Machine(), told)
    assert told.names("started") == ["alpha=0.5_seed=0", "alpha=0.5_seed=1"]
    assert [run.name for run in result.runs] == [
        "alpha=0.1_seed=0",
        "alpha=0.5_seed=0",
        "alpha=0.5_seed=1",
    ]


def test_failed_runs_are_listed_and_tried_again(recipe: Path, tmp_path: Path, here: Here) -> None:
    def fails(job: RunJob) -> None:
        if job.name == "alpha=0.1_seed=0":
            raise TrainingError("no power")

    here.before = fails
    told, out = Told(), tmp_path / "out"
    result = run_sweep(request(recipe, "0.1", "1"), out, Machine(), told)
    (failed,) = result.failed
    assert (failed.name, failed.error) == ("alpha=0.1_seed=0", "error: no power")
    assert result.to_frame()["error"].tolist() == ["error: no power", ""]
    assert len(pd.read_csv(out / "table.csv")) == 1
    assert [run.name for run in plan_sweep(request(recipe, "0.1", "1"), out).todo] == [failed.name]
    here.before = lambda job: None
    told = Told()
    assert not run_sweep(request(recipe, "0.1", "1"), out, Machine(), told).failed
    assert told.names("started") == ["alpha=0.1_seed=0"]


def test_a_sweep_without_any_result_has_a_table_of_failures_only(
    recipe: Path, tmp_path: Path, here: Here
) -> None:
    def fails(job: RunJob) -> None:
        raise TrainingError("no power")

    here.before = fails
    result = run_sweep(request(recipe, "0.1"), tmp_path / "out", Machine())
    assert [path.name for path in result.files] == ["runs.csv"]


def test_a_run_whose_verdicts_are_gone_is_done_again(
    recipe: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    run_sweep(request(recipe, "0.1"), out, Machine())
    (out / "alpha=0.1_seed=0" / "ledger.sqlite").unlink()
    assert len(plan_sweep(request(recipe, "0.1"), out).todo) == 1


def test_a_run_with_images_that_have_no_verdict_is_not_done(
    recipe: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    run_sweep(request(recipe, "0.1"), out, Machine())
    with closing(sqlite3.connect(out / "alpha=0.1_seed=0" / "ledger.sqlite")) as ledger:
        ledger.execute("DELETE FROM verdicts WHERE image = 7")
        ledger.commit()
    (known,) = plan_sweep(request(recipe, "0.1"), out).known.values()
    assert (known.state, known.summary) == ("open", None)
    result = run_sweep(request(recipe, "0.1"), out, Machine())
    assert result.to_frame()["images"].tolist() == [20]


def test_a_sweep_that_was_stopped_goes_on(recipe: Path, tmp_path: Path, here: Here) -> None:
    def stop(job: RunJob) -> None:
        if job.name.startswith("alpha=1"):
            raise KeyboardInterrupt

    here.before = stop
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(request(recipe, "0.1", "1"), out, Machine())
    here.before = lambda job: None
    told = Told()
    run_sweep(request(recipe, "0.1", "1"), out, Machine(), told)
    assert told.lines[0] == ("planned", 2, 1)
    assert told.names("started") == ["alpha=1_seed=0"]


def test_a_missing_matplotlib_costs_the_figure_only(
    recipe: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.pyplot", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    told = Told()
    result = run_sweep(request(recipe, "0.1"), tmp_path / "out", Machine(), told)
    assert not result.failed
    assert "figure.pdf" not in [path.name for path in result.files]
    (note,) = told.names("noted")
    assert str(note).startswith("No figure was drawn: matplotlib")


def test_planning_writes_nothing(recipe: Path, tmp_path: Path) -> None:
    plan = plan_sweep(request(recipe, "0.1", "1"), tmp_path / "out")
    assert len(plan.todo) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"grid": {"train.optimiser.l1": ("0",)}}, "the grid that it was begun with"),
        ({"overrides": {"train.optimiser.l1": "1e-6"}}, "the set that it was begun with, none"),
    ],
)
def test_another_sweep_is_refused(
    recipe: Path, tmp_path: Path, here: Here, changed: dict[str, object], message: str
) -> None:
    out = tmp_path / "out"
    run_sweep(request(recipe, "0.1"), out, Machine())
    asked = {"recipe": recipe, "grid": {ALPHA: ("0.1",)}, "overrides": {}, **changed}
    with pytest.raises(StudyError, match=message):
        run_sweep(SweepRequest(**asked), out, Machine())  # type: ignore[arg-type]


def test_another_recipe_is_refused(recipe: Path, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "out"
    run_sweep(request(recipe, "0.1"), out, Machine())
    recipe.write_text(RECIPE.replace("epochs: 3", "epochs: 4"), encoding="utf-8")
    with pytest.raises(StudyError, match="the recipe as it was when the folder was begun"):
        run_sweep(request(recipe, "0.1"), out, Machine())
    other = recipe.rename(tmp_path / "other.yaml")
    with pytest.raises(StudyError, match="the recipe that it was begun with, tiny; got other"):
        run_sweep(request(other, "0.1"), out, Machine())


def test_damaged_notes_are_told(recipe: Path, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "out"
    run_sweep(request(recipe, "0.1"), out, Machine())
    (out / "alpha=0.1_seed=0" / "state.json").write_text("{")
    with pytest.raises(StudyError, match=r"state\.json; expected what is known of a run"):
        plan_sweep(request(recipe, "0.1"), out)
    (out / "sweep.json").write_text("[]")
    with pytest.raises(StudyError, match=r"sweep\.json; expected what was begun"):
        plan_sweep(request(recipe, "0.1"), out)


def test_two_commands_at_once_are_refused(recipe: Path, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "out"
    with (
        FileLock(out / ".lock"),
        pytest.raises(StudyError, match="expected no other command that works there"),
    ):
        run_sweep(request(recipe, "0.1"), out, Machine())
    assert not (out / "sweep.json").exists()


def test_images_that_are_not_there_are_refused_before_anything_starts(
    recipe: Path, tmp_path: Path
) -> None:
    asked = SweepRequest(recipe, {ALPHA: ("1",)}, overrides={"certify.indices": "500"})
    with pytest.raises(ConfigError, match="expected at most 360 images"):
        run_sweep(asked, tmp_path / "out", Machine())
    assert not (tmp_path / "out").exists()


def test_the_api_takes_values_and_a_recipe_that_was_read(
    recipe: Path, tmp_path: Path, here: Here
) -> None:
    read = api.load_recipe(recipe)
    values = {"train.optimiser.milestones": [[1], (1, 2)], "train.data.augment": [False]}
    result = api.sweep(read, values, tmp_path / "out", overrides={"train.loss.alpha": 0.25})
    assert [run.name for run in result.runs] == [
        "milestones=[1]_augment=false_seed=0",
        "milestones=[1,2]_augment=false_seed=0",
    ]
    assert not result.failed
    metrics = pd.read_csv(tmp_path / "out" / result.runs[0].name / "metrics.csv")
    assert metrics["alpha"].tolist() == [0.25] * 3
    assert repr(result) == f"SweepResult({tmp_path / 'out'}: 2 done)"
    job = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert job["recipe"] == "tiny"


def test_values_whose_folders_are_called_alike_are_refused(
    recipe: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    run_sweep(SweepRequest(recipe, {"certify.indices": ("1:5",)}), out, Machine())
    with pytest.raises(ConfigError, match=r"indices=15_seed=0 is that of certify\.indices=1:5"):
        run_sweep(SweepRequest(recipe, {"certify.indices": ("15",)}), out, Machine())

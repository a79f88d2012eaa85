"""Fronts of methods compared, by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from verify_pipeline.errors import ConfigError, StudyError
from verify_pipeline.sweeps.comparison import compare_fronts, named_folders
from verify_pipeline.sweeps.comparison_report import notes_of, rows_of, write_comparison

ASKED = {
    "data_set": "digits",
    "epsilon": 2 / 255,
    "images": 20,
    "places": "0:20",
    "stages": "clean ibp",
    "timeout": 5.0,
    "settings": "0012e4567",
}


def asked(frame: pd.DataFrame, prefix: str, changed: dict[str, object]) -> pd.DataFrame:
    """The table with how its results were measured."""
    columns = {f"{prefix}{name}": value for name, value in (ASKED | changed).items()}
    done = frame[f"{prefix}verified"].notna()
    return frame.assign(**columns).where(done, frame.reindex(columns=[*frame, *columns]))


def sweep_folder(
    folder: Path, rows: list[tuple[int, float | None, float | None]], **changed: object
) -> Path:
    """A sweep's results: seed, standard and verified accuracy in %; None: failed."""
    folder.mkdir()
    (folder / "sweep.json").write_text("{}")
    frame = pd.DataFrame(rows, columns=["train.seed", "standard", "verified"])
    frame["state"] = ["failed" if row[1] is None else "done" for row in rows]
    asked(frame, "", changed).to_csv(folder / "runs.csv", index=False)
    return folder


def tune_folder(
    folder: Path, rows: list[tuple[float | None, float | None]], **changed: object
) -> Path:
    folder.mkdir()
    (folder / "tune.json").write_text("{}")
    frame = pd.DataFrame(rows, columns=["test_standard", "test_verified"])
    asked(frame, "test_", changed).to_csv(folder / "front.csv", index=False)
    return folder


def test_a_comparison_by_hand(tmp_path: Path) -> None:
    rows = [(0, 80.0, 20.0), (0, 50.0, 40.0), (0, 40.0, 40.0), (1, 60.0, 30.0), (1, None, None)]
    cc = sweep_folder(tmp_path / "cc", rows)
    mtl = tune_folder(tmp_path / "mtl", [(70.0, 30.0), (None, None)])
    compared = compare_fronts({"CC": [cc], "MTL": [mtl]}, (0.0, 0.1))
    frame = compared.to_frame().set_index("method")
    first, second = 0.8 * 0.1 + 0.5 * 0.2, 0.6 * 0.2
    assert frame.loc["CC", "repetitions"] == 2
    assert frame.loc["CC", "points"] == 4
    assert frame.loc["CC", "hypervolume"] == pytest.approx((first + second) / 2)
    assert frame.loc["CC", "hypervolume_std"] == pytest.approx((first - second) / 2**0.5)
    # one of two repetitions is half: everything that either attains
    assert frame.loc["CC", "hypervolume_of_median"] == pytest.approx(0.08 + 0.6 * 0.1 + 0.5 * 0.1)
    assert frame.loc["MTL", "hypervolume"] == pytest.approx(0.7 * 0.2)
    assert pd.isna(frame.loc["MTL", "hypervolume_std"])
    assert frame["chosen_on"].to_dict() == {"CC": "test", "MTL": "validation"}
    assert compared.joint == ((0.8, 0.2), (0.7, 0.3), (0.5, 0.4))
    assert frame["on_joint_front"].to_dict() == {"CC": 2, "MTL": 1}
    points = compared.points_frame()
    assert points["on_front"].tolist() == [True, True, False, True, True]
    assert points["on_joint_front"].tolist() == [True, True, False, False, True]
    surfaces = compared.surfaces_frame()
    both = surfaces[(surfaces["method"] == "CC") & (surfaces["attained_by"] == 1.0)]
    assert both[["standard", "verified"]].to_numpy().tolist() == [[60.0, 20.0], [50.0, 30.0]]


def test_folders_of_one_name_are_repetitions(tmp_path: Path) -> None:
    first = tune_folder(tmp_path / "a", [(50.0, 50.0)])
    second = tune_folder(tmp_path / "b", [(40.0, 60.0)])
    named = named_folders([f"CC={first}", f"CC={second}"])
    (method,) = compare_fronts(named).methods
    assert method.repetitions == (((0.5, 0.5),), ((0.4, 0.6),))
    assert method.surface(1.0) == ((0.4, 0.5),)
    assert list(named_folders([str(first), str(second)])) == ["a", "b"]


def test_a_folder_whose_name_has_an_equals_sign(tmp_path: Path) -> None:
    folder = tune_folder(tmp_path / "alpha=1", [(50.0, 50.0)])
    assert named_folders([str(folder)]) == {"alpha=1": (folder,)}


@pytest.mark.parametrize("texts", [["CC="], ["=a"], ["a", "x=a"], [""]])
def test_names_that_are_none_are_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="front; expected"):
        named_folders(texts)


@pytest.mark.parametrize(
    "reference",
    [(0.0,), (0.0, 1.0), (-0.1, 0.0), (0.0, float("nan")), ("a", 0.0), 0.5, None],
)
def test_a_reference_that_is_none_is_refused(tmp_path: Path, reference: Any) -> None:
    folder = tune_folder(tmp_path / "a", [(50.0, 50.0)])
    with pytest.raises(ConfigError, match="reference; expected standard and verified accuracy, sh"):
        compare_fronts({"a": [folder]}, reference)


def test_folders_without_results_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match=r"expected a sweep \(sweep\.json\) or a tuning"):
        compare_fronts({"a": [tmp_path / "empty"]})
    begun = sweep_folder(tmp_path / "begun", [(0, None, None)])
    with pytest.raises(StudyError, match="expected finished results on test images; got none"):
        compare_fronts({"a": [begun]})
    (begun / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StudyError, match=r"its results in runs\.csv; got no column train.seed"):
        compare_fronts({"a": [begun]})
    (begun / "runs.csv").unlink()
    with pytest.raises(StudyError, match=r"its results in runs\.csv; got .*No such file"):
        compare_fronts({"a": [begun]})
    with pytest.raises(ConfigError, match="expected folders of sweeps or tunings"):
        compare_fronts({})


def test_the_written_table(tmp_path: Path) -> None:
    folder = tune_folder(tmp_path / "a", [(50.0, 50.0)])
    compared = compare_fronts({"a": [folder]})
    written = write_comparison(compared, tmp_path, "out", "the command")
    names = ["out.md", "out.csv", "out-points.csv", "out-attained.csv"]
    assert [path.name for path in written] == names
    text = written[0].read_text()
    assert "| a | 1 | 1 | validation | 0.2500 | – | 0.2500 | 1 |" in text
    assert "`the command`" in text
    assert rows_of(compared)[0][0] == "Method"
    assert len(notes_of(compared)) == 1
    assert pd.read_csv(written[1])["hypervolume"].tolist() == [0.25]


def test_two_folders_that_are_only_called_alike_are_not_one_method(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = tune_folder(tmp_path / "a" / "tune", [(50.0, 50.0)])
    second = tune_folder(tmp_path / "b" / "tune", [(40.0, 60.0)])
    for texts in ([str(first), str(second)], [str(first), f"tune={second}"]):
        with pytest.raises(ConfigError, match=r"two folders called tune\. Type tune=FOLDER"):
            named_folders(texts)
    with pytest.raises(ConfigError, match="two folders called tune"):
        named_folders([f"tune={second}", str(first)])


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({"data_set": "mnist"}, r"20 images of digits, ε = 2/255; got 20 images of mnist, ε"),
        ({"epsilon": 8 / 255}, "digits, ε = 2/255; got 20 images of digits, ε = 8/255"),
        ({"images": 10, "places": "0:10"}, "; got 10 images of digits"),
        ({"places": "20:40"}, "places 0:20; got .*, places 20:40"),
    ],
)
def test_results_of_other_questions_are_refused(
    tmp_path: Path, changed: dict[str, object], got: str
) -> None:
    first = sweep_folder(tmp_path / "a", [(0, 50.0, 50.0)])
    second = tune_folder(tmp_path / "b", [(50.0, 50.0)], **changed)
    with pytest.raises(
        StudyError, match=rf"folder .*/b; expected results of the question of .*/a, .*{got}"
    ):
        compare_fronts({"a": [first], "b": [second]})
    with pytest.raises(StudyError, match="Only results of the same test images"):
        compare_fronts({"a": [first, second]})


def test_a_sweep_over_several_questions_is_refused(tmp_path: Path) -> None:
    rows = [(0, 50.0, 50.0), (0, 40.0, 30.0)]
    folder = sweep_folder(tmp_path / "a", rows, epsilon=[0.1, 0.2])
    digits = "20 images of digits, ε ="
    message = rf"results of one question, {digits} 0\.1; got {digits} 0\.2"
    with pytest.raises(StudyError, match=message):
        compare_fronts({"a": [folder]})


def test_what_was_asked_is_told(tmp_path: Path) -> None:
    compared = compare_fronts({"a": [tune_folder(tmp_path / "a", [(50.0, 50.0)])]})
    assert compared.question == "20 images of digits, ε = 2/255"
    assert compared.question in notes_of(compared)[0]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"timeout": 60.0}, "b: clean, ibp; at most 60 s for each image; settings 0012e4567."),
        ({"stages": "clean crown"}, "b: clean, crown; at most 5 s for each image"),
        ({"settings": "77"}, "b: clean, ibp; at most 5 s for each image; settings 77."),
    ],
)
def test_different_settings_are_noted(
    tmp_path: Path, changed: dict[str, object], told: str
) -> None:
    first = tune_folder(tmp_path / "a", [(50.0, 50.0)])
    second = tune_folder(tmp_path / "b", [(50.0, 50.0)], **changed)
    note = notes_of(compare_fronts({"a": [first], "b": [second]}))[-1]
    assert note.startswith("Certified with different settings")
    assert "a: clean, ibp; at most 5 s for each image; settings 0012e4567." in note
    assert told in note


def test_tables_of_older_versions_and_impossible_accuracies_are_told(tmp_path: Path) -> None:
    folder = tune_folder(tmp_path / "a", [(50.0, 50.0)])
    whole = pd.read_csv(folder / "front.csv")
    whole.drop(columns="test_places").to_csv(folder / "front.csv", index=False)
    with pytest.raises(StudyError, match=r"got no column test_places\. Repeat the command"):
        compare_fronts({"a": [folder]})
    for standard in (float("nan"), 101.0, -1.0):
        whole.assign(test_standard=standard).to_csv(folder / "front.csv", index=False)
        with pytest.raises(StudyError, match="got an accuracy that is not from 0 % to 100 %"):
            compare_fronts({"a": [folder]})
    whole.assign(test_timeout="soon").to_csv(folder / "front.csv", index=False)
    with pytest.raises(StudyError, match=r"results in front\.csv; got could not convert"):
        compare_fronts({"a": [folder]})

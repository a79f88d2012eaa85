"""Fronts of methods compared, by hand."""

from pathlib import Path

import pandas as pd
import pytest

from verify_pipeline.errors import ConfigError, StudyError
from verify_pipeline.sweeps.comparison import compare_fronts, named_folders
from verify_pipeline.sweeps.comparison_report import notes_of, rows_of, write_comparison


def sweep_folder(folder: Path, rows: list[tuple[int, float | None, float | None]]) -> Path:
    """A sweep's results: seed, standard and verified accuracy in %; None: failed."""
    folder.mkdir()
    (folder / "sweep.json").write_text("{}")
    frame = pd.DataFrame(rows, columns=["train.seed", "standard", "verified"])
    frame["state"] = ["failed" if row[1] is None else "done" for row in rows]
    frame.to_csv(folder / "runs.csv", index=False)
    return folder


def tune_folder(folder: Path, rows: list[tuple[float | None, float | None]]) -> Path:
    folder.mkdir()
    (folder / "tune.json").write_text("{}")
    frame = pd.DataFrame(rows, columns=["test_standard", "test_verified"])
    frame.to_csv(folder / "front.csv", index=False)
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


@pytest.mark.parametrize("reference", [(0.0,), (0.0, 1.0), (-0.1, 0.0), (0.0, float("nan"))])
def test_a_reference_that_is_none_is_refused(tmp_path: Path, reference: tuple[float, ...]) -> None:
    folder = tune_folder(tmp_path / "a", [(50.0, 50.0)])
    with pytest.raises(ConfigError, match="reference; expected two accuracies"):
        compare_fronts({"a": [folder]}, reference)


def test_folders_without_results_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match=r"expected a sweep \(sweep\.json\) or a tuning"):
        compare_fronts({"a": [tmp_path / "empty"]})
    begun = sweep_folder(tmp_path / "begun", [(0, None, None)])
    with pytest.raises(StudyError, match="expected finished results on test images; got none"):
        compare_fronts({"a": [begun]})
    (begun / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StudyError, match=r"its results in runs\.csv; got no column state"):
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

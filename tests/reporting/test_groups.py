"""Rows of a table: what is averaged, what never is, and how far a figure may be trusted."""

from dataclasses import replace

import pandas as pd
import pytest

from tests.reporting.runs import run
from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError
from verify_pipeline.reporting import seconds_table, verdict_table
from verify_pipeline.reporting.groups import grouped
from verify_pipeline.reporting.statistics import share_of, wilson


def sizes(*runs: object, by: tuple[str, ...] = ()) -> list[int]:
    return [len(group.summaries) for group in grouped(list(runs), by)]  # type: ignore[arg-type]


def test_runs_that_differ_in_their_seed_only_make_one_row() -> None:
    group, other = grouped([run(5), run(6, seed=1), run(7, alpha=0.2), run(7, seed=2)])
    assert (len(group.summaries), group.seeds, group.keys["alpha"]) == (3, 3, 0.1)
    assert (len(other.summaries), other.seeds, other.keys["alpha"]) == (1, 1, 0.2)


@pytest.mark.parametrize(
    "other",
    [
        run(5, seed=1, loss="cc-ibp"),
        run(5, seed=1, alpha=0.2),
        run(5, seed=1, l1=1e-5),
        run(5, seed=1, epsilon=0.2),
        run(5, seed=1, data="digits"),
        run(5, seed=1, images=9),
        run(5, seed=None),
        run(5, name="again"),
    ],
    ids=["loss", "alpha", "setting", "epsilon", "data", "images", "unknown", "same seed"],
)
def test_other_runs_are_rows_of_their_own(other: object) -> None:
    assert sizes(run(5), other) == [1, 1]


def test_runs_without_notes_are_never_averaged() -> None:
    assert sizes(run(5, seed=None, name="a"), run(6, seed=None, name="b")) == [1, 1]


def test_a_setting_is_a_column_only_where_rows_would_look_alike() -> None:
    same, other = run(5, l1=0.0), run(5, l1=1e-5)
    assert "train.optimiser.l1" in grouped([same, other])[0].keys
    assert "train.optimiser.l1" not in grouped([same, run(5, alpha=0.3, l1=1e-5)])[0].keys


def test_rows_are_grouped_by_what_is_asked_for_but_never_over_questions() -> None:
    runs = [run(5), run(6, alpha=0.2), run(7, loss="cc-ibp"), run(8, epsilon=0.2)]
    first, second, third = grouped(runs, ("method",))
    assert [len(each.summaries) for each in (first, second, third)] == [2, 1, 1]
    assert first.averaged == ("alpha",)
    assert (first.keys["method"], first.keys["epsilon"]) == ("MTL-IBP", "0.1")
    assert sizes(*runs[:2], run(3, l1=1e-5), by=("train.optimiser.l1",)) == [2, 1]
    with pytest.raises(ConfigError, match="'colour'; expected one of network, method"):
        grouped(runs, ("colour",))


def test_a_row_of_several_seeds_has_mean_and_sample_deviation() -> None:
    (row,) = verdict_table([run(5), run(6, seed=1), run(7, seed=2)]).to_dict("records")
    assert (row["verified"], row["verified_deviation"], row["seeds"], row["runs"]) == (60, 10, 3, 3)
    assert "verified_low" not in row
    assert row["network_sha256"] is None or pd.isna(row["network_sha256"])


def test_a_row_of_one_seed_has_the_interval_over_images() -> None:
    """Wilson, 5 of 10: the centre is 1/2, the half-width z √(z²/4 + 10/4) / (10 + z²)."""
    (row,) = verdict_table([run(5)]).to_dict("records")
    assert (row["verified"], row["verified_low"], row["verified_high"]) == (50.0, 23.66, 76.34)


def test_intervals_stay_inside_what_is_possible() -> None:
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0
    low, high = wilson(1, 10)
    assert 0 < low < 0.1 < high < 1
    assert wilson(100, 1000)[1] - wilson(100, 1000)[0] < high - low
    assert share_of([1, 3], [10, 10]).value == 20.0


def test_seconds_are_given_by_stage() -> None:
    (row,) = seconds_table([run(5, wrong=2, open_=1)]).to_dict("records")
    assert (row["clean_seconds"], row["ibp_seconds"], row["crown_seconds"]) == (2.5, 2.0, 0.25)
    assert row["attack_seconds"] == 0.75
    assert row["seconds"] == 5.5


def test_files_that_say_little_are_told_apart_by_what_they_say() -> None:
    def told(seed: str, epsilon: str) -> Summary:
        summary = run(5, seed=None)
        notes = {"loss": "mtl-ibp", "alpha": "0.1", "seed": seed, "epsilon": epsilon}
        return replace(summary, info=replace(summary.info, notes=notes))

    alike = grouped([told("0", "0.1"), told("1", "0.1")])
    assert [len(group.summaries) for group in alike] == [2]
    apart = grouped([told("0", "0.1"), told("1", "0.3")])
    assert [len(group.summaries) for group in apart] == [1, 1]


def test_a_setting_that_tells_rows_of_several_seeds_apart_is_a_column() -> None:
    # each run has a file of its own, which must not hide that rows look alike
    runs = [run(5, seed=seed, l1=l1, name=f"{seed}-{l1}") for l1 in (0.0, 1e-4) for seed in (0, 1)]
    frame = verdict_table(runs)
    assert "network" not in frame
    assert frame["train.optimiser.l1"].tolist() == [0.0, 1e-4]
    assert frame["seeds"].tolist() == [2, 2]

"""Rows that differ in what was allowed, tried or asked: told apart, and compared only if alike."""

import json
from dataclasses import replace

import pytest

from tests.reporting.runs import STAGES, run
from tests.reporting.test_cells import best, column
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.records import settings_digest
from verify_pipeline.certify.tally import Summary
from verify_pipeline.reporting import Layout, result_table
from verify_pipeline.reporting.files import images_frame


def allowed(summary: Summary, seconds: float) -> Summary:
    records = tuple(replace(record, timeout=seconds) for record in summary.records)
    return replace(summary, records=records)


def tried(summary: Summary, **settings: object) -> Summary:
    """The run with other settings of the certification."""
    text = json.dumps({"stages": STAGES, **settings})
    key = replace(summary.info.run, settings=settings_digest(text))
    return replace(summary, info=replace(summary.info, run=key, settings=text))


def moved(summary: Summary, by: int) -> Summary:
    """The run on images further behind."""
    records = tuple(replace(record, index=record.index + by) for record in summary.records)
    return replace(summary, records=records, asked=Extent.of(record.index for record in records))


def test_seconds_that_differ_among_the_seeds_of_a_row_are_told() -> None:
    table = result_table([run(5), allowed(run(6, seed=1), 60.0)])
    assert "Rows are means over runs that differ in timeout, too." in table.notes
    assert "Runs were allowed different seconds for an image: 10, 60." in table.notes


def test_seconds_that_differ_among_rows_are_told() -> None:
    table = result_table([run(5), allowed(run(6, alpha=0.2), 0.5)])
    assert table.notes == ("Runs were allowed different seconds for an image: 0.5, 10.",)
    assert result_table([run(5), run(6, alpha=0.2)]).notes == ()


def test_rows_of_different_settings_are_told_apart() -> None:
    """Same network, seed and question: only what was tried on an image differs."""
    runs = [tried(run(5), attack={"steps": 10}), tried(run(6), attack={"steps": 40})]
    table = result_table(runs)
    shown = column(table, "settings")
    assert shown == [each.info.run.settings[:8] for each in runs]
    assert len(set(shown)) == 2
    assert table.notes == (
        f"Settings of the certification differ in attack.steps ({shown[0]}: 10; {shown[1]}: 40).",
    )
    assert images_frame(runs)["settings"].unique().tolist() == shown
    assert "settings" not in result_table([run(5), run(6, alpha=0.2)]).names


def test_many_settings_that_differ_are_counted() -> None:
    many = {f"s{place}": place for place in range(9)}
    (note,) = result_table([run(5), tried(run(5), **many, long="x" * 200)]).notes
    assert "s0 (" in note
    assert note.endswith("s5 (" + note.partition("s5 (")[2])
    assert note.endswith(", 4 more.")


def test_rows_on_different_images_are_told_apart_and_do_not_compete() -> None:
    table = result_table([run(5), moved(run(6), 10)])
    assert column(table, "places") == ["0:10", "10:20"]
    assert best(table, "verified") == [False, False]
    other = result_table([run(5), run(6, alpha=0.2), moved(run(9, alpha=0.3), 10)])
    assert "places" not in other.names  # α tells them apart
    assert best(other, "verified") == [False, True, False]


def test_files_of_one_name_and_one_seed_are_told_apart() -> None:
    again = run(6)
    again = replace(again, info=replace(again.info, run=replace(again.info.run, network="a" * 64)))
    table = result_table([run(5), again])
    assert column(table, "file")[1] == "aaaaaaaa"
    assert column(table, "file")[0] == run(5).info.run.network[:8]


def test_rows_by_a_method_are_told_apart_by_their_settings() -> None:
    table = result_table([run(5), tried(run(6), batch=3)], Layout(by=("method",)))
    assert len(set(column(table, "settings"))) == 2


def test_published_results_do_not_compete() -> None:
    """The paper verifies 98.43 % of all images; here 9 and 8 of the first 10 are verified."""
    runs = [run(9, epsilon=0.1, loss="cc-ibp"), run(8, epsilon=0.1, loss="ibp")]
    table = result_table(runs, Layout(literature=True))
    marks = best(table, "verified")
    assert marks[:2] == [True, False]
    assert not any(marks[2:])


def test_differences_to_papers_name_their_columns() -> None:
    table = result_table([run(9, epsilon=0.1, loss="cc-ibp")], Layout(literature=True))
    headings = [each.heading for each in table.columns]
    assert {"Standard − paper", "Verified − paper"} <= set(headings)
    assert len(set(headings)) == len(headings)


@pytest.mark.parametrize("text", ["{}", '{"a": [{"b": 1}]}'])
def test_settings_that_say_little_still_differ(text: str) -> None:
    """A ledger of an older version, or a list of objects: no error."""
    odd = run(5)
    key = replace(odd.info.run, settings="f" * 16)
    odd = replace(odd, info=replace(odd.info, run=key, settings=text))
    table = result_table([run(6), odd])
    assert column(table, "settings")[1] == "ffffffff"
    assert any(note.startswith("Settings of the certification differ in ") for note in table.notes)


def test_other_splits_are_neither_averaged_nor_compared() -> None:
    seeds = [run(5), run(6, seed=1)]
    other = [of_split(run(5), "train"), of_split(run(9, seed=1), "train")]
    table = result_table([*seeds, *other])
    assert column(table, "split") == ["test", "train"]
    assert column(table, "verified") == ["55.00 ± 7.07", "70.00 ± 28.28"]
    assert best(table, "verified") == [False, False]


def of_split(summary: Summary, split: str) -> Summary:
    return replace(summary, info=replace(summary.info, run=replace(summary.info.run, split=split)))

"""What a table says: which figure is best, what is quoted, what fits into a narrow terminal."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.reporting.runs import run
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.reporting import (
    Layout,
    as_html,
    as_latex,
    as_markdown,
    lifted,
    narrowed,
    read_other_verdicts,
    rendered,
    result_table,
    terminal_table,
)
from verify_pipeline.reporting.table import Table

THREE = [run(5), run(7, wrong=1, alpha=0.2), run(6, wrong=1, open_=2, loss="cc-ibp")]


def column(table: Table, name: str) -> list[str]:
    return [row[table.place(name)].text for row in table.rows]


def best(table: Table, name: str) -> list[bool]:
    return [row[table.place(name)].best for row in table.rows]


def test_the_best_of_each_column_is_marked_among_rows_of_one_question() -> None:
    table = result_table([*THREE, run(9, epsilon=0.2)])
    assert best(table, "verified") == [False, True, False, False]
    assert best(table, "standard") == [True, False, False, False]


def test_rows_of_different_images_have_no_best() -> None:
    table = result_table([run(5), run(9, images=20, alpha=0.2)])
    assert best(table, "verified") == [False, False]


def test_open_images_make_a_range() -> None:
    assert column(result_table(THREE), "robust") == ["50.00", "70.00", "[60.00, 80.00]"]


def test_what_all_rows_share_stands_above_them() -> None:
    table = lifted(result_table(THREE))
    assert table.common == ("net", "conv-small", "mnist", "test", "ε = 0.1")
    assert "network" not in table.names
    assert lifted(result_table(THREE[:1])).common == ()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_table_is_narrowed_to_a_terminal_and_says_what_it_hides(width: int) -> None:
    table = narrowed(lifted(terminal_table(THREE)), width)
    assert {"method", "alpha", "seeds", "images", "standard", "verified"} <= set(table.names)
    assert any(note.startswith("Not shown: ") for note in table.notes)
    cells = [max(len(text) for text in column(table, name)) for name in table.names]
    heads = [len(each.heading) for each in table.columns]
    assert sum(map(max, cells, heads)) + 3 * len(cells) < width


def test_a_narrow_table_says_that_it_hides_intervals() -> None:
    table = lifted(result_table(THREE, Layout(columns=("method", "alpha", "verified"))))
    assert narrowed(table, 80) == table
    assert column(table, "verified")[0] == "50.00 [23.7, 76.3]"
    narrow = narrowed(table, 36)
    assert column(narrow, "verified")[0] == "50.00"
    assert narrow.notes[-1].startswith("Not shown: intervals over images. A wider terminal")


def test_columns_that_are_asked_for_are_shown_in_that_order() -> None:
    table = result_table(THREE, Layout(columns=("verified", "method")))
    assert table.names == ("verified", "method")
    with pytest.raises(ConfigError, match="column 'colour'; expected some of network, method"):
        result_table(THREE, Layout(columns=("colour",)))


def test_rows_that_average_over_more_than_seeds_say_so() -> None:
    (note,) = result_table(THREE[:2], Layout(by=("method",))).notes
    assert note == "Rows are means over runs that differ in α, too."


def test_published_results_are_rows_and_differences() -> None:
    runs = [run(9, epsilon=0.1, loss="cc-ibp"), run(9, loss="ibp")]
    table = result_table(runs, Layout(literature=True))
    assert column(table, "method")[:3] == ["CC-IBP", "IBP", "CC-IBP"]
    assert column(table, "verified_to_paper")[:3] == ["−8.43", "–", "–"]
    assert column(table, "verified")[2] == "98.43†"
    assert "depalma2024expressive" in table.sources
    assert any(note.startswith("†: published") for note in table.notes)
    assert "source" not in result_table(runs).names
    with pytest.raises(ValueError, match="not in"):
        result_table([run(9, epsilon=0.17)], Layout(literature=True)).place("source")


def test_other_tools_are_columns_and_contradictions_are_told(tmp_path: Path) -> None:
    path = tmp_path / "tool.csv"
    path.write_text("image,verdict\n0,safe-incomplete\n1,unsat\n6,verified\n9,timeout\n")
    other = read_other_verdicts("α,β-CROWN", path)
    table = result_table([run(5)], Layout(others=(other,)))
    assert column(table, "α,β-CROWN") == ["30.00"]
    assert "α,β-CROWN has no verdict on 6 images of net." in table.notes
    assert "α,β-CROWN contradicts this package on net, image 6: one of the two is wrong." in (
        table.notes
    )


@pytest.mark.parametrize("word", ["falsified", "unsafe", "sat", "violated", "unsafe-pgd"])
def test_what_another_tool_falsifies_is_not_verified_and_may_contradict(
    tmp_path: Path, word: str
) -> None:
    """Images 0 to 4 are verified here, 5 to 8 falsified, 9 is open."""
    path = tmp_path / "tool.csv"
    path.write_text("image,verdict\n" + "".join(f"{n},{word}\n" for n in (1, 6, 9)))
    table = result_table([run(5, open_=1)], Layout(others=(read_other_verdicts("T", path),)))
    assert column(table, "T") == ["0.00"]
    assert "T has no verdict on 7 images of net." in table.notes
    (told,) = (note for note in table.notes if "contradicts" in note)
    assert "image 1:" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "columns image and verdict"),
        ("image,verdict\n0,perhaps\n", "line 2; expected an image's place"),
        ("image,verdict\nx,sat\n", "line 2"),
        (f"image,verdict\n{'9' * 5000},sat\n", "line 2"),
        ("image,verdict\n0,sat\n0,unsat\n", "line 3; expected one verdict on image 0"),
        ("", "a CSV file"),
    ],
)
def test_a_bad_file_of_another_tool_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "tool.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        read_other_verdicts("tool", path)


def test_verdicts_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tool.csv"
    path.write_text("network,image,verdict\nother,0,sat\n")
    layout = Layout(others=(read_other_verdicts("tool", path),))
    with pytest.raises(DataError, match="some on the images of net; got none"):
        result_table([run(5)], layout)


def test_verdicts_that_may_be_of_several_runs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tool.csv"
    path.write_text("network,image,verdict\nnet,0,sat\n")
    named = Layout(others=(read_other_verdicts("tool", path),))
    path.write_text("image,verdict\n0,sat\n")
    unnamed = Layout(others=(read_other_verdicts("tool", path),))
    for layout, runs in (
        (unnamed, [run(5), run(5, name="other")]),
        (named, [run(5), run(5, epsilon=0.2)]),
    ):
        with pytest.raises(DataError, match="several runs that they may be of"):
            result_table(runs, layout)


def test_every_format_escapes_names() -> None:
    runs = [run(5, name="a_b&c|<i>"), run(6, name="d", alpha=0.3)]
    table = result_table(runs)
    assert r"a\_b\&c$|$$<$i$>$" in as_latex(table, "c")
    assert "a_b&amp;c|&lt;i&gt;" in as_html(table)
    assert "a_b&c\\|&lt;i>" in as_markdown(runs, "c")
    assert "<b>60.00" in as_html(table)
    assert r"\textbf{60.00 [31.3, 83.2]}" in as_latex(table, "c")
    assert "**60.00 [31.3, 83.2]**" in as_markdown(runs, "c")
    assert rendered(runs, "csv", "c").startswith("network,method,alpha,")


@pytest.mark.parametrize("name", ["verified", "Verified", "method", "Method", "train.x", "robust"])
def test_a_tool_is_not_called_as_a_column_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text("image,verdict\n0,verified\n")
    layout = Layout(others=(read_other_verdicts(name, path),))
    with pytest.raises(DataError, match="a name that no column of the table has"):
        result_table([run(5)], layout)


@pytest.mark.parametrize("name", ["", " "])
def test_a_tool_has_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="expected NAME=FILE"):
        read_other_verdicts(name, tmp_path / "other.csv")


def test_the_csv_has_other_tools_too(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("image,verdict\n0,verified\n1,falsified\n2,unknown\n3,unsat\n")
    layout = Layout(others=(read_other_verdicts("A", path),))
    header, line = rendered([run(5)], "csv", "c", layout).splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["verified: A"] == "20.0"
    with pytest.raises(DataError, match="several"):
        rendered([run(5), run(6, alpha=0.5)], "csv", "c", layout)


def test_unfinished_runs_have_no_figure_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("image,verdict\n0,verified\n")
    layout = Layout(others=(read_other_verdicts("A", path),))
    whole = run(5)
    for kept in (4, 0):
        part = replace(whole, records=whole.records[:kept])
        table = result_table([part], layout)
        place = [column.name for column in table.columns].index("A")
        assert table.rows[0][place].text == "–"


def test_a_line_break_in_a_name_breaks_no_table(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("image,verdict\n0,verified\n")
    layout = Layout(others=(read_other_verdicts("two\nlines|", path),))
    runs = [run(5, open_=1, name="a\n\nb\x1b[1m")]
    page = as_markdown(runs, "c", layout)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert "| two lines\\| % |" in rows[0]
    assert rows[2].startswith("| a b [1m |")
    assert all("a b [1m" in line for line in page.splitlines() if "[1m" in line)
    assert "\x1b" not in page

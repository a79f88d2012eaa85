"""Tables on terminals of several widths: no word is broken, and nothing is left out."""

import pytest

from verify_pipeline.cli.show import show_rows

HEAD = ["Method", "Repetitions", "Chosen on", "Dominated area", "On the joint front"]
WORDS = ["validation", "0.4312", "Repetitions", "Dominated", "Chosen", "joint", "front"]


def shown(width: int, names: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        show_rows([HEAD, *([name, "3", "validation", "0.4312", "2"] for name in names)], ["note"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "note"
    assert all(len(line) <= width for line in lines)
    return lines


@pytest.mark.parametrize("width", range(36, 120, 6))
@pytest.mark.parametrize("count", [1, 2, 7])
def test_no_word_is_broken(width: int, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"CC-IBP-{place}" for place in range(count)]
    words = " ".join(shown(width, names, capsys)).split()
    assert {*names, *WORDS} <= set(words)
    assert words.count("0.4312") == count


def test_a_wide_terminal_has_a_row_for_each_method(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(120, ["CC", "MTL"], capsys)
    assert [line.split()[0] for line in lines if "0.4312" in line] == ["CC", "MTL"]
    assert any("Dominated area" in line for line in lines)


def test_headings_are_stacked_before_rows_become_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(72, ["CC", "MTL"], capsys)
    assert [line.split()[0] for line in lines if "0.4312" in line] == ["CC", "MTL"]
    lines = shown(52, ["CC", "MTL"], capsys)
    assert [line.split() for line in lines if "0.4312" in line] == [
        ["Dominated", "area", "0.4312", "0.4312"]
    ]


def test_markup_in_a_name_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    for width in (120, 40):
        assert any("[red]x" in line for line in shown(width, ["[red]x"], capsys))

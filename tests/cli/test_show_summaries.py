"""Tables on terminals of some width."""

import pytest
from rich.console import Console

from tests.reporting.runs import run
from verify_pipeline.cli.show import show_rows, show_summaries


@pytest.mark.parametrize("width", [40, 50, 80])
def test_no_word_is_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    losses = ("mtl-ibp", "cc-ibp", "exp-ibp", "crown-ibp", "mtl-ibp")
    show_summaries([run(5, loss=loss, alpha=0.1 * n) for n, loss in enumerate(losses, 1)])
    shown = capsys.readouterr().out
    words = shown.split()
    for word in ("MTL-IBP", "CC-IBP", "Exp-IBP", "CROWN-IBP", "0.1", "0.5", "Seeds", "Images"):
        assert word in words
    assert "Standard %" in shown
    assert max(map(len, shown.splitlines())) <= width
    assert words.count("100.00") == 5  # the standard accuracy of each run


def test_one_run_is_a_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_summaries([run(5)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Network", "net"] in lines
    assert ["Verified", "%", "50.00", "[23.7,", "76.3]"] in lines


def test_markup_in_names_stays_text(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([["[bold]a[/bold]", "[red]"], ["[i]x", "[/]"]], [])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[bold]a[/bold]", "[red]", "[i]x", "[/]"))


@pytest.mark.parametrize("width", ["80", "300"])
def test_markup_in_the_name_of_a_network_stays_text(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    show_summaries([run(5, name="[bold]a[/]")])
    assert "[bold]a[/]" in capsys.readouterr().out
    assert Console().width == int(width)

"""What `--help` shows at 80 columns: options under headings, and every stage with its place."""

import re
from itertools import pairwise
from typing import get_args

import pytest
import typer.main
from typer.core import TyperArgument

from tests.cli.typed import command
from verify_pipeline.certify.settings import ALL_STAGES, StageName
from verify_pipeline.cli import options, panels
from verify_pipeline.cli.app import app
from verify_pipeline.cli.framework import unwrapped

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_under_a_heading(name: str) -> None:
    own = [
        each
        for each in COMMANDS[name].params
        if not isinstance(each, TyperArgument) and each.name != "help"
    ]
    used = {each.rich_help_panel for each in own}
    assert used <= set(panels.ALL), f"{name} has options without a heading"
    code, out, _ = command(name, "--help")
    assert code == 0
    for heading in used:
        assert f"─ {heading} ─" in out
    for each in own:
        assert each.opts[0] in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_headings_of_certify_come_in_the_order_of_a_certification() -> None:
    _, out, _ = command("certify", "--help")
    headings = re.findall(r"^╭─ (.*?) ─+╮$", out, re.MULTILINE)
    assert headings == [
        "Arguments",
        "Options",
        panels.IMAGES,
        panels.QUESTION,
        panels.SEARCH,
        panels.CHECKS,
        panels.OUTPUT,
        panels.ABCROWN,
        panels.MACHINE,
    ]


def test_every_stage_is_explained_in_order() -> None:
    _, out, _ = command("certify", "--help")
    numbered = re.findall(r"(\d)\. ([a-z-]+): \w", out)
    assert numbered == [(str(n), name) for n, name in enumerate(get_args(StageName), 1)]
    assert tuple(options.STAGES) == (*ALL_STAGES, "abcrown")
    assert "Default: all but abcrown" in " ".join(re.sub("[│]", " ", out).split())


def test_paragraphs_are_wrapped_by_the_terminal_alone() -> None:
    assert unwrapped("One\n    line.\n\n    Two\n    lines.\n    ") == "One line.\n\nTwo lines."
    _, out, _ = command("certify", "--help")
    about = [line.strip() for line in out.partition("╭─")[0].splitlines()]
    wrapped = [(a, b) for a, b in pairwise(about) if a and b]
    assert wrapped
    for line, following in wrapped:
        assert len(f"{line} {following.split()[0]}") > 78

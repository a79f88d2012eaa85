"""Commands whose options are declared in groups: typer sees each option, the command its groups."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from verify_pipeline.cli.grouping import grouped

Size = Annotated[int, typer.Option("--size", "-s", min=1, help="How large.")]


@dataclass(frozen=True)
class Shape:
    """A group."""

    size: Size = 3
    round: Annotated[bool, typer.Option("--round/--square")] = False


@dataclass(frozen=True)
class Place:
    """Another one, with a type that is not typer's."""

    folder: Path | None = None


@grouped
def draw(file: Path, shape: Shape, place: Place, name: str = "it") -> None:
    """Draw something."""
    typer.echo(repr((file, shape, place, name)))


def invoke(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(draw)
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ((), (Shape(), Place(), "it")),
        (("-s", "5", "--name", "me"), (Shape(5), Place(), "me")),
        (("--round", "--folder", "a/b"), (Shape(3, True), Place(Path("a/b")), "it")),
    ],
)
def test_what_is_typed_comes_in_groups(
    words: tuple[str, ...], seen: tuple[Shape, Place, str]
) -> None:
    assert invoke("f.txt", *words) == (0, f"{(Path('f.txt'), *seen)!r}\n")


def test_help_and_checks_are_those_of_single_options() -> None:
    code, output = invoke("--help")
    assert code == 0
    assert "Draw something." in output
    assert "How large." in output
    assert "--square" in output
    assert "--shape" not in output
    assert invoke("f.txt", "--size", "0")[0] == 2
    assert invoke()[0] == 2


def test_two_options_of_one_name_are_refused() -> None:
    def twice(shape: Shape, size: Size = 1) -> None:
        """Two sizes."""

    with pytest.raises(ValueError, match="duplicate parameter name: 'size'"):
        grouped(twice)

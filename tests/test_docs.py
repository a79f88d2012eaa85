"""What the documents say is checked where a machine can check it."""

import configparser
import json
import re
import runpy
import shlex
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from against.command import parser
from against.tasks import COMMAND
from typer.core import TyperGroup
from typer.main import get_command

from tests.documents import (
    PAGES,
    RESULTS,
    ROOT,
    broken_links,
    commands,
    fenced,
    missing_files,
    spans,
    text_of,
)
from verify_pipeline import api, data, losses
from verify_pipeline.certify.settings import ALL_STAGES
from verify_pipeline.cli.app import app
from verify_pipeline.cli.arguments import pairs_of
from verify_pipeline.config import load_recipe
from verify_pipeline.network import zoo

_OTHERS = {"--help", "--no-deps", "--master-port"}
"""Options of every command, and of pip."""


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _commands() -> dict[str, Any]:
    """The commands of the package, by name, as they parse their arguments."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group.commands


def test_the_recipe_table_is_that_of_the_recipes() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "recipes_table.py"))
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert page == made["page_with_table"](), "run python docs/recipes_table.py --write"


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert not broken_links(page)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_named_in_the_documents_exist(page: Path) -> None:
    assert not missing_files(page)


def test_a_link_or_file_that_is_not_there_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing\n\n[a](#one-thing) [b](#another) [c](page.md) [d](none.md)\n"
        "`bounds/types.py`, `bounds/none.py`, `none.py`, `docs/*.md`, `runs/mine`, `a/b`\n\n"
        "    python none.py\n"
    )
    assert broken_links(page) == ["#another", "none.md"]
    assert missing_files(page) == ["bounds/none.py", "none.py"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    found, seen = [ROOT / "README.md"], set[Path]()
    while found:
        page = found.pop().resolve()
        if page.suffix == ".md" and page not in seen:
            seen.add(page)
            links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text_of(page))
            found += [page.parent / link for link in links]
    assert set(PAGES) <= seen


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_names_are_in_the_files_that_are_said_to_hold_them(page: Path) -> None:
    text = " ".join(text_of(page).split())
    pairs = re.findall(r"`(\w+)` (?:in|of) `([\w/]+\.py)`", text)
    pairs += [(name, file) for file, name in re.findall(r"`([\w/]+\.py)` \(`(\w+)`", text)]
    for name, file in pairs:
        bases = (ROOT, ROOT / "verify_pipeline")
        (source,) = [text_of(base / file) for base in bases if (base / file).is_file()]
        assert re.search(rf"\b{name}\b", source), f"{name} in {file}"


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=_name)
def test_commands_in_the_documents_are_understood(page: Path) -> None:
    known = _commands()
    written = [span.split()[1:] for span in spans(page) if span.startswith("verify-pipeline ")]
    for name, *arguments in [*written, *commands(page, "verify-pipeline")]:
        assert name in known or name == "--help"
        if not arguments and [name] in written:
            continue  # a sentence about the command
        typed = known[name].make_context(name, shlex.split(" ".join(arguments))).params
        if name in ("train", "run") and typed["recipe"] not in _written_by(page):
            load_recipe(typed["recipe"], pairs_of(typed["overrides"]))


def _written_by(page: Path) -> set[str]:
    """Recipes that a page writes before it uses them: the first line of a block is their name."""
    return {block.splitlines()[0].removeprefix("# ") for block in fenced(page, "yaml")}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_other_commands_in_the_documents_are_understood(page: Path) -> None:
    for script, *arguments in commands(page, "python"):
        assert script.startswith("-") or (ROOT / script).is_file()
        if script == COMMAND:
            parser("").parse_args(arguments)
    written = [span.split()[1:] for span in spans(page) if span.startswith("make ")]
    targets = {target for target, *_ in [*written, *commands(page, "make")]}
    assert targets <= set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    extras = configparser.ConfigParser()
    extras.read(ROOT / "setup.cfg", encoding="utf-8")
    for extra in re.findall(r"\.\[(\w+)\]", text_of(page)):
        assert extras.has_option("options.extras_require", extra)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_options_named_in_sentences_exist(page: Path) -> None:
    options = {o for c in _commands().values() for p in c.params for o in _both_forms(p)}
    scripts = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").glob("*.py")]
    source = "\n".join(text_of(script) for script in scripts)
    for span in spans(page):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", span):
            exists = option in options or f'"{option}"' in source or option in _OTHERS
            assert exists, f"{option} in {span}"


def _both_forms(parameter: Any) -> tuple[str, ...]:
    return (*parameter.opts, *parameter.secondary_opts)


def test_the_readme_lists_what_there_is() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (data sets|networks|losses|stages) \| (.+) \|$", text, re.MULTILINE)
    written = {
        kind: tuple(name.split(" (")[0] for name in names.split(", ")) for kind, names in rows
    }
    assert written == {
        "data sets": data.names(),
        "networks": zoo.names(),
        "losses": tuple(losses.LOSSES),
        "stages": ALL_STAGES,
    }


def test_python_in_the_documents_uses_names_of_the_api() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8") + (api.__doc__ or "")
    assert set(re.findall(r"\bapi\.([A-Za-z_]+)", text)) <= set(api.__all__)
    assert all(hasattr(api, name) for name in api.__all__)


def test_the_figure_of_the_readme_is_that_of_the_results() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "figure.py"))
    drawn = made["figure"](json.loads(text_of(made["DATA"])))
    assert drawn == text_of(made["FIGURE"]), "run python docs/figure.py"


def test_every_loss_and_stage_is_explained() -> None:
    words = text_of(ROOT / "docs" / "concepts.md").lower()
    assert [name for name in losses.LOSSES if name not in words] == []
    stages = text_of(ROOT / "docs" / "how-it-verifies.md")
    assert [name for name in ALL_STAGES if f"| `{name}` |" not in stages] == []


def test_the_layer_table_of_the_architecture_is_the_enforced_one() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.split("## Layers")[1].split("## Words")[0]
    written = [
        frozenset(name.rstrip("/") for name in re.findall(r"`([\w]+/?)`", row.split("|")[1]))
        for row in table.splitlines()
        if row.startswith("| `")
    ]
    assert written == list(runpy.run_path(str(ROOT / "tests" / "test_imports.py"))["LAYERS"])


def test_the_changelog_names_every_command() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").lower()
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    stems = {"train": "training", "certify": "certification"}  # named as what they do
    missing = [name for name in sorted(commands) if stems.get(name, name) not in text]
    assert not missing


def test_the_reference_page_is_that_of_the_api() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "reference_page.py"))
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert page == made["page"](), "run python docs/reference_page.py --write"


def test_the_reference_page_refuses_what_nobody_has_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = runpy.run_path(str(ROOT / "docs" / "reference_page.py"))
    first_sentence, page = made["first_sentence"], made["page"]

    @dataclass
    class Undescribed:
        number: int

    for thing in (Undescribed, lambda: None):
        with pytest.raises(ValueError, match="new has no docstring"):
            first_sentence("new", thing)
    monkeypatch.setattr(api, "__all__", [*api.__all__, "new"])
    with pytest.raises(ValueError, match=r"one place in SECTIONS: \['new'\]"):
        page()


def test_every_name_of_the_api_has_its_own_docstring_with_its_shapes() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "reference_page.py"))
    for name in api.__all__:
        assert made["first_sentence"](name, getattr(api, name)).endswith(".")


def _blocks(text: str, first: str) -> list[str]:
    """The indented blocks of a text, one for each that begins with the words ``first``."""
    found = re.findall(rf"^    {first}.*\n(?:    .*\n|\n(?=    ))*", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def _quick(name: str) -> api.Recipe:
    """A recipe of the package with a training that takes a second."""
    fewer = {
        "train.optimiser.epochs": "2",
        "train.optimiser.milestones": "[1]",
        "train.epsilon.start": "1",
        "train.epsilon.length": "1",
        "certify.indices": ":40",
        "certify.timeout": "2",
    }
    return load_recipe(name, fewer)


BEGINNINGS = (
    "from pathlib",
    "from verify_pipeline import api\n\n    recipe, test",
    "image, label",
    "import torch\n\n    module = torch.nn",
)
"""Of the examples, in order; each goes on from those before it."""


@pytest.mark.parametrize("source", ["README.md", "api"])
def test_the_examples_of_a_library_run(
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("sklearn")
    text = api.__doc__ if source == "api" else (ROOT / source).read_text(encoding="utf-8")
    assert text is not None
    code = "\n".join(block for first in BEGINNINGS for block in _blocks(f"{text}\n", first))
    assert "api.bounds" in code
    assert "api.verify" in code
    assert "api.cc_ibp_loss" in code
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "load_recipe", _quick)
    Path("example.py").write_text(code, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's of its exporter
        runpy.run_path("example.py")
    assert "of 40 verified" in capsys.readouterr().out


def test_the_readme_certifies_a_torchscript_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, block = re.findall(r"^    import torch\n(?:    .*\n|\n)+", text, re.MULTILINE)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, torch.zeros(1, 1, 8, 8)).save(str(tmp_path / "theirs.pt"))
    monkeypatch.chdir(tmp_path)
    Path("example.py").write_text(textwrap.dedent(block), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path("example.py")
    assert "of 20 verified" in capsys.readouterr().out

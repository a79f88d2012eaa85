"""What the documents say is checked where a machine can check it."""

import re
import runpy
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from verify_pipeline import api, data, losses
from verify_pipeline.certify.settings import ALL_STAGES
from verify_pipeline.cli.app import app
from verify_pipeline.config import load_recipe
from verify_pipeline.network import zoo

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_recipe_table_is_that_of_the_recipes() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "recipes_table.py"))
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert page == made["page_with_table"](), "run python docs/recipes_table.py --write"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    targets += re.findall(r"`((?:tests|docs|benchmarks|verify_pipeline|\.ci)/[\w./-]+)`", text)
    missing = [t for t in targets if not ((page.parent / t).exists() or (ROOT / t).exists())]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_and_targets_in_the_documents_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    commands = set(re.findall(r"(?:^ {4}|`)verify-pipeline ([a-z]+)", text, re.MULTILINE))
    assert commands <= known
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^ {4}|`)make ([a-z]+)", text, re.MULTILINE))
    assert targets <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


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
    code = "\n".join(
        block
        for first in ("from pathlib", "image, label", "import torch\n\n    module = torch.nn")
        for block in _blocks(f"{text}\n", first)
    )
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

"""What the documents say is checked where a machine can check it."""

import re
import runpy
import textwrap
import warnings
from pathlib import Path

import pytest
import torch

from verify_pipeline import api, data, losses
from verify_pipeline.certify.settings import ALL_STAGES
from verify_pipeline.cli.app import app
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


def test_the_readme_certifies_a_torchscript_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^    import torch\n(?:    .*\n|\n)+", text, re.MULTILINE)
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

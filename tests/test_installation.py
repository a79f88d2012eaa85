"""What an installation holds, wherever it is put."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("verify_pipeline", "abcrown_configs")
ENDINGS = (".py", ".yaml", ".typed", ".txt", ".bib", ".css", ".js", ".j2")

ASK = """
from verify_pipeline.certify.settings import CertifySettings, plan, search_file
from verify_pipeline.config import recipe_names
print(search_file("default"))
plan(CertifySettings(epsilon=0.1, search="mnist_conv_small"))
print(len(recipe_names()))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has put the package, as ``--target`` does; built from a copy."""
    for tool in ("pip", "setuptools"):
        try:
            importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{tool} is not installed")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run(
        [sys.executable, *command, "--target", target, source], check=True, capture_output=True
    )
    return target


def test_an_installation_outside_the_default_scheme_finds_recipes_and_search_files(
    installed: Path, tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r})\n{ASK}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found, recipes = result.stdout.split()
    assert Path(found).is_relative_to(installed)
    assert int(recipes) == len(list((ROOT / "verify_pipeline" / "recipes").glob("*.yaml")))


def test_an_installation_has_every_file_and_no_others(installed: Path) -> None:
    for name in FOLDERS:
        there, here = (
            {path.relative_to(root).as_posix() for path in (root / name).rglob("*") if path.suffix}
            for root in (installed, ROOT)
        )
        kept = {path for path in here if path.endswith(ENDINGS)}
        assert {path for path in there if not path.endswith(".pyc")} == kept
    assert {path.name for path in installed.iterdir() if "." not in path.name} <= {*FOLDERS, "bin"}

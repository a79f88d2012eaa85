"""Everything public says what it is: modules, classes, functions, methods and properties."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "verify_pipeline"
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def silent(tree: ast.Module) -> list[str]:
    """The dotted names of what is public in a module and has no docstring."""
    found = [] if ast.get_docstring(tree) else ["the module"]
    return found + [name for name, node in public(tree, "") if not ast.get_docstring(node)]


def public(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Definition]]:
    """What is defined without an underscore in a module, or in its public classes."""
    for node in parent.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}{node.name}.")


def test_the_package_is_seen() -> None:
    assert {"problem.py", "certify/contract.py", "network/zoo/layers.py"} <= FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_what_is_public_has_a_docstring(name: str) -> None:
    assert silent(ast.parse(FILES[name].read_text(encoding="utf-8"))) == []


def test_the_walk_finds_what_is_silent() -> None:
    source = '''
class Seen(Protocol):
    """A class."""

    @property
    def quiet(self) -> int: ...

    def told(self) -> int:
        """A method."""

    def _hidden(self) -> int: ...

    def __len__(self) -> int: ...

class _Hidden:
    def quiet(self) -> int: ...

async def quiet() -> None: ...
'''
    assert silent(ast.parse(source)) == ["the module", "Seen.quiet", "quiet"]

"""The layers: imports point downwards only, and some things are used nowhere."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "verify_pipeline"

# Top imports from below; parts of one line do not import each other. The same picture stands in
# ARCHITECTURE.md.
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in """
        __main__
        cli
        api
        sweeps planning
        pipeline queries radius report_page
        run_evidence
        certification reports status
        run_folders
        conversions
        config doctor
        engines proving
        page
        figures
        reporting interop
        certify training
        branching
        bounds lirpa losses attacks data onnx
        network
        problem settings strict_yaml strict_json atomic_write markdown job_process
        batched rounding weighted_means process_group ray_cluster
        errors
        __init__
        _version
    """.strip().splitlines()
)
# The rooms of large parts, by the same rule: a room imports from those below it, modules of one
# room from each other. What stands in the part's folder itself is below its rooms.
ROOMS = {
    "bounds": ("forward_error", "optimise", "intermediate", "linear", "relaxations", "interval"),
    "branching": (
        "search",
        "improve",
        "evaluate",
        "exact",
        "tree",
        "limits",
        "config",
    ),
}
RANK = {part: len(LAYERS) - place for place, line in enumerate(LAYERS) for part in line}
# Packages that must not be imported anywhere, and why.
FORBIDDEN = {
    "torchvision": "has no build beside a CPU torch and pulls CUDA",
    "onnx2pytorch": "imports torchvision",
    "onnx2torch": "imports torchvision",
}
# Built-in functions that must not be called, and the parts that may.
FORBIDDEN_CALLS = {"print": {"cli"}, "hasattr": set(), "eval": set(), "exec": set()}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The part a module belongs to: its folder under the package, or its own name."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Full names of everything a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports absolutely"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_parts(path: Path) -> set[str]:
    """The parts of this package that a module imports."""
    parts = {name.split(".")[1] for name in imports_of(path) if name.startswith("verify_pipeline.")}
    return {part if part in RANK else "__init__" for part in parts}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    part = part_of(path)
    assert part in RANK, f"add {part} to the layer table here and in ARCHITECTURE.md"
    upwards = {other for other in own_parts(path) if other != part and RANK[other] >= RANK[part]}
    assert not upwards, f"{part} must not import {sorted(upwards)}"


@pytest.mark.parametrize("part", ROOMS)
def test_rooms_import_rooms_below_them(part: str) -> None:
    rank = {room: len(ROOMS[part]) - place for place, room in enumerate(ROOMS[part])}
    for path in (PACKAGE / part).rglob("*.py"):
        room = path.relative_to(PACKAGE / part).parts[0]
        if path == PACKAGE / part / "__init__.py":
            continue  # gathers the part's public names
        names = [name.split(".") for name in imports_of(path)]
        used = {name[2] for name in names if name[:2] == ["verify_pipeline", part]} & rank.keys()
        upwards = {other for other in used if rank[other] > rank.get(room, 0)}
        assert not upwards, f"{path.relative_to(PACKAGE)} must not import {sorted(upwards)}"


@pytest.mark.parametrize("part", ROOMS)
def test_every_declared_room_exists(part: str) -> None:
    found = {path.name for path in (PACKAGE / part).iterdir() if (path / "__init__.py").exists()}
    assert found == set(ROOMS[part])


def test_every_declared_part_exists() -> None:
    assert set(RANK) == {part_of(path) for path in modules()}


def test_modules_do_not_import_each_other_in_circles() -> None:
    names = {
        ".".join(("verify_pipeline", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in modules()
    }
    edges = {
        name: {
            target
            for imported in imports_of(path)
            for target in (imported, imported.rpartition(".")[0], f"{imported}.__init__")
            if target in names and target != name
        }
        for name, path in names.items()
        if path.name != "__init__.py" or path.parent != PACKAGE
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in sorted(edges.get(name, ())):
                visit(target, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_forbidden_things_are_not_used(path: Path) -> None:
    for name in imports_of(path):
        root = name.split(".")[0]
        assert root not in FORBIDDEN, f"{root} {FORBIDDEN[root]}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            allowed = FORBIDDEN_CALLS.get(node.func.id)
            assert allowed is None or part_of(path) in allowed, (
                f"{path}:{node.lineno}: {node.func.id}() is not used in this project"
            )


def test_no_two_public_classes_have_the_same_name() -> None:
    places: dict[str, list[str]] = {}
    for path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


CHECKER = PACKAGE.parent / "verify_checker"


def test_the_checker_shares_no_code_and_needs_numpy_and_onnx_only() -> None:
    allowed = {"numpy", "onnx", "verify_checker"} | set(sys.stdlib_module_names)
    for path in CHECKER.rglob("*.py"):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert roots <= allowed, f"{path.name} must not import {sorted(roots - allowed)}"


def test_the_checker_is_importable_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import verify_checker.folder; "
        "bad = [n for n in sys.modules if n.split('.')[0] == 'verify_pipeline']; sys.exit(len(bad))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=CHECKER.parent, check=False)
    assert run.returncode == 0


def test_the_checker_has_less_than_two_thousand_lines_of_code() -> None:
    count = 0
    for path in CHECKER.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines = {n for n, line in enumerate(text.splitlines(), 1) if line.strip()}
        lines -= {n for n, line in enumerate(text.splitlines(), 1) if line.lstrip()[:1] == "#"}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        count += len(lines)
    assert 0 < count < 2000

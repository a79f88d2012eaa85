"""The documents, and what stands in them: links, paths, commands, blocks."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RESULTS = sorted([*(ROOT / "results").glob("*.md"), *(ROOT / "models").glob("*.md")])

_MADE_BY_COMMANDS = ("runs", "results/demo")
"""Folders that are not committed: documents may name what a command will write there."""


def text_of(page: Path) -> str:
    """A page as it is."""
    return page.read_text(encoding="utf-8")


def spans(page: Path) -> list[str]:
    """The inline code of a page, outside of its blocks."""
    outside = re.sub(r"(?m)^ {4}.*$", "", _without_fences(page))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]


def _without_fences(page: Path) -> str:
    return re.sub(r"(?ms)^```.*?^```$", "", text_of(page))


def broken_links(page: Path) -> list[str]:
    """Relative links whose file, or whose heading in it, is not there."""
    found = re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text_of(page))
    return [link for link in found if not _link_holds(page, link)]


def _link_holds(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name) if name else page
    if not target.exists():
        return False
    return not anchor or anchor in _anchors(target)


def _anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub writes them in links."""
    headings = re.findall(r"(?m)^#+ (.+)$", text_of(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_files(page: Path) -> list[str]:
    """What inline code names and looks like a file or folder of the project, but is not there."""
    named = {span.split("::")[0] for span in spans(page)}
    return sorted(name for name in named if _looks_like_a_path(name) and not _exists(page, name))


def _looks_like_a_path(name: str) -> bool:
    if not re.fullmatch(r"[\w.*/-]+", name) or name.startswith(_MADE_BY_COMMANDS):
        return False
    first, slash, _ = name.partition("/")
    return bool(slash and _is_folder(first)) or name.endswith(".py")


def _is_folder(first: str) -> bool:
    return bool(first) and any((base / first).is_dir() for base in (ROOT, ROOT / "verify_pipeline"))


def _exists(page: Path, name: str) -> bool:
    bases = (page.parent, ROOT, ROOT / "verify_pipeline")
    if any(next(base.glob(name.rstrip("/")), None) for base in bases):
        return True
    return "/" not in name and any(
        next((ROOT / folder).rglob(name), None) for folder in ("verify_pipeline", "tests", "docs")
    )


def fenced(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text_of(page))


def indented(page: Path) -> list[str]:
    """The indented blocks, in order, without their indentation."""
    blocks = re.findall(r"(?m)(?:(?<=\n\n)|\A)((?:^ {4}.*\n|^\n(?= {4}))+)", _without_fences(page))
    return [textwrap.dedent(block) for block in blocks]


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The arguments of every command of a program that stands in a block of the page."""
    for block in [*fenced(page, "sh"), *indented(page)]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if program in line else []
            if program in words:
                yield words[words.index(program) + 1 :]

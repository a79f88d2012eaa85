"""YAML that means what it says.

PyYAML's safe loader keeps the last of two equal keys, reads ``on`` as True, ``012`` as 10 and
``1e-3`` as text. Here scalars follow the core schema of YAML 1.2 (``1e-3`` is a number, ``on`` is
text), and what a reader could take for something else is refused: duplicate keys, numbers with
leading zeros, anchors and aliases, explicit tags, keys that are not text, nesting too deep to be
meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from verify_pipeline.errors import ConfigError

KeyPath = tuple[str | int, ...]

_NUMBER_START = list("-+.0123456789")

DEEPEST = 100
"""Nesting depth of lists and mappings. PyYAML and the checks here are recursive, and crash the
process where a library has raised Python's recursion limit."""


class _Loader(yaml.SafeLoader):
    """The safe loader with the core schema of YAML 1.2 and nothing else."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own interface)
    _depth = 0  # of the node that is being read

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases and explicit tags, the two ways for a file to mean more than it shows."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        what = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            what = "an anchor or alias"
        elif getattr(event, "tag", None):
            what = f"the tag {event.tag}"
        if what is not None:
            raise yaml.composer.ComposerError(
                None, None, f"{what} is not allowed here; write the value out", event.start_mark
            )
        if self._depth == DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, f"nested deeper than {DEEPEST}", event.start_mark
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _resolve(name: str, pattern: str, first: list[str]) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(pattern), first)


_resolve("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""])
_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF"))
_resolve("int", r"^[-+]?[0-9]+$", list("-+0123456789"))
_resolve(
    "float",
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    _NUMBER_START,
)


@dataclass(frozen=True)
class Document:
    """What a YAML file says.

    Attributes:
        name: of the file, for messages.
        value: the mapping; of two equal keys, the first.
        lines: the line, from 1, of every key and list item, by its path.
        problems: everything that has to be refused, as ``path (line n): what``.
        replaced: keys whose values have come from the command line instead.
    """

    name: str
    value: dict[str, Any]
    lines: dict[KeyPath, int]
    problems: tuple[str, ...]
    replaced: frozenset[KeyPath] = frozenset()

    def place(self, path: KeyPath) -> str:
        """A path as a user reads it, ``train.loss.alpha (line 12)``.

        A key that is not in the file gets the line of the nearest one around it; one that was
        replaced, and all under it, gets ``(--set)``.
        """
        if any(path[:length] in self.replaced for length in range(1, len(path) + 1)):
            return f"{dotted(path)} (--set)"
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{dotted(path)} (line {self.lines[path[:length]]})"
        return dotted(path)


def dotted(path: KeyPath) -> str:
    """``("train", "milestones", 0)`` as ``train.milestones[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse(source: Path | str) -> Document:
    """Read a YAML mapping and list, rather than raise, what is ambiguous in it.

    Args:
        source: a path of a file, or the text itself.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or is not a mapping.
    """
    name, text = _text_of(source)
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if not isinstance(root, yaml.MappingNode):
                raise ConfigError(
                    name,
                    expected="a mapping of keys to values",
                    got="nothing" if root is None else "a list or a scalar",
                )
            lines: dict[KeyPath, int] = {}
            problems = tuple(_inspect(root, (), lines))
            value = loader.construct_document(_without_duplicates(root))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        raise ConfigError(where, expected="YAML", got=error.problem or str(error)) from None
    except yaml.YAMLError as error:
        raise ConfigError(name, expected="YAML", got=" ".join(str(error).split())) from None
    return Document(name, value, lines, problems)


def load(source: Path | str) -> dict[str, Any]:
    """Read a YAML mapping strictly.

    Args:
        source: a path of a file, or the text itself.

    Raises:
        ConfigError: the file cannot be read, is not a YAML mapping, or is ambiguous; every
            ambiguity is named with its path and line.
    """
    document = parse(source)
    if document.problems:
        raise problems_error(document.name, document.problems)
    return document.value


def problems_error(name: str, problems: tuple[str, ...]) -> ConfigError:
    """One error that lists all problems of a file, a line each."""
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    return ConfigError("\n  ".join((f"{name}: {count}", *problems)))


def _text_of(source: Path | str) -> tuple[str, str]:
    if isinstance(source, str):
        return "<text>", source
    try:
        return str(source), source.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(str(source), expected="a YAML file", got="no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(source), expected="a readable UTF-8 file", got=str(error)) from None


def _inspect(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Iterator[str]:
    """Yield the problems under ``node`` and note the lines of its keys."""
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                yield f"{dotted(path) or 'top level'} (line {line}): a key that is not text"
                continue
            here = (*path, key.value)
            if here in lines:
                yield f"{dotted(here)} (line {line}): duplicate key, first on line {lines[here]}"
                continue
            lines[here] = line
            yield from _inspect(child, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*path, index)] = child.start_mark.line + 1
            yield from _inspect(child, (*path, index), lines)
    elif node.tag == "tag:yaml.org,2002:int":
        digits = node.value.lstrip("+-")
        if len(digits) > 1 and digits.startswith("0"):
            where = f"{dotted(path)} (line {node.start_mark.line + 1})"
            yield f"{where}: {node.value} has a leading zero; write it without, or quote it"
            node.value = node.value.replace(digits, digits.lstrip("0") or "0", 1)
    elif node.tag == "tag:yaml.org,2002:float" and _underflows(node.value):
        where = f"{dotted(path)} (line {node.start_mark.line + 1})"
        yield f"{where}: {node.value} is too small a number for float64, which would take it for 0"


def _underflows(text: str) -> bool:
    digits = re.split("[eE]", text)[0]
    return any(digit in digits for digit in "123456789") and float(text) == 0


def _without_duplicates(node: yaml.Node) -> yaml.Node:
    """The node with only the first of equal text keys, all the way down."""
    if isinstance(node, yaml.MappingNode):
        kept: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, child in node.value:
            if key.tag == "tag:yaml.org,2002:str":
                kept.setdefault(key.value, (key, _without_duplicates(child)))
        node.value = list(kept.values())
    elif isinstance(node, yaml.SequenceNode):
        node.value = [_without_duplicates(child) for child in node.value]
    return node

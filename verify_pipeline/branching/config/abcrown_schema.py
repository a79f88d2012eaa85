"""Reads α,β-CROWN's YAML schema for the built-in search: one file configures either engine.

The built-in search follows the keys in :data:`USED`. It accepts the schema's other keys and lists
them as ignored, so that the command line can report that they have no effect. Any other key is an
error. Names and defaults: github.com/Verified-Intelligence/alpha-beta-CROWN, release 0.7.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from verify_pipeline.branching.config.abcrown_keys import KEYS
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.strict_yaml import Document, KeyPath, dotted, parse, problems_error

USED: dict[str, tuple[str, ...]] = {
    "solver.batch_size": ("batch",),
    "solver.alpha-crown.iteration": ("root", "iterations"),
    "solver.alpha-crown.lr_alpha": ("root", "lr_alpha"),
    "solver.alpha-crown.lr_decay": ("root", "decay"),
    "solver.beta-crown.iteration": ("domain", "iterations"),
    "solver.beta-crown.lr_alpha": ("domain", "lr_alpha"),
    "solver.beta-crown.lr_beta": ("domain", "lr_beta"),
    "solver.beta-crown.lr_decay": ("domain", "decay"),
    "bab.timeout": ("timeout",),
    "bab.max_domains": ("max_domains",),
    "bab.branching.method": ("branching", "method"),
    "bab.branching.candidates": ("branching", "candidates"),
    "attack.pgd_order": ("attack", "order"),
    "attack.pgd_steps": ("attack", "steps"),
    "attack.pgd_restarts": ("attack", "restarts"),
}
"""Dotted key of the schema -> path of the field in :class:`SearchSettings`."""

_KNOWN = {f"{section}.{key}" for section, keys in KEYS.items() for key in keys.split()}
_SECTIONS = {
    ".".join(key.split(".")[:depth])
    for key in _KNOWN | set(USED)
    for depth in range(1, key.count(".") + 1)
}


@dataclass(frozen=True)
class SearchFile:
    """A configuration file as the built-in search understands it.

    Attributes:
        settings: settings of the search; this package's defaults where the file sets nothing.
        ignored: dotted keys that only α,β-CROWN follows, and ``key: value`` of settings that the
            built-in search does not follow.
    """

    settings: SearchSettings
    ignored: tuple[str, ...]


def read_search(source: Path | str) -> SearchFile:
    """Read a file in α,β-CROWN's schema, or the text of such a file.

    Raises:
        ConfigError: not YAML, an unknown key, or a value out of range. It lists all problems with
            their lines.
    """
    document = parse(source)
    leaves = dict(_leaves(document.value, ()))
    problems = list(document.problems)
    problems += [
        f"{document.place(path)}: not a key of α,β-CROWN's schema"
        for path in leaves
        if dotted(path) not in _KNOWN and dotted(path) not in USED
    ]
    settings = None
    try:
        settings = TypeAdapter(SearchSettings).validate_python(_fields(leaves))
    except ValidationError as error:
        problems += _value_problems(document, error)
    if problems or settings is None:
        raise problems_error(document.name, tuple(problems))
    unused = tuple(dotted(path) for path in leaves if dotted(path) not in USED)
    return SearchFile(settings, unused + ignored_values(settings))


def ignored_values(settings: SearchSettings) -> tuple[str, ...]:
    """Settings that the built-in search does not follow, as ``key: value`` of the schema.

    The attack of the built-in engine runs before the bounds at the root, or not at all.
    """
    order = settings.attack.order
    return () if order in ("before", "skip") else (f"attack.pgd_order: {order}",)


def _leaves(value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
    """The values inside the schema's sections, with their paths."""
    if isinstance(value, dict) and (not path or dotted(path) in _SECTIONS):
        return [leaf for key, child in value.items() for leaf in _leaves(child, (*path, key))]
    return [(path, value)]


def _fields(leaves: dict[KeyPath, Any]) -> dict[str, Any]:
    """The nested fields of :class:`SearchSettings` that the file sets."""
    fields: dict[str, Any] = {}
    for path, value in leaves.items():
        field = USED.get(dotted(path))
        if field is None:
            continue
        unlimited = field == ("max_domains",) and value == math.inf
        parent = fields.setdefault(field[0], {}) if len(field) > 1 else fields
        parent[field[-1]] = None if unlimited else value
    return fields


def _value_problems(document: Document, error: ValidationError) -> list[str]:
    key_of = {field: tuple(key.split(".")) for key, field in USED.items()}
    problems = []
    for detail in error.errors():
        field = tuple(part for part in detail["loc"] if isinstance(part, str))
        path = next((key_of[field[:n]] for n in (2, 1) if field[:n] in key_of), field)
        message = detail["msg"].removeprefix("Value error, ")
        problems.append(f"{document.place(path)}: {message}, got {detail['input']!r}")
    return problems

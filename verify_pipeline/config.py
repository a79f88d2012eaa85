"""Recipes: one YAML file that says how a network is trained and certified.

::

    description: one line for a reader
    train: …      fields of training.settings.TrainSettings
    certify: …    fields of certify.settings.CertifySettings

Recipes are read strictly (:mod:`verify_pipeline.strict_yaml`) into the frozen settings of the
layers, which check themselves; whatever is wrong anywhere in the file is reported in one
:class:`ConfigError`, a line for each mistake with its dotted path.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from verify_pipeline import data
from verify_pipeline.certify.settings import CertifySettings, plan
from verify_pipeline.errors import ConfigError
from verify_pipeline.network import zoo
from verify_pipeline.settings import STRICT, Text
from verify_pipeline.strict_yaml import Document, KeyPath, parse, problems_error
from verify_pipeline.training.settings import TrainSettings

T = TypeVar("T")

PATH_KEYS: tuple[KeyPath, ...] = (
    ("train", "network", "file"),
    ("train", "start", "weights"),
    *(("train", "data", *key) for key in data.PATH_KEYS),
)
"""Keys of a recipe that are paths of files."""


def _file_name(text: str) -> str:
    if text in (".", "..") or any(each in text for each in "/\\\0"):
        raise ValueError(f"expected a name that files can have; got {text!r}")
    return text


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """A training and a certification that belong together.

    Attributes:
        name: what it is called; the file's name without its ending unless it says otherwise.
        description: one line for a reader.
        train: the training.
        certify: the certification; its ε is the training's unless it says otherwise.
    """

    name: Annotated[Text, AfterValidator(_file_name)]
    description: str = ""
    train: TrainSettings
    certify: CertifySettings

    def __repr__(self) -> str:
        network, loss = self.train.network.label, self.train.loss.name
        words = f"{network} by {loss} on {self.train.data.full_name}, ε {self.certify.epsilon:.6g}"
        return f"Recipe({self.name}: {words})"


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with the package, in order."""
    folder = resources.files("verify_pipeline") / "recipes"
    return tuple(
        sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    )


def load_recipe(source: Path | str, overrides: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        source: a name out of :func:`recipe_names`, or a path (a text with a ``/`` or ending in
            ``.yaml`` or ``.yml`` is one).
        overrides: values that replace the file's, YAML scalars or lists by dotted path, such as
            ``{"train.loss.alpha": "0.5"}``.

    Relative paths in it count from the file's folder (those of ``overrides`` on a recipe by name:
    from the working directory), and are absolute in the result.

    Raises:
        ConfigError: there is no such recipe, or something in it is wrong; all mistakes are listed.
    """
    path = find_recipe(source)
    document = parse(path)
    problems = list(document.problems)
    base = Path() if _is_name(source) else path.parent
    value = document.value
    for key, text in (overrides or {}).items():
        document, wrong = _override(document, key, text)
        problems.extend(wrong)
    problems.extend(_unknown_names(document))
    _make_paths_absolute(value, base)
    try:
        completed = _completed(value, path.stem)
        recipe = TypeAdapter(Recipe).validate_python(completed)
    except ValidationError as error:
        told = (details for details in error.errors() if not _follows(details, value))
        problems.extend(_problem(Recipe, document, details) for details in told)
        raise problems_error(document.name, tuple(problems)) from None
    network = recipe.train.network
    if network.name is None and network.file is None:
        where = document.place(("train", "network"))
        problems.append(f"{where}: expected name, or file and factory; got neither")
    try:
        plan(recipe.certify)
    except ConfigError as error:
        problems.append(f"{document.place(('certify', 'search'))}: {error}")
    if problems:
        raise problems_error(document.name, tuple(problems))
    return recipe


def _completed(value: dict[str, Any], name: str) -> dict[str, Any]:
    """The recipe with what follows from the rest of it: its name, and certify's ε."""
    completed = {"name": name, "certify": {}, **value}
    train, certify = completed.get("train"), completed["certify"]
    epsilon = train.get("epsilon") if isinstance(train, dict) else None
    if isinstance(epsilon, dict) and "target" in epsilon and isinstance(certify, dict):
        completed["certify"] = {"epsilon": epsilon["target"], **certify}
    return completed


def checked(cls: type[T], value: Mapping[str, Any], name: str) -> T:
    """Settings from plain values, as a recipe's are checked.

    Args:
        cls: the settings' class.
        value: its fields as YAML would give them.
        name: how the error calls them.

    Raises:
        ConfigError: something is wrong; all mistakes are listed.
    """
    return _checked(cls, Document(name, dict(value), {}, ()))


def read_settings(cls: type[T], path: Path) -> T:
    """Settings from a YAML file of their own, read as a recipe is.

    Args:
        cls: the settings' class.
        path: of the file.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong; all mistakes are listed.
    """
    return _checked(cls, parse(path))


def _checked(cls: type[T], document: Document) -> T:
    problems = document.problems
    try:
        settings = TypeAdapter(cls).validate_python(document.value)
    except ValidationError as error:
        problems += tuple(_problem(cls, document, details) for details in error.errors())
        raise problems_error(document.name, problems) from None
    if problems:
        raise problems_error(document.name, problems)
    return settings


def find_recipe(source: Path | str) -> Path:
    """The recipe's file, by path or by name, as :func:`load_recipe` takes them.

    Raises:
        ConfigError: no recipe of the package has this name; a path is not looked at.
    """
    text = str(source)
    if not _is_name(source):
        return Path(source)
    names = recipe_names()
    if text not in names:
        raise ConfigError(
            f"recipe {text!r}",
            expected=_one_of(text, names),
            remedy="`verify-pipeline recipes` lists them; a path of a YAML file will do too",
        )
    # The package is always installed as files: the path is a real one.
    return Path(str(resources.files("verify_pipeline") / "recipes" / f"{text}.yaml"))


def _is_name(source: Path | str) -> bool:
    """Whether this is a name out of :func:`recipe_names`, if it is right, and no path."""
    text = str(source)
    return isinstance(source, str) and "/" not in text and not text.endswith((".yaml", ".yml"))


def recipe_text(source: Path | str) -> str:
    """A recipe's text to be kept in another folder: as its file has it, but with absolute paths.

    Raises:
        ConfigError: there is no such recipe, or it cannot be read.
    """
    path = find_recipe(source)
    document = parse(path)
    if document.problems or not _make_paths_absolute(document.value, path.parent):
        return path.read_text(encoding="utf-8")
    return yaml.safe_dump(document.value, sort_keys=False, allow_unicode=True)


def _make_paths_absolute(value: dict[str, Any], base: Path) -> bool:
    """Let relative paths in a recipe's plain values count from a folder; whether there were any."""
    found = False
    for path in PATH_KEYS:
        *inner, last = path
        holder: Any = value
        for part in inner:
            holder = holder.get(part) if isinstance(holder, dict) else None
        given = holder.get(last) if isinstance(holder, dict) else None
        if isinstance(given, str) and given:
            whole = os.path.abspath(base / os.path.expanduser(given))
            found, holder[last] = found or whole != given, whole
    return found


def _override(document: Document, key: str, text: str) -> tuple[Document, tuple[str, ...]]:
    """Set one dotted key in the document's value; returns what is wrong with it, too."""
    if "" in key.split("."):
        return document, (f"{key or 'a key'} (--set): expected names with dots between them",)
    try:
        read = parse(f"value: {text}")
    except ConfigError:
        return document, (f"{key} (--set): cannot read {text!r} as a YAML value",)
    value, path = document.value, tuple(key.split("."))
    new = path
    for length, part in enumerate(path[:-1], 1):
        if part not in value:
            new = min(new, path[:length], key=len)
        value = value.setdefault(part, {})
        if not isinstance(value, dict):
            return document, (f"{key} (--set): {part} holds a value, not keys",)
    value[path[-1]] = read.value["value"]
    document = dataclasses.replace(document, replaced=document.replaced | {new})
    return document, tuple(f"{key} (--set): {told.split(': ', 1)[-1]}" for told in read.problems)


def _follows(details: Any, value: dict[str, Any]) -> bool:
    """Whether an error is about certify's ε, which the recipe leaves to train's."""
    certify = value.get("certify")
    given = isinstance(certify, dict) and "epsilon" in certify
    return details["loc"] == ("certify", "epsilon") and not given


def _problem(cls: type, document: Document, details: Any) -> str:
    """One line for one error that pydantic found in settings of a class."""
    path = _keys(document, details["loc"])
    where, got = document.place(path), details["input"]
    match details["type"]:
        case "missing":
            return f"{where}: missing; this key is needed"
        case "unexpected_keyword_argument" | "extra_forbidden":
            known = _keys_at(cls, details["loc"][:-1])
            return f"{where}: unknown key; expected {_one_of(str(path[-1]), known)}"
        case "value_error":
            return (f"{where}: " if where else "") + str(details["ctx"]["error"])
        case "dataclass_type" | "dataclass_exact_type":
            return f"{where}: expected a mapping of keys to values; got {got!r}"
        case _:
            return f"{where}: {details['msg'].lower()}; got {got!r}"


def _keys(document: Document, location: KeyPath) -> KeyPath:
    """pydantic's location without the names of a union's members that it puts between keys."""
    path: KeyPath = ()
    for part in location:
        is_key = isinstance(part, int) or (part.isidentifier() and part.islower())
        if is_key or (*path, part) in document.lines:
            path = (*path, part)
    return path


def _keys_at(cls: Any, path: KeyPath) -> tuple[str, ...]:
    """The keys that settings of a class may have at a location as pydantic says it.

    Items of a list are all alike; a member of a union is named in the location.
    """
    choices: list[Any] = [cls]
    for part in (part for part in path if isinstance(part, str)):
        named = [each for each in choices if each.__name__ == part]
        hints = typing.get_type_hints(choices[0]).get(part) if choices and not named else None
        inside = [
            each for each in (hints, *typing.get_args(hints)) if dataclasses.is_dataclass(each)
        ]
        choices = named or inside
    return tuple(field.name for each in choices[:1] for field in dataclasses.fields(each))


def _unknown_names(document: Document) -> Iterable[str]:
    """Names that the settings take as any text, because other layers define them."""
    train = document.value.get("train")
    chosen = train.get("data") if isinstance(train, dict) else None
    for path, known in (
        *([] if data.is_own(chosen) else [(("train", "data", "name"), data.names())]),
        (("train", "network", "name"), zoo.names()),
    ):
        name: Any = document.value
        for part in path:
            name = name.get(part) if isinstance(name, dict) else None
        if isinstance(name, str) and name not in known:
            yield f"{document.place(path)}: expected {_one_of(name, known)}; got {name!r}"


def _one_of(wrong: str, known: Iterable[str]) -> str:
    """``one of a, b, c``, with the likeliest named first."""
    names = list(known)
    likely = difflib.get_close_matches(wrong, names, n=1)
    hint = f" (did you mean {likely[0]}?)" if likely else ""
    return f"one of {', '.join(names)}{hint}" if names else "no keys here"


def dump(recipe: Recipe) -> str:
    """The recipe as YAML text that :func:`load_recipe` reads back to an equal one."""
    return _as_yaml(dataclasses.asdict(recipe))


def dump_for_others(recipe: Recipe) -> str:
    """The recipe as YAML text to be published: of paths of own files, the last parts only."""
    plain = dataclasses.asdict(recipe)
    plain["train"]["data"] = data.without_places(recipe.train.data)
    return _as_yaml(plain)


def _as_yaml(plain: dict[str, Any]) -> str:
    jsonable = TypeAdapter(dict[str, Any]).dump_python(plain, mode="json")
    return yaml.safe_dump(jsonable, sort_keys=False, allow_unicode=True)

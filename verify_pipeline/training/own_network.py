"""Networks that a user's own Python file makes.

Reading a recipe imports nothing. The file is imported when its network is trained, or restored from
a checkpoint: it is a program, and runs with the rights of whoever starts it (SECURITY.md).
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from verify_pipeline.errors import ConfigError


def digest(path: Path) -> str:
    """SHA-256 of a network's file, in hexadecimal.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def build(path: Path, factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network that a file's function makes.

    The file may import other files of its folder.

    Args:
        path: of the file.
        factory: name of the function, or of a class of modules.
        arguments: that it is called with, by name.

    Returns:
        What the factory returns, in train mode.

    Raises:
        ConfigError: the file cannot be read or imported, has no such function, or the function
            fails or returns no module.
    """
    where = f"network file {path}"
    with _runnable(path):
        namespace = _imported(path)
        make = getattr(namespace, factory, None)
        if not callable(make):
            raise ConfigError(
                where,
                expected=f"a function {factory} that makes the network",
                got=_functions(namespace),
                remedy="Name it in train.network.factory.",
            )
        try:
            module = make(**arguments)
        except Exception as error:
            told = f"{factory}({_shown(arguments)})"
            raise ConfigError(
                where, expected=f"{told} to return a network", got=_reason(error, path)
            ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            where,
            expected=f"{factory} to return a torch module (torch.nn.Module)",
            got=f"a {type(module).__name__}",
        )
    return module.train()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"network file {path}",
            expected="a Python file that can be read",
            got=error.strerror or str(error),
            remedy="Check train.network.file; a relative path starts at the recipe's folder.",
        ) from error


@contextmanager
def _runnable(path: Path) -> Iterator[None]:
    """The file's folder as the first place for imports, as for a script.

    Other files of the folder that it imports are imported anew for the next network, whose own
    ones may be called alike.
    """
    folder, before = path.resolve().parent, set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in sys.modules.keys() - before:
            if _lies_in(folder, name):
                del sys.modules[name]


def _lies_in(folder: Path, name: str) -> bool:
    """Whether an imported module is a file of the folder, or of a package in it."""
    file, root = getattr(sys.modules[name], "__file__", None), name.partition(".")[0]
    return file is not None and (
        Path(file) == folder / f"{root}.py" or Path(file).is_relative_to(folder / root)
    )


def _imported(path: Path) -> ModuleType:
    """The file as a module of a name of its own, so that two files of one name do not meet."""
    name = f"verify_pipeline_network_{digest(path)[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"network file {path}", expected="a Python file (.py)", got=path.name)
    namespace = importlib.util.module_from_spec(spec)
    sys.modules[name] = namespace  # classes that are pickled or inspected look for their module
    try:
        spec.loader.exec_module(namespace)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(
            f"network file {path}",
            expected="a Python file that can be imported",
            got=_reason(error, path),
        ) from error
    return namespace


def _reason(error: Exception, path: Path) -> str:
    """The error in one line, with the last line of the user's file that it passed."""
    told = " ".join(str(error).split())
    told = f"{type(error).__name__}: {told}" if told else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename) == path]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f"{told} (line {lines[-1]})" if lines and lines[-1] else told


def _functions(namespace: ModuleType) -> str:
    """The callables that the file itself defines."""
    own = [
        name
        for name, value in vars(namespace).items()
        if callable(value) and getattr(value, "__module__", None) == namespace.__name__
    ]
    return f"only {', '.join(own)}" if own else "no function"


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())

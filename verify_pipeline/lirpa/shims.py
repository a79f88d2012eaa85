"""Import of auto_LiRPA: any release that works, and release 0.3 from PyPI with small repairs.

Release 0.3 (2022) uses parts of torch and numpy that have moved since. Each repair restores one
name. Later releases need no repairs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from verify_pipeline.errors import DependencyError

INSTALL = "pip install --no-deps auto_LiRPA==0.3"

RECURSION_LIMIT = 10_000
"""Python's, once auto_LiRPA is imported: enough for its recursion over the nodes of a network."""


@dataclass(frozen=True)
class Lirpa:
    """The imported package auto_LiRPA.

    Attributes:
        module: the module ``auto_LiRPA``.
        version: its release.
        shims: names of the repairs that were made for it.
    """

    module: types.ModuleType
    version: str
    shims: tuple[str, ...]


@cache
def load() -> Lirpa:
    """Import auto_LiRPA once, with the repairs that its release needs.

    Raises:
        DependencyError: it is not installed, or its import fails.
    """
    try:
        version = importlib.metadata.version("auto_LiRPA")
    except importlib.metadata.PackageNotFoundError:
        raise DependencyError(
            "auto_LiRPA is not installed",
            remedy=f"Install it with: {INSTALL}",
        ) from None
    old = version.startswith("0.") and int(version.split(".")[1]) < 4
    shims = tuple(name for name, repair in SHIMS.items() if repair()) if old else ()
    try:
        # warnings are recorded and dropped, because release 0.3 replaces filters on import
        with warnings.catch_warnings(record=True):
            module = importlib.import_module("auto_LiRPA")
            importlib.import_module("auto_LiRPA.perturbations")
    except ImportError as error:
        raise DependencyError(
            f"auto_LiRPA {version} cannot be imported",
            got=str(error),
            remedy=f"Install a release that fits with: {INSTALL}",
        ) from error
    finally:
        # its import raises the limit to a million, which lets recursion overflow the stack
        sys.setrecursionlimit(RECURSION_LIMIT)
    if old:
        _accept_remove_duplicate(module)
        shims += ("BoundedModule._named_members",)
    logging.getLogger("auto_LiRPA").setLevel(logging.ERROR)
    return Lirpa(module, version, shims)


def _numpy_arraysetops() -> bool:
    name = "numpy.lib.arraysetops"
    if name in sys.modules:
        return False
    stand_in = types.ModuleType(name)
    stand_in.isin = np.isin  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    return True


def _opset_setter() -> bool:
    from torch.onnx._internal.torchscript_exporter import _globals

    # imported by name, because the attribute of torch.onnx is another module of the same name
    symbolic_helper = importlib.import_module("torch.onnx.symbolic_helper")

    def set_opset_version(version: int) -> None:
        # sets the attribute behind the property, which refuses versions the exporter has dropped
        _globals.GLOBALS.export_onnx_opset_version = version

    symbolic_helper._set_opset_version = set_opset_version  # type: ignore[attr-defined]
    return True


def _node_getitem() -> bool:
    symbolic_helper = importlib.import_module("torch.onnx.symbolic_helper")
    torch._C.Node.__getitem__ = symbolic_helper._node_get  # type: ignore[method-assign]
    return True


def _accept_remove_duplicate(module: types.ModuleType) -> None:
    """Let 0.3's ``_named_members`` accept torch's new argument ``remove_duplicate``."""
    original: Callable[..., Iterator[tuple[str, Any]]] = module.BoundedModule._named_members

    def named_members(
        self: Any, get_members_fn: Any, prefix: str = "", recurse: bool = True, **_: Any
    ) -> Iterator[tuple[str, Any]]:
        return original(self, get_members_fn, prefix, recurse)

    module.BoundedModule._named_members = named_members


SHIMS: dict[str, Callable[[], bool]] = {
    "numpy.lib.arraysetops": _numpy_arraysetops,
    "torch.onnx.symbolic_helper._set_opset_version": _opset_setter,
    "torch._C.Node.__getitem__": _node_getitem,
}

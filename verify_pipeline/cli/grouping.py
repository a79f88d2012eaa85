"""Commands whose options come in groups.

typer reads one option from each parameter of a function. Here a parameter may also be a dataclass
whose fields are options: related options are declared once and passed on together.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, Signature
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each dataclass replaced by its fields, as typer expects it.

    Args:
        command: a function. Every field of its dataclasses has a default and a unique name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(command)
    def flat(**given: Any) -> None:
        for name, group in groups.items():
            of_it = {field.name: given.pop(field.name) for field in fields(group)}
            given[name] = group(**of_it)
        command(**given)

    parameters = list(_flattened(inspect.signature(command), hints))
    flat.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in parameters}
    return flat


def _flattened(signature: Signature, hints: dict[str, Any]) -> Iterator[Parameter]:
    for name, parameter in signature.parameters.items():
        hint = hints[name]
        if not is_dataclass(hint):
            yield parameter.replace(annotation=hint, kind=Parameter.KEYWORD_ONLY)
            continue
        kinds = get_type_hints(hint, include_extras=True)
        for field in fields(hint):
            default = Parameter.empty if field.default is MISSING else field.default
            yield Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=default, annotation=kinds[field.name]
            )

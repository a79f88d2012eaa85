"""Whether weights are those of a network, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

SHOWN = 3
"""Tensors that a message names at most."""


def different_weights(given: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> str:
    """Where weights are not those of a network; empty if they fit.

    Args:
        given: by name.
        needed: the network's own, by name.
    """
    return first_few(list(_differences(given, needed)))


def first_few(names: list[str]) -> str:
    """The first names of a list, and how many there are besides."""
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _differences(given: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> Iterator[str]:
    for name, value in needed.items():
        if name not in given:
            yield f"no {name}"
        elif given[name].shape != value.shape:
            yield f"{name} of {_size(given[name])} instead of {_size(value)}"
    yield from (f"{name}, which it does not have" for name in given if name not in needed)


def _size(x: Tensor) -> str:
    return " x ".join(map(str, x.shape)) or "one number"


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, contiguous, none in the memory of another one as tied weights are."""
    found: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        found[name] = value.clone() if place in places else value.contiguous()
        places.add(place)
    return found

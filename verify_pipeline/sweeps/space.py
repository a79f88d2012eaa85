"""The search space of a tuning: one YAML file that says what may be chosen for each key.

::

    parameters:
      train.loss.alpha: {low: 1e-3, high: 1, log: true}
      train.attack.steps: {low: 1, high: 10, integer: true}
      train.epsilon.length: {low: 0.1, high: 0.75, of: epochs}     # a share of the epochs
      train.optimiser.milestones:                                  # a list, one range an item
        - {low: 0.5, high: 0.8, of: epochs}
        - {low: 0.8, high: 0.95, of: epochs}
      train.epsilon.train_factor: {choices: [1, 1.5, 2]}

The package has one for each loss, ``sweeps/spaces/<loss>.yaml``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from verify_pipeline.config import Recipe, load_recipe, read_settings
from verify_pipeline.errors import ConfigError
from verify_pipeline.settings import STRICT, Number, Switch
from verify_pipeline.sweeps.grid import GridRun, check_runs

EPOCHS = "train.optimiser.epochs"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Range:
    """What may be chosen for one number.

    Attributes:
        low: the least; not with choices.
        high: the greatest, at least ``low``; not with choices.
        log: whether its logarithm is drawn evenly; ``low`` has to be > 0 then.
        integer: whether it is a whole number.
        of: ``epochs``: it is a share of the training's epochs, rounded down to a whole number.
        choices: numbers, texts or truth values, instead of a range.

    Raises:
        ValueError: limits that do not fit.
    """

    low: Number | None = None
    high: Number | None = None
    log: Switch = False
    integer: Switch = False
    of: Literal["epochs"] | None = None
    choices: tuple[bool | int | float | str, ...] = ()

    def __post_init__(self) -> None:
        if self.choices:
            if (self.low, self.high, self.of) != (None, None, None) or self.log or self.integer:
                raise ValueError("expected choices, or a range; got both")
            return
        if self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices")
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"expected low <= high{' and low > 0' if self.log else ''}; "
                f"got {self.low:g} and {self.high:g}"
            )
        if self.integer and (self.low != int(self.low) or self.high != int(self.high)):
            raise ValueError(f"expected whole limits; got {self.low:g} and {self.high:g}")
        if self.of is not None and (self.integer or not 0 <= self.low <= self.high <= 1):
            raise ValueError("expected shares of the epochs, from 0 to 1")

    @property
    def ends(self) -> tuple[bool | int | float | str, ...]:
        """The limits, or all choices: what has to be valid for the rest to be."""
        if self.choices or self.low is None or self.high is None:
            return self.choices
        limits = (self.low, self.high)
        return tuple(int(x) for x in limits) if self.integer else limits

    @property
    def shown(self) -> str:
        """The range as a reader is told it."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        about = [
            word
            for word, holds in (
                ("logarithmic", self.log),
                ("whole numbers", self.integer),
                ("of the epochs", self.of is not None),
            )
            if holds
        ]
        return f"{self.low:g} to {self.high:g}{', ' if about else ''}{', '.join(about)}"


def _kind(value: Any) -> str:
    return "List" if isinstance(value, list | tuple) else "Range"


RangeOrList = Annotated[
    Annotated[Range, Tag("Range")] | Annotated[tuple[Range, ...], Tag("List")],
    Discriminator(_kind),
]
"""One range, or one for each item of a list. What is wrong in one is not told of the other."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Space:
    """A search space.

    Attributes:
        parameters: by dotted key of the recipe; a tuple makes a list of as many numbers.
    """

    parameters: Mapping[str, RangeOrList] = Field(min_length=1)

    def ranges(self) -> dict[str, Range]:
        """Every range by the name that Optuna gets; the epochs, which others are shares of, first.

        An item of a list is called ``key[place]``.
        """
        found: dict[str, Range] = {}
        for key in sorted(self.parameters, key=lambda key: key != EPOCHS):
            ranges = self.parameters[key]
            if isinstance(ranges, Range):
                found[key] = ranges
            else:
                found |= {f"{key}[{place}]": each for place, each in enumerate(ranges)}
        return found

    def values(self, chosen: Mapping[str, Any], epochs: int) -> dict[str, str]:
        """YAML texts by dotted key of the recipe.

        Args:
            chosen: a number or choice for each name of :meth:`ranges`.
            epochs: of the recipe, where the space does not choose them.
        """
        given = chosen.get(EPOCHS, epochs)
        epochs = given if isinstance(given, int) else epochs  # the recipe's check names others
        texts = {name: _text(each, chosen[name], epochs) for name, each in self.ranges().items()}
        return {
            key: texts[key]
            if isinstance(ranges, Range)
            else f"[{', '.join(_in_order(texts[f'{key}[{n}]'] for n in range(len(ranges))))}]"
            for key, ranges in self.parameters.items()
        }


def _text(range_: Range, value: Any, epochs: int) -> str:
    if range_.of is not None:
        return str(math.floor(float(value) * epochs))
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else str(value)


def _in_order(texts: Iterable[str]) -> list[str]:
    """Numbers of a list by size, each once: milestones that coincide are one."""
    return sorted(dict.fromkeys(texts), key=_size)


def _size(text: str) -> float:
    """A number to sort by; what is none comes last, and the recipe's check names it."""
    try:
        return float(text)
    except ValueError:
        return math.inf


def read_space(source: Path | None, loss: str) -> Space:
    """A user's search space, or the package's for a loss.

    Raises:
        ConfigError: the file is missing or wrong, or the package has no space for the loss.
    """
    if source is not None:
        return read_settings(Space, source)
    folder = resources.files("verify_pipeline") / "sweeps" / "spaces"
    path = Path(str(folder / f"{loss}.yaml"))
    if not path.is_file():
        raise ConfigError(
            f"search space of {loss}",
            expected="--space, as the package has none for this loss",
            got="none",
        )
    return read_settings(Space, path)


MEASURES = ("train.data", "train.seed", "train.watch")
"""Keys of the training that say which images trials are compared on, or how they are watched."""


def _is_searchable(key: str) -> bool:
    measures = any(key == each or key.startswith(f"{each}.") for each in MEASURES)
    return key.startswith("train.") and not measures


def check_space(
    space: Space, source: Path | str, base: Mapping[str, str], option: str = "--space"
) -> None:
    """Refuse a space of what is no setting of a training, or whose ends a recipe could not take.

    Each end is tried with the first end of all others, and all first and all last ends together.

    Args:
        space: that is checked.
        source: name or path of the recipe.
        base: values that hold for all trials.
        option: where the space comes from, as messages name it.

    Raises:
        ConfigError: all mistakes, in one error.
    """
    fixed = [key for key in space.parameters if not _is_searchable(key)]
    if fixed:
        raise ConfigError(
            "search space",
            expected="settings of the training",
            got=", ".join(fixed),
            remedy="What is measured, and on which images, is the same for all trials: --set.",
        )
    recipe: Recipe = load_recipe(source, base)
    ranges, epochs = space.ranges(), recipe.train.optimiser.epochs
    first = {name: each.ends[0] for name, each in ranges.items()}
    last = {name: each.ends[-1] for name, each in ranges.items()}
    tried = [first, last]
    tried += [{**first, name: end} for name, each in ranges.items() for end in each.ends[1:]]
    unique = {tuple(space.values(each, epochs).items()): None for each in tried}
    runs = [GridRun(str(place), dict(values)) for place, values in enumerate(unique)]
    check_runs(source, base, runs, option)


Draw = Callable[[str, Range], Any]
"""Draws a value of a range, by name."""


def draw_all(space: Space, draw: Draw) -> dict[str, Any]:
    """A value for each range, drawn in order."""
    return {name: draw(name, each) for name, each in space.ranges().items()}

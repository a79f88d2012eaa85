"""The table of docs/recipes.md, made from the recipes themselves.

``python docs/recipes_table.py`` prints it; with ``--write`` it is put into the page.
"""

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from verify_pipeline.config import Recipe, load_recipe, recipe_names

PAGE = Path(__file__).with_name("recipes.md")
BEGIN, END = "<!-- table: ", "<!-- end of table -->"
COLUMNS = (
    "recipe",
    "network",
    "loss, α",
    "ε",
    "factor",
    "attack",
    "epochs (decay)",
    "start, length",
    "batch",
    "L1",
    "λ",
)


def rows() -> Iterator[tuple[str, ...]]:
    """One row for each recipe of the package."""
    for name in recipe_names():
        yield _row(load_recipe(name))


def _row(recipe: Recipe) -> tuple[str, ...]:
    train = recipe.train
    epsilon, attack, optimiser = train.epsilon, train.attack, train.optimiser
    width = "" if train.network.width == 1 else f" × {train.network.width:g}"
    factor = (
        "" if epsilon.attack_epsilon_factor == 1 else f", ε × {epsilon.attack_epsilon_factor:g}"
    )
    return (
        f"`{recipe.name}`",
        f"{train.network.name}{width}",
        f"{train.loss.name}, {train.loss.alpha:g}",
        _fraction(epsilon.target),
        f"{epsilon.train_factor:g}",
        f"{attack.steps} × {attack.step_size:g}{factor}",
        f"{optimiser.epochs} ({', '.join(map(str, optimiser.milestones))})",
        f"{epsilon.start}, {epsilon.length}",
        f"{optimiser.batch}",
        f"{optimiser.l1:g}",
        f"{train.regulariser.weight:g}",
    )


def _fraction(value: float) -> str:
    """``2/255`` for what a recipe means by it, the decimal number otherwise."""
    pixels = Fraction(value * 255).limit_denominator(1)
    whole = float(pixels) / 255 == value and pixels < 20
    return f"{pixels}/255" if whole else f"{value:g}"


def table() -> str:
    """The whole table in Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page_with_table() -> str:
    """The page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    marker, _ = rest.split("\n", 1)
    tail = rest.split(END)[1]
    return f"{head}{BEGIN}{marker}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page_with_table(), encoding="utf-8")
    else:
        print(table())

"""A table as text in cells, which every format renders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: by which it is asked for.
        heading: as readers see it.
        meaning: what it counts, for the lines under a table; empty: it needs no words.
        is_text: whether its cells are words, not numbers.
        is_fact: whether it says what a row is, not what was found.
    """

    name: str
    heading: str
    meaning: str = ""
    is_text: bool = False
    is_fact: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: as readers see it.
        best: whether it is the best of its column among rows that compare.
        short: the text without its interval, for narrow tables; empty: the text itself.
    """

    text: str
    best: bool = False
    short: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its notes.

    Attributes:
        columns: from left to right.
        rows: a cell for each column.
        common: what all rows have in common, as short phrases.
        notes: sentences for below the table.
        sources: citation keys of the rows that are quoted, one for each row; empty: an own row.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    common: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def only(self, names: Iterable[str]) -> Table:
        """The table with some columns, in the order of the names."""
        places = [self.place(name) for name in names]
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return replace(self, columns=tuple(self.columns[place] for place in places), rows=rows)

    def place(self, name: str) -> int:
        """The place of a column.

        Raises:
            ValueError: there is none of that name.
        """
        return [column.name for column in self.columns].index(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)


def lifted(table: Table, kept: Sequence[str] = ()) -> Table:
    """The table without the facts that all of its rows share; these become common phrases.

    Args:
        table: with any columns; of one row, nothing is lifted unless columns are kept.
        kept: names of columns that stay in any case.
    """
    if len(table.rows) < 2 and not kept:
        return table
    shared = [
        column.name
        for place, column in enumerate(table.columns)
        if column.is_fact and column.name not in kept
        if len({row[place].text for row in table.rows}) == 1
    ]
    first = dict(zip(table.names, table.rows[0], strict=True))
    phrases = [
        _phrase(table.columns[table.place(name)], first[name].text)
        for name in shared
        if first[name].text not in ("", MISSING)
    ]
    rest = [name for name in table.names if name not in shared]
    if not rest:
        return table
    return replace(table.only(rest), common=(*table.common, *phrases))


def _phrase(column: Column, text: str) -> str:
    """A fact in words: names explain themselves, numbers need what they are."""
    explains_itself = column.is_text and len(column.heading) > 1
    return text if explains_itself else f"{column.heading} = {text}"


_FIRST_TO_GO = (
    "mean_seconds",
    "most_seconds",
    "attack_robust",
    "ibp_verified",
    "crown_verified",
    "alpha_crown_verified",
    "network",
    "seconds",
    "tied_as_deployed",
    "architecture",
    "split",
    "source",
    "undecided",
    "robust",
    "standard_to_paper",
)
"""Columns that a narrow table leaves out, in this order, until it fits."""


def narrowed(table: Table, width: int) -> Table:
    """The table in at most ``width`` characters, if leaving out columns and intervals helps.

    What is left out is told in a note.
    """
    if _width(table) <= width:
        return table
    short = replace(table, rows=tuple(tuple(map(_short, row)) for row in table.rows))
    names, hidden = list(table.names), []
    distinct = _is_told_without_files(table)
    for name in _FIRST_TO_GO:
        if _width(short.only(names)) <= width:
            break
        if name in names and (name != "network" or distinct):
            names.remove(name)
            hidden.append(table.columns[table.place(name)].heading)
    left_out = ["intervals over images"] if short != table else []
    left_out += [f"columns {', '.join(hidden)}"] if hidden else []
    if not left_out:
        return table
    told = f"Not shown: {'; '.join(left_out)}. A wider terminal or --columns shows them."
    return replace(short.only(names), notes=(*table.notes, told))


def _is_told_without_files(table: Table) -> bool:
    """Whether facts other than the file's name tell the rows apart."""
    facts = [
        place
        for place, column in enumerate(table.columns)
        if column.is_fact and column.name != "network"
    ]
    return len({tuple(row[place].text for place in facts) for row in table.rows}) == len(table.rows)


def _short(cell: Cell) -> Cell:
    return replace(cell, text=cell.short or cell.text, short="")


def _width(table: Table) -> int:
    """Characters of a line on a terminal, where each column has three more."""
    cells = [
        max(len(column.heading), *(len(row[place].text) for row in table.rows), 0)
        for place, column in enumerate(table.columns)
    ]
    return sum(cells) + 3 * len(cells) + 1

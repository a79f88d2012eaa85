"""The table of results: what each cell says, and which figures are best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.markdown import one_line
from verify_pipeline.reporting.as_deployed import paired
from verify_pipeline.reporting.facts import asked_text, epsilon_text
from verify_pipeline.reporting.literature import Published, published_for
from verify_pipeline.reporting.notes import differences, notes, reasons
from verify_pipeline.reporting.other_tools import OtherVerdicts, agreement, check_meant
from verify_pipeline.reporting.results import ResultRow, results
from verify_pipeline.reporting.statistics import Share
from verify_pipeline.reporting.table import MISSING, Cell, Column, Table, lifted
from verify_pipeline.reporting.tables import PERCENTAGES, WITH_INTERVALS, seconds_table, verified_by

HEADINGS = {
    "network": "Network",
    "method": "Method",
    "alpha": "α",
    "sabr_lambda": "λ",
    "architecture": "Architecture",
    "data_set": "Data",
    "split": "Split",
    "epsilon": "ε",
    "asked": "Asked",
    "settings": "Settings",
    "places": "Which images",
    "file": "File's SHA-256",
    "seed": "Seed",
    "seeds": "Seeds",
    "runs": "Runs",
    "images": "Images",
    "standard": "Standard %",
    "standard_to_paper": "Standard − paper",
    "attack_robust": "Attack-robust %",
    "ibp_verified": "IBP %",
    "crown_verified": "CROWN %",
    "alpha_crown_verified": "α-CROWN %",
    "verified": "Verified %",
    "verified_to_paper": "Verified − paper",
    "as_deployed": "As deployed %",
    "with_abcrown": "… or by α,β-CROWN %",
    "tied_as_deployed": "Tied as deployed %",
    "robust": "Robust %",
    "undecided": "Undecided",
    "source": "Source",
    "seconds": "Seconds",
    "mean_seconds": "Mean s",
    "most_seconds": "Most s",
}
"""Columns by name, in their order. Settings of trainings are columns named by their keys, verdicts
of other tools columns named by the tool."""

_TO_PAPER = "{} less the published one of that method, whose network may differ"

MEANINGS = {
    **PERCENTAGES,
    "robust": "verified, to not falsified by any stage: no method can verify more",
    "standard_to_paper": _TO_PAPER.format("standard accuracy"),
    "verified_to_paper": _TO_PAPER.format("verified accuracy"),
}

TEXTS = (
    *("network", "method", "architecture", "data_set", "split", "epsilon", "asked"),
    *("settings", "places", "file", "source"),
)
_FACTS = (*TEXTS, "alpha", "sabr_lambda", "seed")
_SECONDS = ("seconds", "mean_seconds", "most_seconds")
_UNCHECKED = "†: published, but not yet compared with the paper's own table."


@dataclass(frozen=True)
class Layout:
    """What a table of results shows.

    Attributes:
        by: what rows are grouped by; empty: runs make one row if only their seeds differ.
        columns: which, in this order; empty: those that say something.
        literature: whether published results on the same data and ε are rows, too, and differences
            to them columns.
        others: verdicts of other tools on the same images, a column each.
    """

    by: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    literature: bool = False
    others: tuple[OtherVerdicts, ...] = field(default=())


PLAIN = Layout()
"""All columns, no literature."""


@dataclass(frozen=True)
class _Line:
    """A row: its cells by column, its own figures, and the question and images that they are of."""

    cells: Mapping[str, Cell]
    figures: Mapping[str, float] = field(default_factory=dict)
    compared: tuple[object, ...] = ()


def result_table(summaries: Sequence[Summary], layout: Layout = PLAIN) -> Table:
    """The table of some runs, without seconds.

    Args:
        summaries: the runs, at least one.
        layout: what it shows.

    Raises:
        ConfigError: a name in ``by`` or ``columns`` is unknown.
        DataError: verdicts of another tool are not of the images, or may be of several runs.
    """
    check_meant(summaries, layout.others)
    _refuse_own_names(layout.others)
    rows = results(summaries, layout.by)
    papers = published_for(_questions(summaries)) if layout.literature else ()
    lines = [_own(row, papers, layout) for row in rows] + [_quoted(paper) for paper in papers]
    names = _names(lines)
    told = [*notes(summaries), *(f"Undecided: {reason}." for reason in reasons(summaries))]
    told += agreement(summaries, layout.others) + _averaged(rows) + differences(paired(summaries))
    told += [_UNCHECKED] if any(not paper.checked for paper in papers) else []
    sources = (*("" for _ in rows), *(paper.source for paper in papers))
    cells = tuple(
        tuple(line.cells.get(name, Cell(MISSING)) for name in names) for line in _marked(lines)
    )
    table = Table(tuple(map(_column, names)), cells, notes=tuple(told), sources=sources)
    if not layout.columns:
        return table
    chosen = _chosen(layout.columns, names)
    return lifted(table, chosen).only(chosen)


def with_seconds(table: Table, summaries: Sequence[Summary], by: Sequence[str] = ()) -> Table:
    """The table with columns of seconds at the right."""
    frame = seconds_table(summaries, by)
    empty = (Cell(MISSING),) * len(_SECONDS)
    added = [
        tuple(Cell(str(value)) for value in line)
        for line in frame[list(_SECONDS)].itertuples(index=False)
    ]
    added += [empty] * (len(table.rows) - len(added))
    rows = tuple((*row, *cells) for row, cells in zip(table.rows, added, strict=True))
    return replace(table, columns=(*table.columns, *map(_column, _SECONDS)), rows=rows)


def _refuse_own_names(others: Iterable[OtherVerdicts]) -> None:
    """Refuse another tool that is called as a column of the table is."""
    own = {*HEADINGS, *HEADINGS.values(), *(text.removesuffix(" %") for text in HEADINGS.values())}
    for other in others:
        if other.name in own or other.name.startswith("train."):
            raise DataError(
                f"verdicts of {other.name}",
                expected="a name that no column of the table has",
                got=other.name,
                remedy="Type the tool's name: --verdicts-of NAME=FILE.",
            )


def _averaged(rows: Sequence[ResultRow]) -> list[str]:
    """A note on what differs among the runs of a row besides their seeds."""
    names = dict.fromkeys(name for row in rows for name in row.group.averaged)
    words = ", ".join(HEADINGS.get(name, name.removeprefix("train.")) for name in names)
    return [f"Rows are means over runs that differ in {words}, too."] if names else []


def _own(row: ResultRow, papers: Sequence[Published], layout: Layout) -> _Line:
    """The line of an own result."""
    runs = row.group.summaries
    cells = {name: _fact(value) for name, value in row.keys.items() if value != ""}
    if row.group.seeds is not None:
        cells["seeds"] = Cell(str(row.group.seeds))
    if len(runs) not in (1, row.group.seeds):
        cells["runs"] = Cell(str(len(runs)))
    cells["images"] = Cell(_images(row))
    figures = {name: row.shares[name].value for name in WITH_INTERVALS if name in row.shares}
    cells |= {name: _share(share, name) for name, share in row.shares.items() if _says(row, name)}
    cells["robust"] = _robust(row)
    if row.undecided is not None:
        whole = float(row.undecided).is_integer()
        cells["undecided"] = Cell(f"{row.undecided:.{0 if whole else 1}f}")
    for other in layout.others:
        share = verified_by(other, row)
        cells[other.name] = Cell(MISSING) if share is None else _share(share, "")
    paper = next((paper for paper in papers if _is_of(row, paper)), None)
    if paper is not None:
        for name, published in (("standard", paper.standard), ("verified", paper.verified)):
            if name in figures:
                cells[f"{name}_to_paper"] = Cell(_signed(figures[name] - published))
    return _Line(cells, figures, (*row.question, row.group.images))


def _quoted(paper: Published) -> _Line:
    """The line of a published result."""
    mark = "" if paper.checked else "†"
    facts = {
        "method": paper.method,
        "architecture": paper.network,
        "data_set": paper.data,
        "split": "test",
        "epsilon": epsilon_text(paper.epsilon),
        "source": paper.source,
    }
    cells = {name: Cell(text) for name, text in facts.items()}
    cells |= {name: Cell(f"{getattr(paper, name):.2f}{mark}") for name in WITH_INTERVALS}
    return _Line(cells)


def _says(row: ResultRow, name: str) -> bool:
    """Whether a percentage is more than a column of zeros that nobody asked for."""
    runs = row.group.summaries
    if name == "tied_as_deployed":
        return any(run.tally.tied for run in runs)
    return name != "robust_at_most"


def _questions(summaries: Iterable[Summary]) -> list[tuple[str, float | None]]:
    """Data sets and ε to which published results belong."""
    return [
        (summary.info.run.data_set, summary.info.epsilon)
        for summary in summaries
        if summary.info.run.split == "test" and not asked_text(summary.info)
    ]


def _is_of(row: ResultRow, paper: Published) -> bool:
    question = (paper.data, "test", epsilon_text(paper.epsilon), "")
    return (row.keys.get("method"), row.question) == (paper.method, question)


def _names(lines: Sequence[_Line]) -> list[str]:
    """The columns that some line fills, in order; settings follow the facts of a network."""
    filled = dict.fromkeys(name for line in lines for name in line.cells)
    always = {"standard", "attack_robust", "ibp_verified", "crown_verified"}
    always |= {"alpha_crown_verified", "verified", "robust", "undecided"}
    known = [name for name in HEADINGS if name in filled or name in always]
    settings = [name for name in filled if name.startswith("train.")]
    tools = [name for name in filled if name not in HEADINGS and name not in settings]
    place = known.index("data_set") if "data_set" in known else 0
    named = [*known[:place], *settings, *known[place:]]
    place = named.index("robust")
    return [*named[:place], *tools, *named[place:]]


def _chosen(columns: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    for column in columns:
        if column not in names:
            raise ConfigError(
                f"column {column!r}", expected=f"some of {', '.join(names)}", got=column
            )
    return columns


def _marked(lines: Sequence[_Line]) -> list[_Line]:
    """The lines, with the best figure of each column among own results on the same question."""
    figures: dict[tuple[object, ...], list[float]] = {}
    for line in lines:
        for name, figure in line.figures.items():
            figures.setdefault((name, *line.compared), []).append(round(figure, 2))
    marked = []
    for line in lines:
        cells = dict(line.cells)
        for name, figure in line.figures.items():
            rivals = figures[name, *line.compared]
            if len(rivals) > 1 and round(figure, 2) == max(rivals):
                cells[name] = replace(cells[name], best=True)
        marked.append(replace(line, cells=cells))
    return marked


def _column(name: str) -> Column:
    heading = HEADINGS.get(name, name.removeprefix("train."))
    if name not in HEADINGS and not name.startswith("train."):
        heading, meaning = f"{name} %", f"verified by {name}"
    else:
        meaning = MEANINGS.get(name, "")
    is_fact = name in _FACTS or name.startswith("train.")
    return Column(name, heading, meaning, is_text=name in TEXTS, is_fact=is_fact)


def _fact(value: object) -> Cell:
    if value is None:
        return Cell(MISSING)
    if isinstance(value, tuple):
        return Cell(one_line(", ".join(map(str, value))))
    return Cell(f"{value:g}" if isinstance(value, float) else one_line(str(value)))


def _share(share: Share, name: str) -> Cell:
    text = f"{share.value:.2f}"
    if share.deviation is not None:
        return Cell(f"{text} ± {share.deviation:.2f}")
    if name in WITH_INTERVALS:
        return Cell(f"{text} [{share.low:.1f}, {share.high:.1f}]", short=text)
    return Cell(text)


def _robust(row: ResultRow) -> Cell:
    if "verified" not in row.shares:
        return Cell(MISSING)
    least, most = (f"{row.shares[name].value:.2f}" for name in ("verified", "robust_at_most"))
    return Cell(least if least == most else f"[{least}, {most}]")


def _images(row: ResultRow) -> str:
    runs = row.group.summaries
    if row.requested is None:
        return f"{row.images} of ?"
    unfinished = any(run.missing for run in runs)
    return f"{row.images} of {row.requested}" if unfinished else str(row.images)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")

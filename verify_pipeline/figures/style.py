"""How every figure looks: sizes, fonts, colours, markers, dashes.

Figures are read in colour, in grey, and by people who confuse colours: each series has a marker and
a dash of its own besides its colour. Colours are those of Okabe and Ito (2008), "Color Universal
Design", without the yellow, which vanishes on white paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, get_args

from verify_pipeline.errors import ConfigError, DependencyError

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

Width = Literal["column", "page"]
INCHES: dict[Width, float] = {"column": 3.25, "page": 6.75}
"""Widths of a paper's column and of its page."""

FONT, SMALL = 8, 7
"""Sizes of text in points; the small one is that of numbers beside points."""

HANDLE = 30
"""Width of a legend's line or patch with its gap, in points."""

INK, SOFT = "#000000", "#808080"
"""Text and axes; grid and frames. The page of a report replaces the ink by its own text colour."""

COLOURS = ("#0072B2", "#D55E00", "#000000", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "solid",
    (0, (5.0, 1.5)),
    (0, (1.0, 1.2)),
    (0, (6.0, 1.5, 1.0, 1.5)),
    (0, (3.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
)
VERIFIED, FALSIFIED, OPEN = COLOURS[0], COLOURS[1], "#CCCCCC"
"""Colours of verdicts: a dark one, one that is hatched, and a light one."""

MISSING = "\N{REPLACEMENT CHARACTER}"
"""What stands where the font has no glyph."""

HATCHES = {VERIFIED: "", FALSIFIED: "////", OPEN: ""}

_STYLE: Any = {  # matplotlib types its keys one by one
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "figure.titlesize": FONT,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": SOFT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
    "hatch.color": INK,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "verify_pipeline",
}


@dataclass(frozen=True)
class SeriesStyle:
    """What one series is drawn with.

    Attributes:
        color: hexadecimal.
        marker: of its points, in matplotlib's letters.
        dash: of its line, in matplotlib's form.
    """

    color: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]


def series_style(place: int) -> SeriesStyle:
    """The style of the series at a place, counted from 0; no two of the first 420 are the same.

    The first 12 have different markers.
    """
    return SeriesStyle(
        COLOURS[place % len(COLOURS)],
        MARKERS[place % len(MARKERS)],
        DASHES[place % len(DASHES)],
    )


def checked_width(width: str) -> Width:
    """The width by its name.

    Raises:
        ConfigError: there is no such width.
    """
    for known in get_args(Width):
        if width == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError("figure's width", expected=" or ".join(INCHES), got=repr(width))


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib's defaults with this style, whatever the user's settings; as before afterwards.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise DependencyError(
            "matplotlib is not installed",
            remedy="Install it with: pip install 'verify_pipeline[plots]'",
        ) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: Width, height: float) -> Figure:
    """An empty figure, laid out so that nothing overlaps.

    Args:
        width: of a column or a page.
        height: in inches, without the legend, which :func:`legend_below` adds.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES[width], height), layout="constrained")
    figure.patch.set_facecolor("white")
    return figure


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put a legend under the figure, in as many columns as fit; the figure becomes higher."""
    if not handles:
        return
    room = figure.get_figwidth() * 72 - 8 - HANDLE
    shown = [wrapped(label, room) for label in labels]
    widest = max(text_width(line) for text in shown for line in text.split("\n")) + HANDLE + 8
    columns = max(1, min(len(shown), int((room + HANDLE + 8) // widest)))
    rows = ceil(len(shown) / columns)
    columns = ceil(len(shown) / rows)
    lines = rows * max(text.count("\n") + 1 for text in shown)
    figure.set_figheight(figure.get_figheight() + (lines * 11.6 + 6) / 72)
    figure.legend(handles, shown, loc="outside lower center", ncols=columns)


def wrapped(text: str, points: float) -> str:
    """A text in one line or two that are at most so many points wide, shortened if need be."""
    words = plain(text).split()
    if text_width(" ".join(words)) <= points:
        return " ".join(words)
    fitting = [n for n in range(1, len(words)) if text_width(" ".join(words[:n])) <= points]
    if not fitting:
        return _cut(" ".join(words), points)
    first, second = " ".join(words[: fitting[-1]]), " ".join(words[fitting[-1] :])
    return f"{first}\n{_cut(second, points)}"


def shortened(text: str, points: float) -> str:
    """A text that is at most so many points wide: what is in its middle gives way to "…"."""
    return _cut(plain(text), points)


def _cut(text: str, points: float) -> str:
    if text_width(text) <= points:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = (kept + 1) // 2
        short = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
        if text_width(short) <= points:
            return short
    return "…"


def plain(text: str) -> str:
    """A text that matplotlib shows as it is: ``$`` begins no formula, and it has one line.

    Characters that the font does not have become "�".
    """
    known = _characters()
    shown = (each if ord(each) in known else MISSING for each in " ".join(text.split()))
    return "".join(shown).replace("$", r"\$")


def has_all(text: str) -> bool:
    """Whether the figures' font has every character of a text."""
    return _characters().issuperset(map(ord, " ".join(text.split())))


def whole_numbers(axis: Axis) -> None:
    """Let an axis of counts have ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))


def _font() -> FT2Font:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties(family="DejaVu Sans")))


@cache
def _characters() -> frozenset[int]:
    return frozenset(_font().get_charmap())


def text_width(text: str) -> float:
    """Width of a text in points, in the figures' font and size."""
    font = _font()
    font.set_size(FONT, 72)
    font.set_text(text.replace(r"\$", "$"), 0.0)
    return float(font.get_width_height()[0]) / 64

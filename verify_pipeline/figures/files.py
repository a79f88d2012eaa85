"""Figures as files, and as SVG text that stands in an HTML page.

The same figure gives the same bytes: no dates, no random ids. The command that made a file is in
its metadata.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from verify_pipeline._version import __version__
from verify_pipeline.atomic_write import write_all
from verify_pipeline.errors import ConfigError
from verify_pipeline.figures.style import INK, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("pdf", "svg", "png")

_MAKER = f"verify_pipeline {__version__}"


def save_figure(
    figure: Figure,
    path: Path | str,
    formats: Sequence[str] = (),
    *,
    title: str = "",
    command: str = "verify_pipeline.api.save_figure",
) -> tuple[Path, ...]:
    """Write a figure as PDF, SVG or PNG; fonts are embedded.

    Args:
        figure: of this package or any other.
        path: with one of these endings; without it if ``formats`` are given.
        formats: names of :data:`FORMATS`, each of which becomes an ending; empty: as ``path`` says.
        title: stands in the files' metadata.
        command: what makes the files; it stands there, too.

    Returns:
        The files' paths.

    Raises:
        ConfigError: a format is unknown.
        DataError: a file cannot be written; then none is.
        DependencyError: matplotlib is not installed.
    """
    path = Path(path)
    names = tuple(dict.fromkeys(formats)) or (path.suffix.removeprefix(".").lower(),)
    check_formats(names)
    ends = [path.with_name(f"{path.name}.{name}") for name in names] if formats else [path]
    contents: dict[Path, str | bytes] = {
        end: _content(figure, name, _metadata(name, title, command))
        for end, name in zip(ends, names, strict=True)
    }
    return write_all(contents)


def check_formats(names: Sequence[str]) -> None:
    """Refuse formats that there are not.

    Raises:
        ConfigError: a name is unknown, or there is none.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "none"
        raise ConfigError("figure's format", expected=" or ".join(FORMATS), got=got)


def inline_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """A figure as an ``<svg>`` element for an HTML page, without anything that is outside of it.

    The background is transparent and the ink is the page's text colour, so that the figure can be
    read on light and on dark pages. It shrinks with its container.

    Args:
        figure: to be shown.
        name: begins every id in the element; unique on the page.
        title: what the figure is, for screen readers.
        description: what it shows, for screen readers.

    Raises:
        ConfigError: ``name`` is not a letter followed by letters, digits and hyphens.
        DependencyError: matplotlib is not installed.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise ConfigError("name of an inline figure", expected="letters and digits", got=repr(name))
    root = ET.fromstring(_content(figure, "svg", {"Date": None}, transparent=True))
    for element in root.iter():
        _localise(element, name)
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag in ("metadata", "style")]:
            parent.remove(child)
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    root.attrib |= {
        "xmlns": "http://www.w3.org/2000/svg",
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-desc",
        "width": f"{float(width) * 4 / 3:g}",
        "height": f"{float(height) * 4 / 3:g}",
        "fill": "currentColor",
        # what matplotlib's style sheet says, which would reach the whole page
        "style": "stroke-linejoin: round; stroke-linecap: butt; max-width: 100%; height: auto",
    }
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")


def _content(
    figure: Figure, name: str, metadata: dict[str, str | None], *, transparent: bool = False
) -> bytes:
    out = io.BytesIO()
    with styled():
        figure.savefig(out, format=name, metadata=metadata, transparent=transparent)
    return out.getvalue()


def _metadata(name: str, title: str, command: str) -> dict[str, str | None]:
    """Title, program and command in the keys of a format; dates are left out."""
    made = f"Made by: {command}"
    if name == "pdf":
        return {"Title": title, "Subject": made, "Creator": _MAKER, "CreationDate": None}
    if name == "svg":
        return {"Title": title, "Description": made, "Creator": _MAKER, "Date": None}
    return {"Title": title, "Description": made, "Software": _MAKER}


def _localise(element: ET.Element, name: str) -> None:
    """Drop namespaces, prefix ids and references to them, and let the page choose the ink."""
    element.tag = element.tag.rpartition("}")[2]
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        local = key.rpartition("}")[2]
        if local == "id":
            value = f"{name}-{value}"
        elif local == "href":
            value = value.replace("#", f"#{name}-", 1)
        value = re.sub(r"url\(#", f"url(#{name}-", value)
        element.attrib[local] = value.replace(INK, "currentColor")

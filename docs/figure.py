"""The figure of the README, made from ``results/against_abcrown.json``.

``python docs/figure.py`` writes ``docs/decided.svg``: the share of instances that each verifier has
decided within so many seconds per instance. It needs nothing but Python, and draws in black and
grey, so that it can be read in print.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA, FIGURE = ROOT / "results" / "against_abcrown.json", ROOT / "docs" / "decided.svg"

LEAST, MOST = 1e-4, 60.0
"""Seconds at the ends of the horizontal axis; less than the least is drawn there."""

DECIDED = ("verified", "falsified")


@dataclass(frozen=True)
class Curve:
    """How a verifier is drawn: its key in the data, its name, and its SVG style."""

    key: str
    name: str
    style: str


CURVES = (
    Curve("cascade", "verify_pipeline", 'stroke="#000" stroke-width="2"'),
    Curve(
        "abcrown-tuned",
        "α,β-CROWN 0.7.0, tuned",
        'stroke="#777" stroke-width="2" stroke-dasharray="7 4"',
    ),
)


@dataclass(frozen=True)
class Panel:
    """One plot: a title, the tasks whose names begin so, and its left edge."""

    title: str
    tasks: tuple[str, ...]
    left: int


WIDTH, HEIGHT, TOP = 300, 200, 44
PANELS = (
    Panel("trained for certification", ("mnist-0.1", "cifar10-2-255"), 60),
    Panel("VNN-COMP 2021 and 2022", ("2021", "2022"), 430),
)


def seconds(data: dict[str, Any], tasks: Sequence[str], key: str) -> tuple[list[float], int]:
    """The seconds of each decided instance, in order, and how many instances there are."""
    chosen = [runs[key]["answers"] for task, runs in data.items() if task.startswith(tuple(tasks))]
    answers = [answer for each in chosen for answer in each.values()]
    return sorted(spent for verdict, spent in answers if verdict in DECIDED), len(answers)


def _across(panel: Panel, spent: float) -> float:
    share = math.log(max(spent, LEAST) / LEAST) / math.log(MOST / LEAST)
    return panel.left + WIDTH * min(share, 1.0)


def _down(share: float) -> float:
    return TOP + HEIGHT * (1 - share)


def _steps(panel: Panel, spent: Sequence[float], instances: int) -> str:
    """A staircase, one corner for each half pixel at most."""
    corners = {round(_across(panel, s) * 2) / 2: n / instances for n, s in enumerate(spent, 1)}
    path, height = f"M{panel.left} {_down(0):.1f}", 0.0
    for across, share in corners.items():
        path += f"H{across:g}V{_down(share):.1f}"
        height = share
    return f"{path}V{_down(height):.1f}H{panel.left + WIDTH}"


def _text(x: float, y: float, text: str, more: str = 'text-anchor="middle"') -> str:
    return f'<text x="{x:g}" y="{y:g}" {more}>{text}</text>'


def _axes(panel: Panel, instances: int) -> Iterator[str]:
    right, bottom = panel.left + WIDTH, TOP + HEIGHT
    yield _text(panel.left + WIDTH / 2, TOP - 12, f"{panel.title}: {instances:,} instances")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _down(share)
        yield f'<path d="M{panel.left} {y:g}H{right}" stroke="#ddd"/>'
        yield _text(panel.left - 6, y + 4, f"{share:.0%}", 'text-anchor="end"')
    for spent in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 60.0):
        x = _across(panel, spent)
        yield f'<path d="M{x:g} {bottom}v5" stroke="#000"/>'
        yield _text(x, bottom + 18, f"{spent:g}" if spent >= 1e-3 else "0.0001")
    yield f'<path d="M{panel.left} {TOP}V{bottom}H{right}" stroke="#000" fill="none"/>'
    yield _text(panel.left + WIDTH / 2, bottom + 36, "seconds for one instance")


def figure(data: dict[str, Any]) -> str:
    """The SVG file's text."""
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 320" width="760" height="320"'
        ' font-family="sans-serif" font-size="12">',
        "<title>Share of instances decided within a time</title>",
        '<rect width="760" height="320" fill="#fff"/>',
    ]
    for panel in PANELS:
        drawn = []
        for curve in CURVES:
            spent, instances = seconds(data, panel.tasks, curve.key)
            path = _steps(panel, spent, instances)
            drawn.append(f'<path d="{path}" fill="none" {curve.style}/>')
        lines += [*_axes(panel, instances), *drawn]
    for place, curve in enumerate(CURVES):
        x, y = 200 + 190 * place, 308
        lines.append(f'<path d="M{x} {y - 4}h36" fill="none" {curve.style}/>')
        lines.append(_text(x + 42, y, curve.name, ""))
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FIGURE.write_text(figure(json.loads(DATA.read_text(encoding="utf-8"))), encoding="utf-8")

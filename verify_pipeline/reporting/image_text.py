"""What a ledger knows of one image, as lines of text."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime

from torch import Tensor

from verify_pipeline.certify.records import Record
from verify_pipeline.problem import Status
from verify_pipeline.reporting.facts import epsilon_text
from verify_pipeline.reporting.image_details import Change, ImageRow

LINE = 80
"""Columns of a line of facts."""

WIDTH = 14
"""Columns of the names of facts."""

MOST_OUTPUTS = 10
"""Outputs that are listed, the largest first."""

NOTHING = "–"


def rows_as_lines(rows: Sequence[ImageRow]) -> list[str]:
    """A table with one line for each run that has a verdict on an image."""
    heading = ("run", "network", "box", "verdict", "stage", "bound", "seconds")
    cells = [heading]
    for row in rows:
        record = row.record
        bound, seconds = _short(record.bound), f"{record.seconds:.3g}"
        name, box = row.info.network_name, _box(row)
        cells.append((str(row.number), name, box, _verdict(record), record.stage, bound, seconds))
    widths = [max(len(line[n]) for line in cells) for n in range(len(heading))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def row_as_lines(row: ImageRow) -> list[str]:
    """Everything that a run says of an image, but for its counterexample."""
    record, run = row.record, row.info.run
    label = NOTHING if record.label is None else str(record.label)
    decided = datetime.fromtimestamp(record.decided_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    facts = {
        "image": f"{record.index} of {run.data_set} {run.split}, label {label}",
        "network": f"{row.info.network_name} (SHA-256 {run.network[:12]}…)",
        "box": _box(row),
        "specification": run.specification,
        "preprocessing": run.perturbation.partition("; ")[2] or "none",
        "arithmetic": f"every evaluation in {row.info.arithmetic}" if row.info.arithmetic else "",
        "run": f"{row.number} in the ledger, settings {run.settings}",
        "verdict": _verdict(record),
        "reason": "" if record.reason is None else record.reason.value,
        "stage": record.stage,
        "bound": "" if record.bound is None else f"{record.bound:.6g} (of the least margin)",
        "detail": record.detail,
        "seconds": f"{record.seconds:.4g} in {_counted(record.attempts, 'attempt')}, "
        f"{record.timeout:g} allowed",
        "decided": decided,
        "versions": record.versions,
        "replaced": f"{_counted(row.replaced, 'verdict')} of other images that stood here"
        if row.replaced
        else "",
    }
    lines = [_fact(name, value) for name, value in facts.items() if value]
    return [*lines, "", *_stages(record)]


def _stages(record: Record) -> list[str]:
    """One line for each stage that saw the image."""
    if not record.stages:
        return ["stages: not noted, the ledger is of an older version"]
    lines = [f"{'stage':<18}{'seconds':>10}{'bound':>14}"]
    for each in record.stages:
        lines.append(f"{each.stage:<18}{each.seconds:>10.4f}{_short(each.bound):>14}")
    return lines


def counterexample_as_lines(row: ImageRow, change: Change | None) -> list[str]:
    """The counterexample of a row; nothing if it has none.

    Args:
        row: of the image.
        change: how it differs from the image; None: the image is not known.
    """
    found, record = row.counterexample, row.record
    if found is None:
        return []
    lines = [_fact("counterexample", f"SHA-256 {record.counterexample}, margin {found.margin:.6g}")]
    lines += outputs_as_lines(found.output, record.label, "  outputs")
    if change is None:
        return lines
    width = row.info.epsilon
    within = "" if width is None else f" (ε = {width:.6g})"
    lines.append(_fact("  distance", f"L∞ {change.distance:.6g}{within}"))
    most = ", the most:" if change.largest else ": it is the image itself"
    lines.append(_fact("  changed", f"{change.changed} of {change.pixels} pixels{most}"))
    for pixel in change.largest:
        place = ", ".join(map(str, pixel.place))
        values = f"{pixel.before:.4f} → {pixel.after:.4f} ({pixel.change:+.4f})"
        lines.append(_fact("", f"[{place}]  {values}"))
    return lines


def outputs_as_lines(outputs: Tensor, label: int | None, name: str) -> list[str]:
    """The predicted class and the largest outputs, on two lines.

    Args:
        outputs: K numbers.
        label: the right class; None: there is none.
        name: of the fact.
    """
    order = outputs.double().argsort(descending=True, stable=True).tolist()
    shown = order[:MOST_OUTPUTS]
    if label is not None and label < len(order) and label not in shown:
        shown.append(label)
    values = [f"{place}: {float(outputs[place]):.5g}" for place in shown]
    more = [f"… {len(order) - len(shown)} more"] if len(order) > len(shown) else []
    lines = [_fact(name, ", ".join([*values, *more]))]
    if label is None or label >= len(order):
        return lines
    predicted = predicted_class(outputs, label)
    wrong = "" if predicted == label else f" instead of {label}"
    return [_fact("  predicted", f"class {predicted}{wrong}"), *lines]


def caption_title(row: ImageRow) -> list[str]:
    """Two lines about an image and its verdict, for a figure."""
    run = row.info.run
    where = f"{row.info.network_name}, {run.data_set} {run.split}, image {row.record.index}"
    return [where, f"{_box(row)}: {_verdict(row.record)} by {row.record.stage}"]


def caption_lines(outputs: Tensor, label: int | None) -> list[str]:
    """The predicted class and the margin of the label, for a figure; nothing without a label."""
    if label is None or label >= len(outputs):
        return []
    others = [place for place in range(len(outputs)) if place != label]
    margin = float(outputs[label].double() - outputs[others].double().max())
    return [f"predicted {predicted_class(outputs, label)}, margin {margin:.3g}"]


def predicted_class(outputs: Tensor, label: int) -> int:
    """The class with the largest output; a tie with the label counts as the other class."""
    order = outputs.double().argsort(descending=True, stable=True).tolist()
    first = next((place for place in order if place != label), label)
    return label if float(outputs[label]) > float(outputs[first]) else int(first)


def _verdict(record: Record) -> str:
    if record.reason is not None:
        return f"{record.status.value} ({record.reason.name.lower()})"
    if record.tied:
        return f"{record.status.value}, but tied as deployed"
    if record.status is Status.FALSIFIED and record.stage == "clean":
        return f"{record.status.value} (misclassified as it is)"
    return record.status.value


def _box(row: ImageRow) -> str:
    width = epsilon_text(row.info.epsilon)
    box = row.info.run.perturbation.partition("; ")[0]
    return f"L∞, ε = {width}" if width else box


def _short(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.4g}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _fact(name: str, value: str) -> str:
    """A fact with its name, on as many lines as it needs; numbers stay behind their words."""
    kept = re.sub(r" (?=[-+\d])", "\u00a0", value)
    wide = LINE - WIDTH - 2
    lines = textwrap.wrap(kept, wide, break_long_words=False, break_on_hyphens=False) or [""]
    indent = "\n" + " " * (WIDTH + 2)
    return f"{name:<{WIDTH}}  {indent.join(lines)}".replace("\u00a0", " ").rstrip()

"""The gallery: which images are shown, and what stands beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from torch import Tensor

from verify_pipeline.certify.records import Record
from verify_pipeline.certify.stage_verdicts import DECIDES
from verify_pipeline.certify.tally import Summary
from verify_pipeline.page.embedded import EmbeddedPicture, embedded
from verify_pipeline.page.evidence import RunEvidence
from verify_pipeline.page.numbers import number_text, seconds_text
from verify_pipeline.problem import Status
from verify_pipeline.reporting.facts import epsilon_text
from verify_pipeline.reporting.pictures import pictures_of


@dataclass(frozen=True)
class Gallery:
    """The images that a page shows.

    Attributes:
        counterexamples: of images that are classified rightly as they are; each stage in turn, in
            the order of the data set, so that no stage's finds are left out and none are picked.
        hardest: verified images, those of the last stage first; in a stage, those whose search
            needed the most domains, then those with the least bound. Seconds say little: images
            share those of their batch.
        open: images that no stage decided, those with the greatest bound first.
    """

    counterexamples: tuple[Record, ...]
    hardest: tuple[Record, ...]
    open: tuple[Record, ...]

    @property
    def all(self) -> tuple[Record, ...]:
        """Every image."""
        return self.counterexamples + self.hardest + self.open


@dataclass(frozen=True)
class Exhibit:
    """An image of the gallery.

    Attributes:
        image: its place in the data set.
        heading: one line.
        pictures: none if its pixels are unknown.
        facts: what is known of it: names, and values of one line or more.
    """

    image: int
    heading: str
    pictures: tuple[EmbeddedPicture, ...]
    facts: tuple[tuple[str, str], ...]


def chosen(summary: Summary, count: int) -> Gallery:
    """The images of a run that are shown.

    Args:
        summary: the run.
        count: of each kind, at most.
    """
    broken: dict[str, list[Record]] = {}
    for record in summary.records:
        if record.status is Status.FALSIFIED and record.stage != "clean":
            broken.setdefault(record.stage, []).append(record)
    in_turn = [each for each in chain(*zip_longest(*broken.values())) if each is not None]
    verified = [record for record in summary.records if record.status is Status.VERIFIED]
    verified.sort(key=_ease)
    unknown = [record for record in summary.records if record.status is Status.UNKNOWN]
    unknown.sort(key=lambda record: (-_bound(record), record.index))
    return Gallery(tuple(in_turn[:count]), tuple(verified[:count]), tuple(unknown[:count]))


def exhibits(records: Sequence[Record], evidence: RunEvidence) -> tuple[Exhibit, ...]:
    """Images of the gallery with their pictures and facts."""
    return tuple(_exhibit(record, evidence) for record in records)


def _exhibit(record: Record, evidence: RunEvidence) -> Exhibit:
    facts = tuple((name, value) for name, value in _facts(record, evidence) if value)
    heading = _heading(record, evidence)
    return Exhibit(record.index, heading, _pictures(record, evidence), facts)


def _heading(record: Record, evidence: RunEvidence) -> str:
    names = evidence.classes
    of = "" if names.names else "class "
    label = "" if record.label is None else f": {of}{names.of(record.label)}"
    other = evidence.answers.get(record.index)
    return f"Image {record.index}{label}" + ("" if other is None else f" → {names.of(other)}")


def _facts(record: Record, evidence: RunEvidence) -> Iterator[tuple[str, str]]:
    outputs = evidence.outputs.get(record.index)
    if outputs is not None and record.label is not None:
        yield "Clean margin", number_text(_margin(outputs, record.label))
    if record.margin is not None:
        yield "Adversarial margin", number_text(record.margin)
    if record.status is not Status.FALSIFIED:
        yield "Lower bound", "none" if record.bound is None else number_text(record.bound)
    threat = evidence.threats.get(record.index)
    if threat is not None:
        yield "Threatened by", evidence.classes.of(threat)
    by = "Last stage" if record.status is Status.UNKNOWN else "Decided by"
    yield by, record.stage
    if record.reason is not None:
        yield "Reason", record.reason.value
    yield "Detail", record.detail
    yield "Seconds", seconds_text(record.seconds)
    yield "Bounds by stage", _bounds(record)


def _bounds(record: Record) -> str:
    """The bound of each stage that has one, where there are several."""
    told = [f"{each.stage} {number_text(each.bound)}" for each in record.stages if each.bound]
    return "\n".join(told) if len(told) > 1 else ""


def _margin(outputs: Tensor, label: int) -> float:
    """The least margin ``f_y - f_j`` of outputs ``K``."""
    others = outputs.double().clone()
    others[label] = -math.inf
    return float(outputs.double()[label] - others.max())


def _bound(record: Record) -> float:
    return -math.inf if record.bound is None else record.bound


def _ease(record: Record) -> tuple[int, int, float, int]:
    """Ascends from the hardest proof to the easiest."""
    searched = re.search(r"\b(\d+) (?:domain|part)", record.detail)
    bound = math.inf if record.bound is None else record.bound
    domains = int(searched[1]) if searched else 0
    return -tuple(DECIDES).index(record.stage), -domains, bound, record.index


def _pictures(record: Record, evidence: RunEvidence) -> tuple[EmbeddedPicture, ...]:
    pixels = evidence.pixels.get(record.index)
    if pixels is None:
        return ()
    found = evidence.counterexamples.get(record.index)
    made = pictures_of(pixels, None if found is None else found.input)
    of_class = "" if record.label is None else f" of class {evidence.classes.of(record.label)}"
    name = f"Image {record.index}{of_class}"
    shown = [embedded(made.image, f"{name}, as it is", "" if found is None else "image")]
    answer = evidence.answers.get(record.index)
    taken = "" if answer is None else f"; the network answers class {evidence.classes.of(answer)}"
    width = epsilon_text(evidence.summary.info.epsilon)
    within = f"; no pixel changes by more than {width}" if width else ""
    if made.difference is not None:
        times = f"{made.factor:.0f}" if made.factor >= 10 else f"{made.factor:.2g}"
        about = f"{name}: what the counterexample changes, {times} times as large{within}"
        shown.append(embedded(made.difference, about, f"difference ×{times}"))
    if made.adversarial is not None:
        about = f"{name}: its counterexample{taken}"
        shown.append(embedded(made.adversarial, about, "adversarial"))
    return tuple(shown)

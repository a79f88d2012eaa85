"""Everything that a ledger knows of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.certify.brackets import distance
from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.preprocessing import prepare
from verify_pipeline.certify.questions import preprocessing_of
from verify_pipeline.certify.records import Record, RunInfo
from verify_pipeline.errors import ConfigError, LedgerError
from verify_pipeline.problem import Counterexample, Status

MOST_CHANGED = 5
"""Pixels of a counterexample that are listed."""


@dataclass(frozen=True, eq=False)
class ImageRow:
    """The verdict on an image in one run of a ledger.

    Attributes:
        number: of the run in the ledger, counted from 1.
        info: the run.
        record: the verdict.
        counterexample: the stored one, for FALSIFIED.
        replaced: verdicts of other images that stood at this place before.
    """

    number: int
    info: RunInfo
    record: Record
    counterexample: Counterexample | None
    replaced: int = 0


@dataclass(frozen=True)
class RunChoice:
    """Which runs of a ledger are meant.

    Attributes:
        number: of the run, counted from 1; None: any.
        epsilon: of the boxes; None: any.
    """

    number: int | None = None
    epsilon: float | None = None


def image_rows(ledger: Ledger, image: int, choice: RunChoice) -> list[ImageRow]:
    """The verdicts on an image, one for each run that has one.

    Args:
        ledger: of the verdicts.
        image: its place in the data set.
        choice: which runs are meant.

    Raises:
        ConfigError: no run is meant.
        LedgerError: no such run has a verdict on the image; the message says which it has.
    """
    runs = list(enumerate(ledger.runs(), 1))
    chosen = [(number, info) for number, info in runs if _is_meant(number, info, choice)]
    if not chosen:
        raise ConfigError("run", expected=_listed(runs), got=_asked_for(choice))
    found, held = [], Extent(())
    for number, info in chosen:
        records = ledger.records(info.run)
        held = held.union(Extent.of(record.index for record in records))
        own = [record for record in records if record.index == image]
        if own:
            falsified = own[-1].status is Status.FALSIFIED
            stored = ledger.counterexample(info.run, own[-1]) if falsified else None
            found.append(ImageRow(number, info, own[-1], stored, len(own) - 1))
    if not found:
        raise LedgerError(
            f"image {image}",
            expected=f"one with a verdict: {_shortened(held.text)}" if held.spans else "verdicts",
            got="none of it in the ledger",
        )
    return found


def _is_meant(number: int, info: RunInfo, choice: RunChoice) -> bool:
    return choice.number in (None, number) and choice.epsilon in (None, info.epsilon)


def _asked_for(choice: RunChoice) -> str:
    words = [] if choice.number is None else [f"run {choice.number}"]
    return ", ".join([*words, *([] if choice.epsilon is None else [f"ε = {choice.epsilon}"])])


def _listed(runs: Sequence[tuple[int, RunInfo]]) -> str:
    words = (f"{number} ({info.run.perturbation})" for number, info in runs)
    return "one of the ledger's runs: " + _shortened(", ".join(words)) if runs else "runs"


def _shortened(text: str, length: int = 300) -> str:
    return text if len(text) <= length else f"{text[:length].rpartition(',')[0]}, …"


@dataclass(frozen=True)
class PixelChange:
    """One pixel of a counterexample.

    Attributes:
        place: its index in the image ``*X``.
        before: its value in the image.
        after: its value in the counterexample.
    """

    place: tuple[int, ...]
    before: float
    after: float

    @property
    def change(self) -> float:
        """What was added to it."""
        return self.after - self.before


@dataclass(frozen=True)
class Change:
    """How a counterexample differs from its image.

    Attributes:
        distance: L∞, rounded up.
        changed: how many pixels differ.
        pixels: how many there are.
        largest: the pixels that differ most, at most :data:`MOST_CHANGED`.
    """

    distance: float
    changed: int
    pixels: int
    largest: tuple[PixelChange, ...]


def change_of(counterexample: Counterexample, image: Tensor) -> Change:
    """How a counterexample differs from its image ``*X``."""
    before, after = image.double().flatten(), counterexample.input.double().flatten()
    sizes = (after - before).abs()
    order = sizes.argsort(descending=True, stable=True)[:MOST_CHANGED].tolist()
    largest = tuple(
        PixelChange(_place(n, tuple(image.shape)), float(before[n]), float(after[n]))
        for n in order
        if sizes[n] > 0
    )
    away = distance(counterexample.input.reshape(image.shape), image)
    return Change(away, int((sizes > 0).sum()), len(sizes), largest)


def _place(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in torch.unravel_index(torch.tensor(flat), shape))


def outputs_at(network: Certifiable, row: ImageRow, image: Tensor) -> Tensor:
    """The outputs ``K`` of the network's file at the image ``*X`` itself.

    Args:
        network: the file that the verdict is of.
        row: whose run says the preprocessing.
        image: its pixels.

    Raises:
        LedgerError: the verdict is of another file.
    """
    if network.digest != row.info.run.network:
        raise LedgerError(
            f"run {row.number}",
            expected=f"the network with SHA-256 {row.info.run.network[:12]}…",
            got=f"{network.digest[:12]}…",
            remedy="Name the file that was certified.",
        )
    preprocessing = preprocessing_of(row.info.run)
    assert preprocessing is not None  # the ledger checked the run's texts
    prepared, _ = prepare(network, preprocessing, tuple(image.shape))
    return prepared.replay(image.to(prepared.input_dtype).unsqueeze(0))[0].cpu()

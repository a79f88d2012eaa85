"""What a page shows of a run besides its verdicts: pixels, counterexamples, classes, commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from verify_pipeline.certify.tally import Summary
from verify_pipeline.page.numbers import isolated
from verify_pipeline.problem import Counterexample


@dataclass(frozen=True)
class ClassNames:
    """How classes are called.

    Attributes:
        names: by class; empty: classes are called by their numbers.
    """

    names: tuple[str, ...] = ()

    def of(self, label: int | None) -> str:
        """A class's name with its number; a dash where there is none."""
        if label is None:
            return "–"
        if not 0 <= label < len(self.names):
            return str(label)
        return f"{isolated(self.names[label])}\N{NO-BREAK SPACE}({label})"


BY_NUMBER = ClassNames()
"""Classes are called by their numbers."""


@dataclass(frozen=True, eq=False)
class RunEvidence:
    """A run with what stands behind its verdicts, as far as it was found.

    Attributes:
        summary: the run.
        answers: by falsified image, the class that the file gives at the counterexample.
        threats: by open image, the class whose margin has the least bound.
        counterexamples: by image, of those that the gallery shows.
        pixels: ``*X`` by image, of those that the gallery shows.
        outputs: ``K`` by image: the file's outputs at the image itself.
        missing: sentences on what was not found, and why.
        classes: how classes are called.
        commands: what made the run, by what it does.
        recipe: as YAML; empty: unknown.
        folder: of the run's training; None: unknown.
    """

    summary: Summary
    answers: Mapping[int, int] = field(default_factory=dict)
    threats: Mapping[int, int] = field(default_factory=dict)
    counterexamples: Mapping[int, Counterexample] = field(default_factory=dict)
    pixels: Mapping[int, Tensor] = field(default_factory=dict)
    outputs: Mapping[int, Tensor] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    classes: ClassNames = BY_NUMBER
    commands: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    folder: Path | None = None

    def __repr__(self) -> str:
        return f"RunEvidence({self.summary!r}, {len(self.pixels)} pictures)"

"""What a family of the battery gives, and what is said of each of its cases.

A *family* makes trials from a random generator. A *trial* asks the package one thing about several
cases of one network, as a user does, and judges every answer by a truth that shares no code with
the bounds. Shape letters are those of ARCHITECTURE.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[Any]
Files = Mapping[str, bytes]
"""Contents of files by their names."""


class Answer(enum.Enum):
    """What the package said of a case; its value is the table's column.

    FAILED is an exception that is none of the package's own errors.
    """

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Judged:
    """An answer and what is wrong with it.

    Attributes:
        answer: the package's.
        lie: why it is false beyond doubt; empty: it is not.
        tags: words that are counted beside the table, such as ``tiny positive verified``.
        files: with which a false case can be asked again.
    """

    answer: Answer
    lie: str = ""
    tags: tuple[str, ...] = ()
    files: Files = field(default_factory=dict)


class Trial(Protocol):
    """Cases of one network."""

    @property
    def name(self) -> str:
        """Says of which kind they are."""
        ...

    def judged(self) -> Sequence[Judged]:
        """Ask the package about every case, and judge its answers, in the cases' order."""
        ...


@dataclass(frozen=True)
class Family:
    """Trials of one kind.

    Attributes:
        name: in the table and on the command line.
        make: the trial of a number; the generator's numbers are the only chance in it, and
            numbers that follow each other go through all variants.
        share: of the whole time, in relation to the other families.
        least: trials, even if they take more than the share.
        small: trials in ``make test``.
        missing: what the package cannot be asked yet; then ``make`` is not called. Empty: nothing.
    """

    name: str
    make: Callable[[Generator, int], Trial]
    share: float
    least: int
    small: int
    missing: str = ""

    def trial(self, seed: int, number: int) -> Trial:
        """The trial of that number; the same for the same seed."""
        letters = list(self.name.encode())
        return self.make(np.random.default_rng([seed, number, *letters]), number)

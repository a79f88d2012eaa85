"""Whether results of several folders can be compared: they have to answer the same question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verify_pipeline.errors import StudyError
from verify_pipeline.reporting.facts import epsilon_text

LONGEST_PLACES = 40
"""Characters of the images' places that a message shows."""


@dataclass(frozen=True)
class Measurement:
    """How a result on test images was measured.

    Attributes:
        data_set: its name.
        epsilon: half-width of the boxes.
        images: how many.
        places: of these images in the data set, as ``0:60,70``.
        stages: of the certification, with spaces between.
        timeout: seconds that an image was allowed at most.
        settings: digest of all settings but those of time and memory.
    """

    data_set: str
    epsilon: float
    images: int
    places: str
    stages: str
    timeout: float
    settings: str

    @staticmethod
    def of(row: Mapping[str, Any]) -> Measurement:
        """The measurement that a row of a table says, see ``results.measured``; texts will do.

        Raises:
            ValueError: a text where a number belongs.
        """
        return Measurement(
            row["data_set"],
            float(row["epsilon"]),
            int(float(row["images"])),  # a column with gaps has floats
            row["places"],
            row["stages"],
            float(row["timeout"]),
            row["settings"],
        )

    @property
    def question(self) -> tuple[str, float, str]:
        """What has to be the same in two results that are compared."""
        return self.data_set, self.epsilon, self.places

    @property
    def question_shown(self) -> str:
        """The question for a reader."""
        return f"{self.images} images of {self.data_set}, ε = {epsilon_text(self.epsilon)}"

    @property
    def settings_shown(self) -> str:
        """What may differ, for a reader."""
        stages = ", ".join(self.stages.split())
        return f"{stages}; at most {self.timeout:g} s for each image; settings {self.settings}"


def one_question(measured: Sequence[tuple[Path, Measurement]]) -> str:
    """The question that all results answer, for a reader.

    Args:
        measured: folders, and how results of theirs were measured; at least one.

    Raises:
        StudyError: two results are of different images, or of different ε.
    """
    folder, first = measured[0]
    for place, other in measured[1:]:
        if other.question != first.question:
            alike = first.question_shown == other.question_shown
            whose = "one question" if place == folder else f"the question of {folder}"
            raise StudyError(
                f"folder {place}",
                expected=f"results of {whose}, {_shown(first, alike)}",
                got=_shown(other, alike),
                remedy="Only results of the same test images and the same ε can be compared.",
            )
    return first.question_shown


def _shown(measurement: Measurement, with_places: bool) -> str:
    """The question, with as much of the images' places as has room where all else is the same."""
    if not with_places:
        return measurement.question_shown
    places = measurement.places
    short = places if len(places) <= LONGEST_PLACES else f"{places[:LONGEST_PLACES]}…"
    return f"{measurement.question_shown}, places {short}"

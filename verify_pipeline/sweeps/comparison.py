"""Fronts of several methods compared: what each dominates, and what half of its seeds attain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev

import pandas as pd

from verify_pipeline.errors import ConfigError
from verify_pipeline.sweeps.comparable import one_question
from verify_pipeline.sweeps.folder_results import FolderResults, read_results
from verify_pipeline.sweeps.pareto import Point, attainment, hypervolume, pareto_front

SHARES = (0.0, 0.5, 1.0)
"""Of the repetitions whose attainment is tabulated: at least one, half, all."""


@dataclass(frozen=True)
class MethodFront:
    """One method's results on test images.

    Attributes:
        name: of the method.
        repetitions: the points of each: standard and verified accuracy, shares of the images.
        chosen_on: ``validation`` where a tuning chose the points, ``test`` where a sweep has all.
        settings: that the points were certified with, a text for each.
    """

    name: str
    repetitions: tuple[tuple[Point, ...], ...]
    chosen_on: str
    settings: tuple[str, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """The points of all repetitions."""
        return tuple(point for points in self.repetitions for point in points)

    def surface(self, share: float) -> tuple[Point, ...]:
        """What a share of the repetitions attains, see ``pareto.attainment``."""
        return attainment(self.repetitions, share)


@dataclass(frozen=True)
class FrontComparison:
    """Several methods' fronts, standard against verified accuracy on test images.

    Attributes:
        methods: in the order of the folders.
        question: that all points answer: which test images, and ε.
        reference: the point from which dominated areas are measured, shares of the images.
    """

    methods: tuple[MethodFront, ...]
    question: str
    reference: Point = (0.0, 0.0)

    def __repr__(self) -> str:
        names = ", ".join(method.name for method in self.methods)
        return f"FrontComparison({names}; reference {self.reference})"

    @cached_property
    def joint(self) -> tuple[Point, ...]:
        """The front of all methods together."""
        return pareto_front([point for method in self.methods for point in method.points])

    def to_frame(self) -> pd.DataFrame:
        """One row for each method.

        Columns: ``method``; ``repetitions`` (seeds, or tunings); ``points`` in all; ``chosen_on``:
        the images by which the points were chosen; ``hypervolume`` that a repetition dominates,
        the mean, and ``hypervolume_std``, its standard deviation (missing for one repetition);
        ``hypervolume_of_median``: of the surface that half of the repetitions attain;
        ``on_joint_front``: points of the method on the front of all methods. Areas are of 1.
        """
        return pd.DataFrame(self._row(method) for method in self.methods)

    def _row(self, method: MethodFront) -> dict[str, object]:
        areas = [hypervolume(points, self.reference) for points in method.repetitions]
        return {
            "method": method.name,
            "repetitions": len(method.repetitions),
            "points": len(method.points),
            "chosen_on": method.chosen_on,
            "hypervolume": mean(areas),
            "hypervolume_std": stdev(areas) if len(areas) > 1 else None,
            "hypervolume_of_median": hypervolume(method.surface(0.5), self.reference),
            "on_joint_front": len(set(method.points) & set(self.joint)),
        }

    def points_frame(self) -> pd.DataFrame:
        """One row for each point: method, repetition, accuracies in %, which fronts it is on."""
        return pd.DataFrame(
            {
                "method": method.name,
                "repetition": place,
                "standard": 100 * point[0],
                "verified": 100 * point[1],
                "on_front": point in front,
                "on_joint_front": point in self.joint,
            }
            for method in self.methods
            for place, points in enumerate(method.repetitions)
            for front in [pareto_front(points)]
            for point in points
        )

    def surfaces_frame(self) -> pd.DataFrame:
        """The corners of each method's attainment surfaces: share of repetitions, accuracies in %.

        A share of 0 is what at least one repetition attains.
        """
        return pd.DataFrame(
            (
                (method.name, share, 100 * point[0], 100 * point[1])
                for method in self.methods
                for share in SHARES
                for point in method.surface(share)
            ),
            columns=["method", "attained_by", "standard", "verified"],
        )


def named_folders(texts: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    """Folders by method, of texts such as ``runs/cc`` or ``CC-IBP=runs/cc``.

    Folders given one name are repetitions of one method; a folder without one has its own name.

    Raises:
        ConfigError: a text without a folder, or a folder twice.
    """
    found: dict[str, tuple[Path, ...]] = {}
    own: set[str] = set()
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or "/" in name or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
            if name in found:
                raise _one_name(name)
            own.add(name)
        elif name in own:
            raise _one_name(name)
        if not name or not folder:
            raise ConfigError("front", expected="FOLDER or NAME=FOLDER", got=repr(text))
        found[name] = (*found.get(name, ()), Path(folder))
    given = [path.resolve() for paths in found.values() for path in paths]
    if len(set(given)) < len(given):
        raise ConfigError("front", expected="each folder once", got="one twice")
    return found


def _one_name(name: str) -> ConfigError:
    return ConfigError(
        "front",
        expected="a name for each method",
        got=f"two folders called {name}",
        remedy=f"Type {name}=FOLDER for both if they are one method, else another name for each.",
    )


def compare_fronts(
    methods: Mapping[str, Sequence[Path | str]], reference: Point = (0.0, 0.0)
) -> FrontComparison:
    """Compare methods by the results of their sweeps and tunings.

    Args:
        methods: folders by the method's name. Each tuning, and each seed of a sweep, is one
            repetition.
        reference: standard and verified accuracy, shares in [0, 1), that dominated areas start at.

    Raises:
        ConfigError: no folder, or a reference that is none.
        StudyError: a folder holds no sweep or tuning, or none of its results is finished; or
            results are of different test images or ε.
    """
    if not methods or not all(methods.values()):
        raise ConfigError("front", expected="folders of sweeps or tunings", got="none")
    if not _is_reference(reference):
        raise ConfigError(
            "reference",
            expected="standard and verified accuracy, shares from 0 to below 1",
            got=repr(reference),
        )
    read = {name: [read_results(Path(each)) for each in held] for name, held in methods.items()}
    measured = [
        (results.folder, way)
        for held in read.values()
        for results in held
        for way in results.measured
    ]
    question = one_question(measured)
    made = tuple(_method(name, held) for name, held in read.items())
    return FrontComparison(made, question, reference)


def _is_reference(reference: Point) -> bool:
    try:
        return len(reference) == 2 and all(0 <= each < 1 for each in reference)
    except TypeError:
        return False


def _method(name: str, held: Sequence[FolderResults]) -> MethodFront:
    repetitions = tuple(points for results in held for points in results.repetitions)
    chosen_on = " and ".join(sorted({results.chosen_on for results in held}))
    settings = dict.fromkeys(way.settings_shown for results in held for way in results.measured)
    return MethodFront(name, repetitions, chosen_on, tuple(settings))

"""The radii of images: for each the interval that holds it, and what follows for a whole set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from verify_pipeline.certify.brackets import Bracket
from verify_pipeline.certify.records import RunInfo
from verify_pipeline.problem import TIED

MISCLASSIFIED, AT_LARGEST, STEP, CONTRADICTED = (
    "misclassified",
    "largest epsilon",
    "step",
    "contradicted",
)
"""Why an interval ends where it does, unless attempts in it failed; ``to_frame`` explains them."""

COLUMNS = {
    "image": "int64",
    "label": "Int64",
    "verified_up_to": "float64",
    "falsified_from": "float64",
    "gap": "str",
    "verdicts": "int64",
    "seconds": "float64",
}
"""Names and dtypes of the table of images."""


@dataclass(frozen=True)
class ImageRadius:
    """The interval that holds the radius of one image.

    Attributes:
        index: the image's place in its data set.
        label: its class, if there is one.
        bracket: the verdicts on it.
        largest: the largest ε that was asked for.
    """

    index: int
    label: int | None
    bracket: Bracket
    largest: float

    def __repr__(self) -> str:
        upper = self.falsified
        words = f"verified up to {self.verified:.6g}, falsified from {upper:.6g}"
        return f"ImageRadius({self.index}: {words}, {self.gap})"

    @property
    def verified(self) -> float:
        """The largest ε that was verified; 0 if none was."""
        return self.bracket.lower

    @property
    def falsified(self) -> float:
        """The least ε that is known to be falsified; inf if none is."""
        return self.bracket.falsified

    @property
    def misclassified(self) -> bool:
        """Whether the image itself is a counterexample."""
        return self.bracket.falsified == 0

    @property
    def gap(self) -> str:
        """Why the interval is not smaller; see ``RobustnessDistribution.to_frame``."""
        if self.misclassified:
            return MISCLASSIFIED
        if self.bracket.contradicted:
            return CONTRADICTED
        if self.bracket.failures:
            return ", ".join(sorted(set(self.bracket.failures.values())))
        if self.verified >= self.largest:
            return AT_LARGEST
        return TIED if self.bracket.tied else STEP


@dataclass(frozen=True, eq=False)
class RobustnessDistribution:
    """The radii of some images of a set, each as an interval (term: Bosman et al. 2025).

    Attributes:
        info: the run of the largest ε; the other runs differ from it in ε alone.
        grid: the ε that were searched, ascending.
        images: by index.
        remarks: sentences on what a reader should check before believing the numbers.
    """

    info: RunInfo
    grid: tuple[float, ...]
    images: tuple[ImageRadius, ...]
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        run, (lower, upper) = self.info.run, self.average
        return (
            f"RobustnessDistribution({self.info.network_name} on {run.data_set} {run.split}: "
            f"{len(self.images)} images, {len(self.grid)} ε up to {self.largest:.6g}, average "
            f"radius {lower:.4g} to {upper:.4g})"
        )

    @property
    def largest(self) -> float:
        """The largest ε that was searched."""
        return self.grid[-1]

    @property
    def right(self) -> int:
        """Images classified rightly as they are."""
        return sum(not image.misclassified for image in self.images)

    @property
    def verdicts(self) -> int:
        """Verdicts that the result rests on, of all ε."""
        return sum(image.bracket.verdicts for image in self.images)

    @property
    def seconds(self) -> float:
        """Charged to the images for these verdicts."""
        return math.fsum(image.bracket.seconds for image in self.images)

    @cached_property
    def _lower(self) -> np.ndarray:
        return np.array([image.verified for image in self.images])

    @cached_property
    def _upper(self) -> np.ndarray:
        return np.array([image.falsified for image in self.images])

    @property
    def average(self) -> tuple[float, float]:
        """A lower and an upper bound of the average radius, no radius above the largest ε.

        A misclassified image counts as 0. The lower bound is the average certified radius of Zhai
        et al. 2020 (MACER, arXiv:2001.02378), for L∞ and this verifier.
        """
        lower, upper = (np.minimum(ends, self.largest) for ends in (self._lower, self._upper))
        return float(lower.mean()), float(upper.mean())

    def to_frame(self) -> pd.DataFrame:
        """The radii as a table, one row for each image, in order.

        Columns:
            * ``image``: its place in the data set, counted from 0.
            * ``label``: the right class; missing where the question is not about classes.
            * ``verified_up_to``: the largest ε that was verified; 0 if none was.
            * ``falsified_from``: the least ε that is known to be falsified; NaN if none is.
            * ``gap``: why the interval is not smaller. ``step``: no ε of the grid lies in it;
              ``largest epsilon``: the image is verified at the largest ε, and no larger one was
              asked for; ``misclassified``: the radius is 0; a name of ``Reason`` such as
              ``timeout``: verdicts inside stayed UNKNOWN; ``tied as deployed``: at
              ``falsified_from``, outputs of the file tie behind a saturated end; ``contradicted``:
              a counterexample lies in a box that was verified, and the proof does not count.
            * ``verdicts``: how many ε were decided or tried for the image.
            * ``seconds``: charged to it for these.
        """
        rows = [
            (
                image.index,
                image.label,
                image.verified,
                image.falsified if math.isfinite(image.falsified) else math.nan,
                image.gap,
                image.bracket.verdicts,
                image.bracket.seconds,
            )
            for image in self.images
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)

    def curve(self, epsilons: Sequence[float] | None = None) -> pd.DataFrame:
        """Certified accuracy against ε.

        Args:
            epsilons: ≥ 0; None: 0 and the grid.

        Returns:
            Columns ``epsilon``; ``verified``, the images in % that are verified at this ε, which at
            0 is the standard accuracy; ``robust_at_most``, the images in % that are not known to be
            falsified there. The true share of robust images lies between.
        """
        asked = (0.0, *self.grid) if epsilons is None else tuple(map(float, epsilons))
        count = len(self.images)
        rows = []
        for epsilon in asked:
            robust = int((self._upper > epsilon).sum())
            proved = int((self._lower >= epsilon).sum()) if epsilon > 0 else robust
            rows.append((epsilon, 100 * proved / count, 100 * robust / count))
        return pd.DataFrame(rows, columns=["epsilon", "verified", "robust_at_most"])

    def quantiles(self, shares: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9)) -> pd.DataFrame:
        """Quantiles: the least radius that at least this share of the images does not exceed.

        Args:
            shares: in [0, 1].

        Returns:
            Columns ``share``, ``verified_up_to`` and ``falsified_from`` (inf: no counterexample);
            the quantile of the true radii lies between.
        """
        places = [max(math.ceil(share * len(self.images)) - 1, 0) for share in shares]
        lower, upper = np.sort(self._lower)[places], np.sort(self._upper)[places]
        columns = {"share": list(shares), "verified_up_to": lower, "falsified_from": upper}
        return pd.DataFrame(columns)

"""The search for the radii of images, all of them together.

Each round asks every image whose interval is open at the ε that halves it, and certifies all of
them as one batch. A verdict belongs to the ledger's run of its ε: a later certification at that ε
finds it, and the search finds what was certified before. What follows from a verdict for other ε
is used, but never written as a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from verify_pipeline.certify.brackets import Bracket, distance
from verify_pipeline.certify.certifier import Certifier, RunPart
from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.perturbations import LinfBall, OwnBalls
from verify_pipeline.certify.questions import perturbation_parts, perturbation_text
from verify_pipeline.certify.radii import ImageRadius, RobustnessDistribution
from verify_pipeline.certify.records import Record, RunInfo
from verify_pipeline.certify.stage_verdicts import CLAIMING_STAGES
from verify_pipeline.problem import OF_TIME, Status


def search_radii(
    certifier: Certifier,
    images: RobustImages,
    grid: Sequence[float],
    ledger: Ledger,
    observer: Observer,
) -> RobustnessDistribution:
    """Bisect the radius of every image until no ε of the grid is open.

    Args:
        certifier: of the question at the largest ε.
        images: of the question.
        grid: ε, ascending.
        ledger: gets each verdict at once, and is read first.
        observer: is told what happens; each round is a certification.

    Raises:
        LedgerError: the ledger cannot be written, or holds an opposite verdict.
    """
    search = _RadiusSearch(certifier, images, ledger)
    brackets = search.earlier()
    while wanted := _next_epsilons(brackets, grid):
        boxes = images.within(OwnBalls(wanted), sorted(wanted))
        for summary in certifier.certify(boxes, search.parts(wanted), ledger, observer):
            for record in summary.records:
                known = brackets[record.index]
                brackets[record.index] = search.updated(known, summary.info, record)
    found = tuple(
        ImageRadius(index, images.label(index), bracket, grid[-1])
        for index, bracket in sorted(brackets.items())
    )
    return RobustnessDistribution(certifier.info, tuple(grid), found, _contradictions(found))


def _next_epsilons(brackets: Mapping[int, Bracket], grid: Sequence[float]) -> dict[int, float]:
    """The ε at which each open image is asked next."""
    chosen = ((index, bracket.next_epsilon(grid)) for index, bracket in brackets.items())
    return {index: epsilon for index, epsilon in chosen if epsilon is not None}


@dataclass(frozen=True, eq=False)
class _RadiusSearch:
    """The runs of a ledger that differ from the certifier's in ε, and what they say."""

    certifier: Certifier
    images: RobustImages
    ledger: Ledger

    def parts(self, wanted: Mapping[int, float]) -> list[RunPart]:
        """One run for each ε. It is for all images, so it does not look finished without them."""
        everything = Extent.of(self.images.indices)
        indices: dict[float, list[int]] = {}
        for index, epsilon in sorted(wanted.items()):
            indices.setdefault(epsilon, []).append(index)
        return [
            RunPart(self._info(epsilon), tuple(some), everything)
            for epsilon, some in sorted(indices.items())
        ]

    def _info(self, epsilon: float) -> RunInfo:
        info, asked = self.certifier.info, self.certifier.asked
        box = perturbation_text(LinfBall(epsilon).name, asked.preprocessing)
        return replace(info, run=replace(info.run, perturbation=box), epsilon=epsilon)

    def earlier(self) -> dict[int, Bracket]:
        """What the ledger says already, of every image."""
        brackets = {index: Bracket() for index in self.images.indices}
        digests = {index: self.images.digest(index) for index in self.images.indices}
        for info in self._runs():
            for record in self.ledger.records(info.run):
                if digests.get(record.index) == record.instance and self._counts(info, record):
                    known = brackets[record.index]
                    brackets[record.index] = self.updated(known, info, record)
        return brackets

    def _runs(self) -> Iterator[RunInfo]:
        """Runs about the same, at any ε and with any settings: what they proved is proved."""
        own = self.certifier.info.run
        for info in self.ledger.runs():
            _, preprocessing = perturbation_parts(info.run.perturbation)
            alike = replace(info.run, perturbation=own.perturbation, settings=own.settings) == own
            if (
                alike
                and info.epsilon is not None
                and preprocessing == self.certifier.asked.preprocessing
            ):
                yield info

    def _counts(self, info: RunInfo, record: Record) -> bool:
        """Whether an earlier verdict tells something, and need not be tried again."""
        if record.status is Status.VERIFIED:
            return record.stage not in CLAIMING_STAGES
        if record.status is Status.FALSIFIED:
            return True
        late = record.reason in OF_TIME and record.timeout < self.certifier.plan.timeout
        own = info.run.settings == self.certifier.info.run.settings
        return own and not late and not self.certifier.retry

    def updated(self, bracket: Bracket, info: RunInfo, record: Record) -> Bracket:
        """A bracket with one more verdict, of the run of some ε."""
        epsilon = info.epsilon
        assert epsilon is not None
        bracket = bracket.charged(record.seconds)
        match record.status:
            case Status.VERIFIED if record.tied:
                return bracket.with_counterexample(epsilon, tied=True)
            case Status.VERIFIED:
                return bracket.with_proof(epsilon)
            case Status.FALSIFIED:
                point = self.ledger.counterexample(info.run, record).input
                (image,) = self.images.batch([record.index]).points
                return bracket.with_counterexample(min(epsilon, distance(point, image)))
        assert record.reason is not None
        return bracket.with_failure(epsilon, record.reason.name.lower())


def _contradictions(images: Sequence[ImageRadius]) -> tuple[str, ...]:
    """A remark on images of which a proof and a counterexample contradict each other."""
    indices = [str(image.index) for image in images if image.bracket.contradicted]
    if not indices:
        return ()
    return (
        f"a counterexample lies in a box that was verified: image {', '.join(indices)}. The "
        "counterexample counts. If its margin is neither a rounding error nor a tie behind a "
        "saturated end, please report it with the network and the image.",
    )

"""Certified accuracy against ε: one curve from several runs of a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.records import Record
from verify_pipeline.certify.stage_verdicts import CLAIMING_STAGES
from verify_pipeline.certify.tally import Summary
from verify_pipeline.problem import Reason, Status

Question = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class EpsilonCurve:
    """Shares of a network's images in [0, 1], by the half-width of their boxes.

    Attributes:
        label: of the network.
        epsilons: ascending.
        verified: verified at each ε.
        at_most: not falsified at each ε: no method can verify more.
        images: that the shares are of: those asked for at every ε.
        left_out: images that were asked for at some ε only.
    """

    label: str
    epsilons: tuple[float, ...]
    verified: tuple[float, ...]
    at_most: tuple[float, ...]
    images: int
    left_out: int = 0


@dataclass(frozen=True)
class Radii:
    """What is known of one image at all ε.

    Attributes:
        verified: the largest ε at which it is verified, 0 if only the image itself is known to be
            right; -inf: nothing is known.
        falsified: the smallest ε at which it is falsified; inf: none.
    """

    verified: float = -inf
    falsified: float = inf

    def with_verdict(self, record: Record, epsilon: float) -> Radii:
        """The same with a verdict at one ε."""
        if record.status is Status.FALSIFIED:
            if record.stage == "clean":
                return Radii(self.verified, 0.0)
            return Radii(max(self.verified, 0.0), min(self.falsified, epsilon))
        proved = record.status is Status.VERIFIED and record.stage not in CLAIMING_STAGES
        if proved and not record.tied:
            return Radii(max(self.verified, epsilon), self.falsified)
        # the first stage is the clean check, and later ones get what it finds right
        is_right = record.stage != "clean" or record.reason is Reason.NOT_DECIDED
        return Radii(max(self.verified, 0.0), self.falsified) if is_right else self


def by_network(results: Iterable[Summary]) -> list[list[Summary]]:
    """Runs that differ in ε and settings only, together; others than boxes of one ε are left out.

    The order is that of the first run of each network.
    """
    groups: defaultdict[Question, list[Summary]] = defaultdict(list)
    for result in results:
        if (key := _question(result)) is not None:
            groups[key].append(result)
    return list(groups.values())


def epsilon_curve(results: Sequence[Summary], label: str) -> EpsilonCurve:
    """The curve through 0 and every ε of some runs; at 0 it is the standard accuracy.

    A box inside a verified box is verified, and a box around a counterexample is falsified. So a
    verdict at one ε counts at the others. Only images that were asked for at every ε count, so that
    the shares at different ε are of the same images, and those of a table are not contradicted.

    Args:
        results: of one network, data set and question, as :func:`by_network` puts them together.
        label: of the curve.
    """
    radii: defaultdict[int, Radii] = defaultdict(Radii)
    asked: defaultdict[float, set[int]] = defaultdict(set)
    for result in results:
        spans = () if result.asked is None else result.asked.spans
        here = asked[_epsilon(result)]
        here.update(index for start, stop in spans for index in range(start, stop))
        for record in result.records:
            here.add(record.index)
            radii[record.index] = radii[record.index].with_verdict(record, _epsilon(result))
    images = set.intersection(*asked.values())
    known = [radii[index] for index in images]
    epsilons = sorted({0.0, *asked})
    count = max(len(known), 1)
    return EpsilonCurve(
        label,
        tuple(epsilons),
        tuple(sum(each.verified >= epsilon for each in known) / count for epsilon in epsilons),
        tuple(sum(each.falsified > epsilon for each in known) / count for epsilon in epsilons),
        len(known),
        len(set.union(*asked.values())) - len(known),
    )


def _epsilon(result: Summary) -> float:
    return result.info.epsilon or 0.0


def _question(result: Summary) -> Question | None:
    """What runs of one curve have in common; None where boxes are no balls of one ε."""
    run, epsilon = result.info.run, result.info.epsilon
    if epsilon is None:
        return None
    box, _, preprocessing = run.perturbation.partition("; ")
    if box != LinfBall(epsilon).name:
        return None
    return run.network, run.data_set, run.split, preprocessing, run.specification

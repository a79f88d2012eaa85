"""What figures show, in words and numbers, for readers who do not see them."""

from __future__ import annotations

from collections.abc import Sequence

from verify_pipeline.figures.series.accuracy import AccuracyPanel
from verify_pipeline.figures.series.cactus import CactusCurve
from verify_pipeline.figures.series.epsilon import EpsilonCurve
from verify_pipeline.figures.series.flow import StageFlow
from verify_pipeline.figures.series.margins import RunMargins
from verify_pipeline.figures.series.training import TrainingCurves
from verify_pipeline.reporting.certification_state import images_text


def describe_accuracy(panels: Sequence[AccuracyPanel]) -> str:
    """Both accuracies of every point and of every published result."""
    words = []
    for panel in panels:
        points = [
            f"{' '.join(filter(None, (p.method, p.label)))}: standard {p.standard:.2f} %, "
            f"verified {p.verified:.2f} %"
            for p in panel.points
        ]
        points += [
            f"{row.method} ({row.source}): standard {row.standard:.2f} %, "
            f"verified {row.verified:.2f} %"
            for row in panel.published
        ]
        words.append(f"{panel.title}. {'; '.join(points)}.")
    return " ".join(words)


def describe_epsilon(curves: Sequence[EpsilonCurve]) -> str:
    """The verified share at each ε; of long curves, at some."""
    words = []
    for curve in curves:
        every = max(1, len(curve.epsilons) // 10)
        pairs = list(zip(curve.epsilons, curve.verified, strict=True))[::every]
        shares = [f"{100 * share:.1f} % at ε = {_number(epsilon, 4)}" for epsilon, share in pairs]
        words.append(f"{curve.label}, {images_text(curve.images)}: verified {', '.join(shares)}.")
    return " ".join(words)


def describe_training(trainings: Sequence[TrainingCurves]) -> str:
    """The last value of each curve."""
    words = []
    for training in trainings:
        last = [
            f"{panel} {curve.name} {_number(curve.values[-1], 4)} after epoch {curve.epochs[-1]}"
            for panel, curves in training.panels.items()
            for curve in curves
        ]
        words.append(f"{training.label}: {'; '.join(last)}.")
    return " ".join(words)


def describe_stages(funnels: Sequence[tuple[str, Sequence[StageFlow]]]) -> str:
    """The counts and seconds of each stage."""
    words = []
    for label, flows in funnels:
        stages = [
            f"{flow.stage}: {images_text(flow.entered)}, {flow.verified} verified, "
            f"{flow.falsified} {'wrong' if flow.stage == 'clean' else 'falsified'}, "
            f"{flow.left} open"
            + ("" if flow.seconds is None else f", {_number(flow.seconds, 3)} seconds")
            for flow in flows
        ]
        words.append(f"{label}. {'; '.join(stages)}.")
    return " ".join(words)


def describe_cactus(curves: Sequence[CactusCurve]) -> str:
    """How many images are decided within some times."""
    words = []
    for curve in curves:
        within = [f"{curve.decided_within(t)} within {t:g} s" for t in (0.01, 0.1, 1.0, 10.0)]
        words.append(
            f"{curve.label}: {len(curve.seconds)} of {images_text(curve.images)} decided, "
            f"{', '.join(within)}."
        )
    return " ".join(words)


def describe_margins(runs: Sequence[RunMargins]) -> str:
    """The number and the median of each kind of margin."""
    words = []
    for run in runs:
        kinds = {
            "verified": run.verified,
            "open": run.open,
            "falsified": run.counterexamples,
        }
        told = [
            f"{len(values)} {kind}, median {_number(sorted(values)[len(values) // 2], 3)}"
            for kind, values in kinds.items()
            if values
        ]
        words.append(f"{run.label}: {'; '.join(told)}.")
    return " ".join(words)


def _number(value: float, digits: int) -> str:
    """A number with so many significant digits, and a real minus sign."""
    return f"{value:.{digits}g}".replace("-", "−")

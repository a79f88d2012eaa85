"""What is known of a run: how its network was trained, and what was asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from verify_pipeline import strict_json
from verify_pipeline.certify.records import RunInfo
from verify_pipeline.certify.tally import Summary

METHODS = {
    "natural": "Natural",
    "adversarial": "Adversarial",
    "mart": "MART",
    "arow": "ARoW",
    "ibp": "IBP",
    "cc-ibp": "CC-IBP",
    "mtl-ibp": "MTL-IBP",
    "exp-ibp": "Exp-IBP",
    "sabr": "SABR",
    "mtl-sabr": "MTL-IBP (SABR box)",
    "taps": "TAPS",
    "staps": "STAPS",
    "crown-ibp": "CROWN-IBP",
    "crown-ibp-fused": "CROWN-IBP, fused",
}
"""A loss's name in recipes -> the method's name in papers."""

SHOWN_DIGITS = 8
"""Digits that tables show of a SHA-256."""

_DIGITS = 18
"""Digits of a seed at most."""

_WITH_ALPHA = frozenset(
    {"cc-ibp", "mtl-ibp", "mtl-sabr", "exp-ibp", "crown-ibp", "crown-ibp-fused"}
)

_WITH_LAMBDA = frozenset({"sabr", "mtl-sabr", "staps"})


@dataclass(frozen=True)
class RunFacts:
    """What distinguishes a run from others.

    Attributes:
        file: name of the network's file, without ending.
        method: of its training, as papers call it; empty: unknown.
        alpha: α of the method; None: it has none, or it is unknown.
        sabr_lambda: λ of SABR's box; None likewise.
        seed: of the training; None: unknown.
        network: the architecture; the file's name if it is unknown.
        data: the data set.
        split: of it.
        epsilon: half-width of the boxes; None: they are no balls.
        box: the boxes, as ε or in words.
        asked: what else differs from the usual question; empty: nothing.
        training: settings of the training by dotted key, such as ``train.optimiser.l1``; empty:
            unknown.
        certification: settings that decide what is tried, likewise, such as ``attack.steps``;
            empty: unknown.
    """

    file: str
    method: str
    alpha: float | None
    sabr_lambda: float | None
    seed: int | None
    network: str
    data: str
    split: str
    epsilon: float | None
    box: str
    asked: str
    training: Mapping[str, object] = field(default_factory=dict, compare=False)
    certification: Mapping[str, object] = field(default_factory=dict, compare=False)


def facts(summary: Summary) -> RunFacts:
    """The facts of a run, from its key and from what its network's file notes."""
    info = summary.info
    # other exporters mean other things by the same words
    notes = info.notes if "verify_pipeline" in info.notes else {}
    training = _settings("train.", notes.get("training"))
    loss = notes.get("loss", "")
    return RunFacts(
        file=info.network_name,
        method=METHODS.get(loss, loss),
        alpha=_number(notes.get("alpha")) if loss in _WITH_ALPHA else None,
        sabr_lambda=_number(training.get("train.loss.sabr_lambda"))
        if loss in _WITH_LAMBDA
        else None,
        seed=_seed(notes.get("seed")),
        network=notes.get("network", info.network_name),
        data=info.run.data_set,
        split=info.run.split,
        epsilon=info.epsilon,
        box=epsilon_text(info.epsilon) or info.run.perturbation.split("; ")[0],
        asked=asked_text(info),
        training=training,
        certification=_settings("", info.settings),
    )


def allowed(summary: Summary) -> float | None:
    """The most seconds that a command of a run allowed for an image; None: no verdict is there."""
    return max((record.timeout for record in summary.records), default=None)


def epsilon_text(epsilon: float | None) -> str:
    """ε as a fraction like ``2/255`` if it equals one, otherwise as the shortest decimal.

    Fifths, such as 0.2, are 51/255 too, but nobody writes them so.
    """
    if epsilon is None:
        return ""
    fraction = fraction_text(epsilon)
    if fraction and round(epsilon * 255) % 51:
        return fraction
    return f"{epsilon:g}" if float(f"{epsilon:g}") == epsilon else repr(epsilon)


def fraction_text(epsilon: float) -> str:
    """ε as a fraction like ``2/255``; empty if it equals none, is 0, or at least 1."""
    numerator = round(epsilon * 255)
    exact = numerator / 255 == epsilon and 0 < epsilon < 1
    return f"{numerator}/255" if exact else ""


def asked_text(info: RunInfo) -> str:
    """What differs from the default question: preprocessing, specification, arithmetic."""
    _, *words = info.run.perturbation.split("; ")
    specification = info.run.specification
    words += [] if specification == "margins" else [specification]
    words += [f"as {info.arithmetic}"] if info.arithmetic else []
    return "; ".join(words)


def _settings(prefix: str, text: str | None) -> dict[str, object]:
    """Settings by dotted key, from JSON; none if it is no object."""
    try:
        found = strict_json.parse(text or "{}")
        return dict(_flattened(prefix, found)) if isinstance(found, dict) else {}
    except ValueError:
        return {}


def _flattened(prefix: str, settings: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flattened(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def _seed(text: str | None) -> int | None:
    is_one = text is not None and text.isdecimal() and len(text) <= _DIGITS
    return int(text) if text is not None and is_one else None


def question_line(info: RunInfo) -> str:
    """One line that describes a run: its images and the question."""
    run = info.run
    box, separator, preprocessing = run.perturbation.partition("; ")
    if info.epsilon is not None:
        box = f"ε = {epsilon_text(info.epsilon)}"
    words = [f"{run.data_set} {run.split}", box + separator + preprocessing]
    words += [] if run.specification == "margins" else [run.specification]
    words += [f"as {info.arithmetic}"] if info.arithmetic else []
    return ", ".join(words)

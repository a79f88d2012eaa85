"""Settings of certifications: combinations of stages and searches that somebody may choose."""

from __future__ import annotations

from dataclasses import replace

from numpy.random import Generator

from tests.soundness.building import choice
from verify_pipeline import api
from verify_pipeline.branching.config.search_settings import (
    BoxCutoffSettings,
    BranchingSettings,
    EarlySplitSettings,
    InputSplitSettings,
    SearchSettings,
)
from verify_pipeline.certify.settings import ALL_STAGES, StageName

PROOFS: tuple[StageName, ...] = tuple(name for name in ALL_STAGES if name != "attack")
"""All stages but the attack."""

OTHERS: tuple[tuple[StageName, ...], ...] = (
    ("clean", "branch-and-bound"),
    ("clean", "crown", "branch-and-bound"),
    ("clean", "alpha-crown", "branch-and-bound"),
    ("clean", "ibp", "crown"),
    ("clean", "alpha-crown"),
)

EARLY = EarlySplitSettings(first=2, first_parts=1, few=8)
"""Early splits that begin at once, not after a long search."""


def usual(seconds: float, stages: tuple[StageName, ...] = PROOFS) -> api.CertifySettings:
    """The package's own settings, with a time for each box."""
    return api.CertifySettings(epsilon=0.0, timeout=seconds, stages=stages)


def relus_only(seconds: float) -> api.CertifySettings:
    """CROWN, then a search that only splits ReLUs and does not look for counterexamples."""
    found = usual(seconds, ("clean", "crown", "branch-and-bound"))
    search = SearchSettings(descent=0, early=None, inputs=InputSplitSettings(descent=0))
    none = api.FewInputSettings(few_inputs=0, very_few_inputs=0)
    return replace(found, search=search, input_split=none)


def drawn(rng: Generator, seconds: float) -> api.CertifySettings:
    """Half of the time the usual ones with or without the attack, else whatever may be chosen.

    Boxes of few inputs are otherwise split at their inputs only; here ReLUs are split, too. Without
    descents the search does not look for counterexamples, so it has to go on to a proof.
    """
    kind = rng.random()
    if kind < 0.5:
        return usual(seconds, ALL_STAGES if kind < 0.15 else PROOFS)
    descents = choice(rng, (0, 40))
    search = SearchSettings(
        batch=choice(rng, (3, 64)),
        branching=BranchingSettings(method=choice(rng, ("kfsb", "babsr", "fsb"))),
        descent=descents,
        box_cutoff=choice(rng, (None, BoxCutoffSettings())),
        early=choice(rng, (None, EARLY, EarlySplitSettings())),
        inputs=InputSplitSettings(descent=descents),
    )
    few = choice(rng, (0, 0, 2, 16))
    found = usual(seconds, choice(rng, OTHERS) if rng.random() < 0.4 else PROOFS)
    few_inputs = api.FewInputSettings(few_inputs=few, very_few_inputs=min(few, 4))
    return replace(found, search=search, input_split=few_inputs)

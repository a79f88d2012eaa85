"""Which verdicts each stage can give; a row of a ledger that says otherwise is no verdict."""

from __future__ import annotations

from verify_pipeline.problem import Status

_PROVES, _BREAKS = frozenset({Status.VERIFIED}), frozenset({Status.FALSIFIED})

DECIDES: dict[str, frozenset[Status]] = {
    "clean": _BREAKS,
    "ibp": _PROVES,
    "attack": _BREAKS,
    "crown": _PROVES,
    "alpha-crown": _PROVES,
    "input-split": _PROVES | _BREAKS,
    "branch-and-bound": _PROVES | _BREAKS,
    "abcrown": _PROVES | _BREAKS,
}
"""By the stage's name; every stage may also leave an image UNKNOWN."""

BOUNDING_STAGES = ("ibp", "crown", "alpha-crown", "branch-and-bound")
"""Each is at least as strong as those before it."""

CLAIMING_STAGES = ("abcrown",)
"""What they verify rests on the word of another tool, not on a bound of ours in float64."""

IN_PLACE_OF = {"input-split": "branch-and-bound"}
"""Stages that no settings name: each runs where the other one was asked for."""

"""The verdicts that each stage can give; a ledger's row with another one is invalid."""

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
"""Each stage is at least as strong as those before it."""

CLAIMING_STAGES = ("abcrown",)
"""Their VERIFIED rests on another tool's claim, not on a float64 bound of this package."""

SEARCHING_STAGES = ("input-split", "branch-and-bound", "abcrown")
"""Stages of which one image may take thousands of times the seconds of another."""

IN_PLACE_OF = {"input-split": "branch-and-bound"}
"""Stages that settings cannot name: each may run in addition to the stage it maps to."""

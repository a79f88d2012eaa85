"""All families, in the table's order."""

from tests.soundness.contract import Family
from tests.soundness.families import (
    degenerate,
    deployed,
    exact_networks,
    near_ties,
    operators,
    planted,
    questions,
    vnnlib,
)

FAMILIES: tuple[Family, ...] = (
    planted.FAMILY,
    exact_networks.FAMILY,
    near_ties.FAMILY,
    operators.FAMILY,
    questions.FAMILY,
    vnnlib.FAMILY,
    degenerate.FAMILY,
    deployed.FAMILY,
)

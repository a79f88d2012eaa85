"""Sound bounds of a graph's values over boxes, for many instances and domains at once."""

from verify_pipeline.bounds.ascent import optimise, optimise_intermediate
from verify_pipeline.bounds.contract import (
    MarginBounds,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    Splits,
)
from verify_pipeline.bounds.crown import crown_margins, needed_places, relu_coefficients
from verify_pipeline.bounds.intermediate import crown_intermediate
from verify_pipeline.bounds.interval import interval_bounds, interval_margins
from verify_pipeline.bounds.splits import clamp_to_splits

__all__ = [
    "MarginBounds",
    "MemoryBudget",
    "Multipliers",
    "NodeBounds",
    "OptimiseSettings",
    "Splits",
    "clamp_to_splits",
    "crown_intermediate",
    "crown_margins",
    "interval_bounds",
    "interval_margins",
    "needed_places",
    "optimise",
    "optimise_intermediate",
    "relu_coefficients",
]

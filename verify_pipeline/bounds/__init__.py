"""Sound bounds of a graph's values over boxes, for many instances and domains at once."""

from verify_pipeline.bounds.contract import (
    MarginBounds,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    Splits,
)
from verify_pipeline.bounds.interval import interval_bounds, interval_margins

__all__ = [
    "MarginBounds",
    "MemoryBudget",
    "Multipliers",
    "NodeBounds",
    "OptimiseSettings",
    "Splits",
    "interval_bounds",
    "interval_margins",
]
